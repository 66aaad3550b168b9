/* Aim: no bytes make the JSON gate or a request parser misbehave. Beyond what sanitizers see
 * it holds: what the strict pass accepts cJSON parses; nobody parses what it refuses; a
 * refusal says where and why; what a request may hold a file may hold; a request that was
 * accepted keeps every promise of wire.h.
 * Not here: whether the right bodies are accepted (request_fields_test.c). */

#include "server/fields.h"
#include "server/wire.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool is_text(const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t n = json_utf8(text + at, bytes - at);
        if (n == 0 || text[at] == '\0')
            return false;
        at += n;
    }
    return true;
}

static void check_sampling(const struct sampling *s)
{
    must(s->temperature >= 0 && s->temperature <= 5);
    must(s->top_p > 0 && s->top_p <= 1);
    must(s->min_p >= 0 && s->min_p <= 1);
    must(s->top_k >= 0);
    must(s->repetition >= 0.01F && s->repetition <= 100);
    must(fabsf(s->presence) <= 2 && fabsf(s->frequency) <= 2);
    must(s->n_logprobs >= -1 && s->n_logprobs <= LOGPROBS_MAX);
    must(s->n_bias >= 0 && s->n_bias <= BIAS_MAX);
    for (int32_t i = 0; i < s->n_bias; i++)
        must(s->bias[i].token >= 0 && fabsf(s->bias[i].bias) <= 100);
}

static void check_request(const struct gen_request *r, const struct wire *w)
{
    must(r->wire == w);
    must((r->chat.messages != NULL) != (r->prompt != NULL));
    must(json_count(r->chat.messages) <= MESSAGES_MAX);
    if (r->prompt)
        must(is_text(r->prompt, r->prompt_bytes));
    must(!r->model || strlen(r->model) <= MODEL_BYTES_MAX);
    must(r->n_stops >= 0 && r->n_stops <= STOPS_MAX);
    for (int32_t i = 0; i < r->n_stops; i++) {
        must(r->stop[i].bytes >= 1 && r->stop[i].bytes <= STOP_BYTES_MAX);
        must(is_text(r->stop[i].text, r->stop[i].bytes));
    }
    must(r->params.max_new_tokens >= 1);
    check_sampling(&r->params.sampling);
}

static void check_whole(const struct buf *b)
{
    struct json_error err;
    struct cJSON *tree = NULL;
    must(!b->failed);
    must(json_parse(&tree, b->data, b->n, &err) == OK);
    json_free(tree);
}

/* What is written must pass the same gate that is read through. */
static void check_writing(const struct gen_request *r)
{
    struct buf b = {.data = NULL};
    struct answer a = {.id = "x", .model = r->model};
    struct token_detail d = {.text = "a\xc3", .bytes = 2, .n_top = 1, .top = {{"a", 1, -1}}};
    r->wire->whole(&b, r, &a, "t", 1, &d, 1);
    check_whole(&b);
    buf_clear(&b);
    r->wire->delta(&b, r, &a, "t", 1, &d, 1);
    must(b.n > 8 && memcmp(b.data, "data: ", 6) == 0 && memcmp(b.data + b.n - 2, "\n\n", 2) == 0);
    memmove(b.data, b.data + 6, b.n - 6);
    b.n -= 6;
    check_whole(&b);
    buf_free(&b);
}

static void check_error(const struct wire *w, const struct api_error *e)
{
    struct buf b = {.data = NULL};
    must(e->text[0] != '\0' && strlen(e->text) < sizeof(e->text) - 1);
    must(w->status(e) >= 400 && w->status(e) < 500);
    w->error(&b, e, "req");
    check_whole(&b);
    buf_free(&b);
}

static void try_wire(const struct wire *w, const char *text, size_t bytes, bool accepted)
{
    struct gen_request r;
    struct api_error err = {.text = ""};
    enum status st = w->parse(&r, text, bytes, &err);
    must(st == OK || st == E_INVALID);
    must(accepted || st == E_INVALID);
    must(accepted || err.kind == API_BAD_JSON);
    if (st == OK) {
        check_request(&r, w);
        check_writing(&r);
    } else {
        check_error(w, &err);
    }
    gen_request_free(&r);
}

/* Accepted or refused with a reason; lack of memory would be a tree cJSON did not make. */
static bool accepted(enum status st, const struct json_error *err, size_t bytes)
{
    must(st == OK || (st == E_INVALID && err->what && err->offset <= bytes));
    return st == OK;
}

static bool try_request(const char *text, size_t bytes)
{
    struct json_error err = {.what = NULL};
    struct cJSON *tree = NULL;
    bool good = accepted(json_parse(&tree, text, bytes, &err), &err, bytes);
    must(good == (tree != NULL));
    json_free(tree);
    return good;
}

static bool try_file(const char *text, size_t bytes)
{
    static const struct json_limits limits = {
        .nodes = SIZE_MAX, .members = SIZE_MAX, .depth = STRICT_DEPTH_MAX};
    struct json_error err = {.what = NULL};
    if (!accepted(strict_json(text, bytes, &limits, &err), &err, bytes))
        return false;
    struct cJSON *tree = cJSON_ParseWithLength(text, bytes);
    must(tree && is_text(text, bytes));
    cJSON_Delete(tree);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct wire *const wires[] = {&wire_chat, &wire_completions, &wire_workers_rest,
                                               &wire_workers_binding};
    const char *text = (const char *)data;
    bool good = try_request(text, size);
    must(try_file(text, size) || !good);
    for (size_t i = 0; i < ARRAY_LEN(wires); i++)
        try_wire(wires[i], text, size, good);
    return 0;
}
