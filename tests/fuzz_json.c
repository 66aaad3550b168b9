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

static void check_prompt(const struct gen_prompt *p)
{
    must(!p->text || p->n_ids == 0);
    if (p->text)
        must(is_text(p->text, p->bytes));
    for (size_t i = 0; i < p->n_ids; i++)
        must(p->ids[i] >= 0);
}

static void check_request(const struct gen_request *r, const struct wire *w)
{
    must(r->wire == w);
    must((r->chat.messages != NULL) != (r->n_prompts > 0));
    must(r->n >= 1 && r->n <= N_MAX && r->n_prompts <= PROMPTS_MAX);
    must((int64_t)r->n * (r->n_prompts ? r->n_prompts : 1) <= CHOICES_MAX);
    must(json_count(r->chat.messages) <= MESSAGES_MAX);
    for (int32_t i = 0; i < r->n_prompts; i++)
        check_prompt(&r->prompt[i]);
    must(!r->model || strlen(r->model) <= MODEL_BYTES_MAX);
    must(r->n_stops >= 0 && r->n_stops <= STOPS_MAX);
    for (int32_t i = 0; i < r->n_stops; i++) {
        must(r->stop[i].bytes >= 1 && r->stop[i].bytes <= STOP_BYTES_MAX);
        must(is_text(r->stop[i].text, r->stop[i].bytes));
    }
    must(r->params.max_new_tokens >= (r->echo_only ? 0 : 1));
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

/* One event of a stream: an optional name, then JSON. */
static void check_events(struct buf *b)
{
    while (b->n > 0) {
        char *end = memmem(b->data, b->n, "\n\n", 2);
        must(end != NULL);
        char *data = memmem(b->data, b->n, "data: ", 6);
        must(data && data < end);
        struct buf one = {.data = data + 6, .n = (size_t)(end - data) - 6};
        check_whole(&one);
        b->n -= (size_t)(end + 2 - b->data);
        memmove(b->data, end + 2, b->n);
    }
}

/* What is written must pass the same gate that is read through. */
static void check_writing(const struct gen_request *r)
{
    static struct token_detail d = {
        .drawn = {"a\xc3", 2, 7, -1}, .n_top = 1, .top = {{"a", 1, 8, -1}}};
    struct buf b = {.data = NULL};
    struct choice c = {
        .text = "t", .bytes = 1, .detail = {&d, 1}, .prompt_detail = {&d, 1}, .stop_token = -1};
    struct answer a = {.id = "x", .model = r->model, .choice = &c, .n_choices = 1};
    if (r->wire->tell)
        return;
    r->wire->delta(&b, r, &a, &c);
    must(b.n > 8 && !b.failed);
    check_events(&b);
    c.finish = FINISH_STOP;
    r->wire->whole(&b, r, &a);
    check_whole(&b);
    buf_free(&a.kept);
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
    static const struct wire *const wires[] = {
        &wire_chat,         &wire_completions,     &wire_messages,
        &wire_count_tokens, &wire_responses,       &wire_workers_rest,
        &wire_tokenize,     &wire_workers_binding, &wire_detokenize,
    };
    const char *text = (const char *)data;
    bool good = try_request(text, size);
    must(try_file(text, size) || !good);
    for (size_t i = 0; i < ARRAY_LEN(wires); i++)
        try_wire(wires[i], text, size, good);
    return 0;
}
