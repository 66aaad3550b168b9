#ifndef TESTS_FIELDS_RIG_H
#define TESTS_FIELDS_RIG_H

/* What a parsed request holds, told as one line, and rows of bodies checked by it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/fields.h"
#include "server/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a request holds, as one line ------------------------------------------------ */

static void tell_flag(struct buf *b, bool on, const char *name)
{
    if (on)
        buf_printf(b, " %s", name);
}

static void tell_numbers(struct buf *b, const struct gen_request *r)
{
    const struct sampling *s = &r->params.sampling;
    if (r->params.max_new_tokens != TOKENS_NO_LIMIT)
        buf_printf(b, " max=%d", r->params.max_new_tokens);
    buf_printf(b, " t=%g", (double)s->temperature);
    tell_flag(b, r->temperature_given, "t!");
    if (s->top_p != 1)
        buf_printf(b, " p=%g", (double)s->top_p);
    tell_flag(b, r->top_p_given, "p!");
    if (s->top_k != 0)
        buf_printf(b, " k=%d", s->top_k);
    tell_flag(b, r->top_k_given, "k!");
    if (s->min_p != 0)
        buf_printf(b, " min_p=%g", (double)s->min_p);
    if (s->repetition != 1)
        buf_printf(b, " rep=%g", (double)s->repetition);
    tell_flag(b, r->repetition_given, "rep!");
    if (s->presence != 0)
        buf_printf(b, " pres=%g", (double)s->presence);
    if (s->frequency != 0)
        buf_printf(b, " freq=%g", (double)s->frequency);
    if (r->seed_given)
        buf_printf(b, " seed=%lld", (long long)s->seed);
    if (s->n_logprobs >= 0)
        buf_printf(b, " logprobs=%d", s->n_logprobs);
    for (int32_t i = 0; i < s->n_bias; i++)
        buf_printf(b, " bias[%d]=%g", s->bias[i].token, (double)s->bias[i].bias);
}

static void tell_message(struct buf *b, const struct cJSON *m)
{
    size_t n;
    const struct cJSON *content = json_member(m, "content");
    const char *text = json_string(content, &n);
    buf_printf(b, " %s:%s", json_string(json_member(m, "role"), &n), text ? text : "");
    for (const struct cJSON *part = text ? NULL : json_first(content); part; part = json_next(part))
        buf_printf(b, "%s", json_string(json_member(part, "text"), &n));
}

static void tell_ids(struct buf *b, const char *name, const int32_t *id, size_t n)
{
    if (n == 0)
        return;
    buf_printf(b, " %s:", name);
    for (size_t i = 0; i < n; i++)
        buf_printf(b, i ? ",%d" : "%d", id[i]);
}

static void tell_prompt(struct buf *b, const struct gen_prompt *p)
{
    if (p->text)
        buf_printf(b, " prompt:%.*s", (int)p->bytes, p->text);
    else
        tell_ids(b, "prompt", p->ids, p->n_ids);
}

static void tell_flags(struct buf *b, const struct gen_request *r)
{
    tell_flag(b, r->raw, "raw");
    tell_flag(b, r->chat_prompt, "chat_prompt");
    tell_flag(b, r->echo, "echo");
    tell_flag(b, r->echo_only, "echo_only");
    tell_flag(b, r->no_specials, "no_specials");
    tell_flag(b, r->show_specials, "show_specials");
    tell_flag(b, r->chat.continue_final, "continue");
    tell_flag(b, !r->chat.add_generation_prompt, "no_turn");
    tell_flag(b, r->chat.kwargs != NULL, "kwargs");
    tell_flag(b, r->stream, "stream");
    tell_flag(b, r->stream_usage, "usage");
    tell_flag(b, r->usage_always, "usage_always");
    tell_flag(b, r->return_ids, "ids");
    tell_flag(b, r->ids_as_text, "ids_as_text");
    tell_flag(b, r->include_stop, "include_stop");
    tell_flag(b, r->want_strings, "strings");
    tell_flag(b, r->reject_if_busy, "reject");
    tell_flag(b, r->params.ignore_eos, "ignore_eos");
}

static void tell_rest(struct buf *b, const struct gen_request *r)
{
    if (r->name)
        buf_printf(b, " name=%s", r->name);
    if (r->params.min_tokens)
        buf_printf(b, " min=%d", r->params.min_tokens);
    if (r->prompt_logprobs >= 0)
        buf_printf(b, " prompt_logprobs=%d", r->prompt_logprobs);
    if (r->truncate != 0 && r->truncate != TOKENS_NO_LIMIT)
        buf_printf(b, " truncate=%d", r->truncate);
    if (r->priority)
        buf_printf(b, " priority=%d", r->priority);
    tell_flag(b, r->salt != 0, "salt");
    tell_ids(b, "stop_tokens", r->stop_tokens.id, (size_t)r->stop_tokens.n);
    tell_ids(b, "allowed", r->allowed.id, (size_t)r->allowed.n);
}

/* Only what differs from the neutral request, so that every row says all it changes. */
static char *tell(const struct gen_request *r)
{
    struct buf b = {.data = NULL};
    if (r->model)
        buf_printf(&b, " model=%s", r->model);
    for (const struct cJSON *m = json_first(r->chat.messages); m; m = json_next(m))
        tell_message(&b, m);
    for (int32_t i = 0; i < r->n_prompts; i++)
        tell_prompt(&b, &r->prompt[i]);
    if (r->n != 1)
        buf_printf(&b, " n=%d", r->n);
    tell_flags(&b, r);
    for (int32_t i = 0; i < r->n_stops; i++)
        buf_printf(&b, " stop:%.*s", (int)r->stop[i].bytes, r->stop[i].text);
    tell_numbers(&b, r);
    tell_rest(&b, r);
    buf_add(&b, "", 1);
    assert_false(b.failed);
    return b.data;
}

#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

struct good_row {
    const char *body;
    const char *told;
};

struct bad_row {
    const char *body;
    enum api_error_kind kind;
    const char *param;
    const char *text;
};

/* The body lies on the heap with nothing behind it and is gone before the request is read:
 * a request that still pointed into it would be seen by a sanitizer. */
static enum status parse(const struct wire *w, struct gen_request *r, const char *body,
                         struct api_error *err)
{
    size_t n = strlen(body);
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, body, n);
    memset(r, 0xA5, sizeof(*r));
    enum status st = w->parse(r, copy, n, err);
    free(copy);
    return st;
}

static void check_good(const struct wire *w, const struct good_row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct gen_request r;
        struct api_error err = {.text = ""};
        if (parse(w, &r, row[i].body, &err) != OK)
            fail_msg("%s refused: %s", row[i].body, err.text);
        assert_ptr_equal(r.wire, w);
        char *told = tell(&r);
        if (strcmp(told, row[i].told) != 0)
            fail_msg("%s\n gives  %s\n wanted %s", row[i].body, told, row[i].told);
        free(told);
        gen_request_free(&r);
        gen_request_free(&r);
    }
}

static void check_bad(const struct wire *w, const struct bad_row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct gen_request r;
        struct gen_request nothing;
        struct api_error e = {.text = ""};
        enum status st = parse(w, &r, row[i].body, &e);
        if (st != E_INVALID || e.kind != row[i].kind || strcmp(e.param, row[i].param) != 0 ||
            strcmp(e.text, row[i].text) != 0)
            fail_msg("%s: %s\n status %d kind %d param \"%s\" text \"%s\"\n wanted kind %d param "
                     "\"%s\" text \"%s\"",
                     w->name, row[i].body, st, e.kind, e.param, e.text, row[i].kind, row[i].param,
                     row[i].text);
        memset(&nothing, 0, sizeof(nothing));
        assert_memory_equal(&r, &nothing, sizeof(r));
    }
}

#endif
