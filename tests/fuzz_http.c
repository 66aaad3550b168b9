/* Aim: no bytes crash, read past or hang the way from the wire to a request (head gate, llhttp,
 * chunk reader), and what is understood does not depend on where the bytes were cut.
 *
 * The first byte of the input seeds the cuts, the rest is what a client sends. Limits are small,
 * so that the fuzzer reaches them. */
#include "server/request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct conn_limits limits = {
    .conns_max = 1,
    .head_bytes_max = 1024,
    .head_fields_max = 12,
    .target_bytes_max = 128,
    .body_bytes_max = 4096,
    .head_ms_max = 1,
    .body_ms_max = 1,
    .idle_ms_max = 1,
    .write_ms_max = 1,
};

/* An assertion that no build leaves out. */
static void must(bool fact)
{
    if (!fact)
        abort();
}

static void describe_request(struct buf *out, const struct request *r)
{
    const struct http_request *v = &r->view;
    const char *host = http_header(v, "host");
    must(v->path[0] == '/');
    must(v->body[v->body_bytes] == '\0');
    must(v->body_bytes <= limits.body_bytes_max);
    must(strlen(v->path) + strlen(v->query) <= limits.target_bytes_max);
    must(!r->facts.chunked || http_header(v, "transfer-encoding"));
    must(!r->facts.chunked || !http_header(v, "content-length"));
    must(r->facts.minor == 0 || host);
    must(r->facts.chunked || v->body_bytes == r->facts.content_length);
    buf_printf(out, "%s %s?%s host %s %zu ", v->method, v->path, v->query, host ? host : "none",
               v->body_bytes);
    buf_add(out, v->body, v->body_bytes);
    buf_printf(out, " %d %d\n", request_keeps_alive(r), r->is_head);
}

static void describe(struct buf *out, const struct request *r)
{
    if (r->state == REQUEST_DONE) {
        describe_request(out, r);
    } else if (r->state == REQUEST_BAD) {
        must(r->code >= 400 && r->code < 600);
        must(r->text && r->text[0]);
        buf_printf(out, "%d %s\n", r->code, r->text);
    } else {
        buf_printf(out, "waits in %d\n", (int)r->state);
    }
}

/* A small generator: reproducible, and that is all it has to be. */
static size_t next_cut(uint32_t *seed, size_t left)
{
    *seed = *seed * 1664525U + 1013904223U;
    size_t n = (*seed >> 24) % 7 == 0 ? (*seed >> 16) % 200 : (*seed >> 20) % 4;
    return n == 0 ? 1 : n < left ? n : left;
}

/* Reads everything; seed 0 does not cut. */
static void read_all(struct buf *out, const char *bytes, size_t n, uint32_t seed)
{
    struct request *r;
    must(request_open(&r, &limits) == OK);
    size_t at = 0;
    while (at < n && r->state != REQUEST_BAD) {
        size_t take = seed ? next_cut(&seed, n - at) : n - at;
        char *piece = malloc(take);
        must(piece != NULL);
        memcpy(piece, bytes + at, take);
        size_t used = request_feed(r, piece, take);
        free(piece);
        must(used <= take);
        must(used == take || r->state >= REQUEST_DONE);
        at += used;
        if (r->state == REQUEST_DONE) {
            describe(out, r);
            request_close(r);
            must(request_open(&r, &limits) == OK);
        }
    }
    describe(out, r);
    request_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct buf whole = {0};
    struct buf cut = {0};
    const char *bytes = (const char *)data + 1;
    read_all(&whole, bytes, size - 1, 0);
    read_all(&cut, bytes, size - 1, data[0] + 1U);
    must(!whole.failed && !cut.failed);
    must(whole.n == cut.n && memcmp(whole.data, cut.data, whole.n) == 0);
    buf_free(&whole);
    buf_free(&cut);
    return 0;
}
