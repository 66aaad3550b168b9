#ifndef TESTS_FUZZ_WIRE_H
#define TESTS_FUZZ_WIRE_H

/* What every fuzzer of a request parser holds, beyond what sanitizers see: a request that was
 * accepted keeps every promise of wire.h, what is written for it passes the gate that is read
 * through, and a refusal says why in words and a code of its format. */

#include "server/fields.h"
#include "server/wire.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void must(bool holds)
{
    if (!holds)
        abort();
}

static inline bool is_text(const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t n = json_utf8(text + at, bytes - at);
        if (n == 0 || text[at] == '\0')
            return false;
        at += n;
    }
    return true;
}

static inline void check_sampling(const struct sampling *s)
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

static inline void check_prompt(const struct gen_prompt *p)
{
    must(!p->text || p->n_ids == 0);
    if (p->text)
        must(is_text(p->text, p->bytes));
    for (size_t i = 0; i < p->n_ids; i++)
        must(p->ids[i] >= 0);
}

static inline void check_request(const struct gen_request *r, const struct wire *w)
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

static inline void check_whole(const struct buf *b)
{
    struct json_error err;
    struct cJSON *tree = NULL;
    must(!b->failed);
    must(json_parse(&tree, b->data, b->n, &err) == OK);
    json_free(tree);
}

/* One event of a stream: an optional name, then JSON. */
static inline void check_events(struct buf *b)
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
static inline void check_writing(const struct gen_request *r)
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

static inline void check_error(const struct wire *w, const struct api_error *e)
{
    struct buf b = {.data = NULL};
    must(e->text[0] != '\0' && strlen(e->text) < sizeof(e->text) - 1);
    must(w->status(e) >= 400 && w->status(e) < 500);
    w->error(&b, e, "req");
    check_whole(&b);
    buf_free(&b);
}

/* Gives back whether the body was JSON at all. */
static inline bool try_wire(const struct wire *w, const char *text, size_t bytes)
{
    struct gen_request r;
    struct api_error err = {.text = ""};
    enum status st = w->parse(&r, text, bytes, &err);
    must(st == OK || st == E_INVALID);
    if (st == OK) {
        check_request(&r, w);
        check_writing(&r);
    } else {
        check_error(w, &err);
    }
    gen_request_free(&r);
    return st == OK || err.kind != API_BAD_JSON;
}

#endif
