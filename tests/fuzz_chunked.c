/* Aim: the chunk reader takes exactly what a strict grammar takes, wherever the bytes are cut, and
 * gives out exactly the data. The grammar is written down here a second time, over the whole input.
 *
 * The first byte of the input chooses the cuts. */
#include "server/chunked.h"

#include "server/buf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FREE_FRAMING = 64 * 1024, DIGITS_MAX = 8 };

static void must(bool fact)
{
    if (!fact)
        abort();
}

enum verdict { WHOLE, SHORT, WRONG };

static bool is_next(const char *data, size_t n, size_t *at, const char *want, enum verdict *v)
{
    for (; *want; want++, (*at)++) {
        if (*at == n)
            *v = SHORT;
        else if (data[*at] != *want)
            *v = WRONG;
        else
            continue;
        return false;
    }
    return true;
}

/* body: what was carried; *used: bytes of the message when it is whole. */
static enum verdict grammar(const char *data, size_t n, struct buf *body, size_t *used)
{
    size_t at = 0;
    size_t framing = 0;
    size_t announced = 0;
    enum verdict v = WHOLE;
    for (;;) {
        size_t left = 0;
        int digits = 0;
        for (; at < n && hex_value(data[at]) >= 0; at++, digits++) {
            if (digits == DIGITS_MAX)
                return WRONG;
            left = left * 16 + (size_t)hex_value(data[at]);
        }
        if (at == n)
            return SHORT;
        if (digits == 0)
            return WRONG;
        if (!is_next(data, n, &at, "\r\n", &v))
            return v;
        framing += (size_t)digits + 4;
        if (left == 0) {
            if (is_next(data, n, &at, "\r\n", &v))
                *used = at;
            return v;
        }
        announced += left;
        size_t take = left < n - at ? left : n - at;
        buf_add(body, data + at, take);
        at += take;
        if (take < left)
            return SHORT;
        if (!is_next(data, n, &at, "\r\n", &v))
            return v;
        if (framing > announced / 4 + FREE_FRAMING)
            return WRONG;
    }
}

static void read_cut(struct chunked *k, const char *data, size_t n, uint32_t seed, struct buf *body,
                     size_t *used)
{
    size_t at = 0;
    while (at < n && k->state < CHUNKED_DONE) {
        seed = seed * 1664525u + 1013904223u;
        size_t cut = 1 + (seed >> 24) % 9;
        cut = cut < n - at ? cut : n - at;
        char *piece = malloc(cut);
        must(piece != NULL);
        memcpy(piece, data + at, cut);
        for (size_t done = 0; done < cut && k->state < CHUNKED_DONE;) {
            const char *run;
            size_t run_bytes;
            done += chunked_take(k, piece + done, cut - done, &run, &run_bytes);
            must(done <= cut);
            buf_add(body, run, run_bytes);
            at += k->state >= CHUNKED_DONE || done == cut ? done : 0;
        }
        free(piece);
    }
    *used = at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const char *bytes = (const char *)data + 1;
    struct chunked k = {0};
    struct buf want = {0};
    struct buf got = {0};
    size_t want_used = 0;
    size_t used = 0;
    enum verdict v = grammar(bytes, size - 1, &want, &want_used);
    read_cut(&k, bytes, size - 1, data[0], &got, &used);
    must((v == WRONG) == (k.state == CHUNKED_BAD));
    must((v == WHOLE) == (k.state == CHUNKED_DONE));
    must(v == WRONG || (want.n == got.n && (got.n == 0 || !memcmp(want.data, got.data, got.n))));
    must(v != WHOLE || used == want_used);
    buf_free(&want);
    buf_free(&got);
    return 0;
}
