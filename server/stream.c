/* A request's life, and its way down: parsed, admitted, tokenized, submitted. Large bodies and long
 * prompts take the way through a worker thread, which nothing here waits for. */
#include "server/stream_private.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Larger bodies are parsed off the loop, where a long parse delays nobody else. */
enum { PARSE_HERE_MAX = 65536 };
/* Shorter prompts take less time than waking a worker and being woken by it. */
enum { TOKENIZE_HERE_MAX = 1024 };

/* What the access log says of a client that did not wait. No such status exists on the
 * wire; proxies have used this number for it for long. */
enum { CODE_CLIENT_GONE = 499 };

static void branches_free(struct stream *st)
{
    for (int32_t i = 0; st->branch && i < st->answer.n_choices; i++)
        branch_close(&st->branch[i]);
    free(st->branch);
    free(st->answer.choice);
    buf_free(&st->answer.kept);
}

static void prompts_free(struct stream *st)
{
    for (int32_t i = 0; i < st->n_prompts; i++)
        free(st->prompt[i].ids);
    free(st->prompt);
}

void stream_maybe_free(struct stream *st)
{
    if (st->conn || st->working || st->n_running > 0)
        return;
    struct stream_env *env = st->env;
    if (st->prev)
        st->prev->next = st->next;
    else
        env->first = st->next;
    if (st->next)
        st->next->prev = st->prev;
    env->n_live -= st->n_places;
    branches_free(st);
    prompts_free(st);
    gen_request_free(&st->gen);
    buf_free(&st->piece);
    buf_free(&st->body);
    free(st);
}

void stream_cancel(struct stream *st)
{
    for (int32_t i = 0; st->n_running > 0 && i < st->answer.n_choices; i++)
        branch_cancel(&st->branch[i]);
}

void stream_on_gone(void *arg)
{
    struct stream *st = arg;
    /* An ending that waited for the connection to be idle would not be told again. */
    (void)stream_read_news(st);
    st->conn = NULL;
    st->env->metrics->disconnects++;
    reply_log(&st->x, CODE_CLIENT_GONE, st->answer.prompt_tokens, st->answer.completion_tokens, 0);
    stream_cancel(st);
    stream_maybe_free(st);
}

/* Nothing has been sent yet. The connection lets go; what runs is cancelled. */
void stream_refuse(struct stream *st)
{
    char lines[LOAD_LINES_MAX];
    stream_load_lines(st, lines);
    if (st->conn)
        reply_error(&st->x, st->conn, &st->err, lines);
    st->conn = NULL;
    stream_cancel(st);
    stream_maybe_free(st);
}

void stream_refuse_with(struct stream *st, enum api_error_kind kind)
{
    api_error_set(&st->err, kind, NULL, NULL);
    stream_refuse(st);
}

/* -- the way down -- */

/* The prefix and the first 24 digits of the request's own id: as good as others at random, and
 * whoever has one finds the other. */
static void name_after_request(char id[WIRE_ID_MAX], const char *prefix, const char *uuid)
{
    enum { DIGITS = 24 };
    int n = snprintf(id, WIRE_ID_MAX, "%s", prefix);
    for (int digits = 0; digits < DIGITS && *uuid && n < WIRE_ID_MAX - 1; uuid++) {
        if (*uuid == '-')
            continue;
        id[n++] = *uuid;
        digits++;
    }
    id[n] = '\0';
}

static void answer_init(struct stream *st)
{
    struct answer *a = &st->answer;
    if (st->gen.name)
        (void)snprintf(a->id, sizeof(a->id), "%s%s", st->gen.wire->id_prefix, st->gen.name);
    else
        name_after_request(a->id, st->gen.wire->id_prefix, st->x.uuid);
    a->model = st->model[0] ? st->model : st->gen.model;
    if (!a->model)
        a->model = st->served->names.name[0];
    a->created = (int64_t)time(NULL);
    for (int32_t i = 0; i < st->n_prompts; i++)
        a->prompt_tokens += (int32_t)st->prompt[i].n;
}

/* A format knows no vocabulary and no context, so it could not judge these. */
static bool fits(struct stream *st)
{
    const struct model_info *info = &st->served->info;
    const struct gen_request *r = &st->gen;
    const char *param = NULL;
    for (int32_t i = 0; i < r->params.sampling.n_bias; i++)
        param = r->bias[i].token >= info->vocab ? "logit_bias" : param;
    for (int32_t i = 0; i < r->stop_tokens.n; i++)
        param = r->stop_tokens.id[i] >= info->vocab ? "stop_token_ids" : param;
    for (int32_t i = 0; i < r->allowed.n; i++)
        param = r->allowed.id[i] >= info->vocab ? "allowed_token_ids" : param;
    if (param) {
        api_error_set(&st->err, API_BAD_FIELD, param, NULL);
        (void)snprintf(st->err.text, sizeof(st->err.text),
                       "'%s' names a token that the model does not have", param);
        return false;
    }
    /* An answer has one token at least, unless only the prompt comes back. */
    for (int32_t i = 0; i < st->n_prompts; i++) {
        size_t needs = st->prompt[i].n + (r->echo_only ? 0 : 1);
        if (needs <= (size_t)info->context_max)
            continue;
        api_error_too_long(&st->err, st->x.wire, (int64_t)needs, info->context_max);
        return false;
    }
    return true;
}

static enum status branches_open(struct stream *st)
{
    struct answer *a = &st->answer;
    size_t n = (size_t)st->n_prompts * (size_t)st->gen.n;
    a->choice = calloc(n, sizeof(*a->choice));
    st->branch = calloc(n, sizeof(*st->branch));
    if (!a->choice || !st->branch)
        return E_NOMEM;
    a->n_choices = (int32_t)n;
    for (int32_t i = 0; i < a->n_choices; i++) {
        struct branch *b = &st->branch[i];
        a->choice[i].index = i;
        *b = (struct branch){
            .stream = st,
            .sched = st->served->sched,
            .metrics = &st->env->metrics->model[st->served - st->env->registry->model],
            .gen = &st->gen,
            .prompt = &st->prompt[i / st->gen.n],
            .choice = &a->choice[i],
            .arrived_ns = st->x.arrived_ns,
        };
        enum status s = branch_open(b, st->served->tokenizer);
        if (s)
            return s;
    }
    return OK;
}

/* Every answer to one prompt. */
static enum status submit_prompt(struct stream *st, int32_t i)
{
    struct sched_params p;
    void *user[N_MAX];
    struct sched_req *req[N_MAX] = {NULL};
    struct branch *b = &st->branch[i * st->gen.n];
    int32_t n = st->gen.n;
    prompt_params(&p, st->served, &st->gen, st->prompt[i].n);
    for (int32_t k = 0; k < n; k++)
        user[k] = &b[k];
    enum status s = sched_submit_many(st->served->sched, &p, st->prompt[i].ids,
                                      (int32_t)st->prompt[i].n, n, user, req);
    for (int32_t k = 0; s == OK && k < n; k++)
        b[k].req = req[k];
    st->n_running += s == OK ? n : 0;
    return s;
}

/* More than one answer takes more than one place. */
static bool take_places(struct stream *st)
{
    int32_t more = st->n_prompts * st->gen.n - 1;
    if (more >= st->env->live_max) {
        /* Waiting would not help. */
        api_error_set(&st->err, API_BAD_FIELD, "n",
                      "The request asks for more answers than this server holds at once");
        stream_refuse(st);
        return false;
    }
    if (st->env->n_live > st->env->live_max + DOOR_MARGIN - more) {
        stream_refuse_with(st, API_BUSY);
        return false;
    }
    st->n_places += more;
    st->env->n_live += more;
    return true;
}

static void submit(struct stream *st)
{
    if (!fits(st)) {
        stream_refuse(st);
        return;
    }
    if (!take_places(st))
        return;
    if (branches_open(st)) {
        stream_refuse_with(st, API_ENGINE);
        return;
    }
    answer_init(st);
    enum status s = OK;
    for (int32_t i = 0; i < st->n_prompts && s == OK; i++)
        s = submit_prompt(st, i);
    if (s == E_AGAIN) {
        stream_refuse_with(st, API_BUSY);
    } else if (s == E_INVALID) {
        /* It is short enough, so it must be this; registry_load() has warned of it. */
        api_error_set(&st->err, API_BAD_FIELD, prompt_member(&st->gen),
                      "The text holds a token that the model does not have");
        stream_refuse(st);
    } else if (s) {
        stream_refuse_with(st, API_ENGINE);
    }
}

static void work_tokenize(uv_work_t *work)
{
    struct stream *st = CONTAINER_OF(work, struct stream, work);
    int32_t n = prompt_count(&st->gen);
    st->prompt = calloc((size_t)n, sizeof(*st->prompt));
    st->status = st->prompt ? OK : E_NOMEM;
    for (; st->n_prompts < n && st->status == OK; st->n_prompts++)
        st->status = prompt_encode(&st->prompt[st->n_prompts], st->served, &st->gen, st->n_prompts,
                                   &st->err);
    if (st->status == OK && st->gen.wire->tell)
        st->status = prompt_tell(&st->piece, st->served, &st->gen, st->prompt);
}

/* What a worker has left behind decides how it goes on; false: it does not. */
static bool worker_done(struct stream *st, int cancelled)
{
    st->working = false;
    if (!st->conn) {
        stream_maybe_free(st);
        return false;
    }
    if (st->cut) {
        stream_refuse_with(st, API_NOT_READY);
        return false;
    }
    if (st->status == E_INVALID) {
        stream_refuse(st);
        return false;
    }
    if (cancelled || st->status) {
        stream_refuse_with(st, API_ENGINE);
        return false;
    }
    return true;
}

static void after_tokenize(uv_work_t *work, int cancelled)
{
    struct stream *st = CONTAINER_OF(work, struct stream, work);
    if (!worker_done(st, cancelled))
        return;
    if (st->gen.wire->tell)
        stream_send_whole(st, (int32_t)st->prompt->n, 0);
    else
        submit(st);
}

static void start_worker(struct stream *st, uv_work_cb work, uv_after_work_cb after)
{
    st->working = true;
    if (uv_queue_work(st->env->loop, &st->work, work, after) == 0)
        return;
    st->working = false;
    stream_refuse_with(st, API_ENGINE);
}

static void tokenize(struct stream *st)
{
    if (prompt_bytes(&st->gen) > TOKENIZE_HERE_MAX) {
        start_worker(st, work_tokenize, after_tokenize);
        return;
    }
    work_tokenize(&st->work);
    after_tokenize(&st->work, 0);
}

/* How many tokens a prompt becomes is known only when it is tokenized: about these bytes. */
enum { BYTES_PER_TOKEN_GUESS = 4 };

static bool has_place(struct stream *st)
{
    static const char *const dropped[SCHED_REASONS] = {
        [SCHED_MANY_REQUESTS] = "queue-full",
        [SCHED_MANY_TOKENS] = "queue-tokens",
        [SCHED_TOO_LATE] = "ttft-slo",
    };
    struct sched_refusal no;
    size_t guess = prompt_bytes(&st->gen) / BYTES_PER_TOKEN_GUESS + 1;
    int32_t most = st->served->info.context_max;
    int32_t n = guess < (size_t)most ? (int32_t)guess : most;
    enum status s = sched_admit(st->served->sched, &st->gen.params, n, &no);
    if (s == OK)
        return true;
    api_error_set(&st->err, s == E_AGAIN ? API_BUSY : API_ENGINE, NULL, NULL);
    if (s == E_AGAIN) {
        st->err.dropped = dropped[no.reason];
        st->err.retry_ms = (uint32_t)(no.retry_after_ns / 1000000u);
    }
    stream_refuse(st);
    return false;
}

/* The request is known: may it have a place, and which model is meant? */
static void admit(struct stream *st)
{
    const char *name = st->model[0] ? st->model : st->gen.model;
    st->served = registry_find(st->env->registry, name);
    if (!st->served) {
        api_error_no_model(&st->err, st->x.wire, name);
        stream_refuse(st);
        return;
    }
    if (st->gen.reject_if_busy && st->env->n_live > st->env->seqs_max) {
        stream_refuse_with(st, API_BUSY);
        return;
    }
    size_t most = (size_t)st->served->info.context_max * PROMPT_BYTES_PER_TOKEN;
    if (prompt_bytes(&st->gen) > most) {
        stream_refuse_with(st, API_TOO_LONG);
        return;
    }
    wishes_apply(&st->x, &st->gen, st->env->request_ms);
    if (st->gen.wire->tell || has_place(st))
        tokenize(st);
}

static void parse(struct stream *st, const char *body, size_t bytes)
{
    st->status = st->x.wire->parse(&st->gen, body, bytes, &st->err);
    st->gen.chat.now = (int64_t)time(NULL);
}

static void work_parse(uv_work_t *work)
{
    struct stream *st = CONTAINER_OF(work, struct stream, work);
    parse(st, st->body.data, st->body.n);
}

static void after_parse(uv_work_t *work, int cancelled)
{
    struct stream *st = CONTAINER_OF(work, struct stream, work);
    buf_free(&st->body);
    if (worker_done(st, cancelled))
        admit(st);
}

/* NULL: no memory. */
static struct stream *stream_new(struct stream_env *env, struct conn *c, const struct exchange *x,
                                 const char *model)
{
    struct stream *st = calloc(1, sizeof(*st));
    if (!st)
        return NULL;
    st->env = env;
    st->conn = c;
    st->x = *x;
    if (model)
        (void)snprintf(st->model, sizeof(st->model), "%s", model);
    st->next = env->first;
    if (st->next)
        st->next->prev = st;
    env->first = st;
    st->n_places = 1;
    env->n_live++;
    return st;
}

static void refuse_at_door(struct conn *c, const struct exchange *x, enum api_error_kind kind)
{
    struct api_error e;
    struct exchange own = *x;
    api_error_set(&e, kind, NULL, NULL);
    reply_error(&own, c, &e, NULL);
}

void stream_start(struct stream_env *env, struct conn *c, const struct exchange *x,
                  const char *model, const struct http_request *r)
{
    if (!env->ready || env->draining) {
        refuse_at_door(c, x, API_NOT_READY);
        return;
    }
    bool room = env->n_live < env->live_max + DOOR_MARGIN;
    struct stream *st = room ? stream_new(env, c, x, model) : NULL;
    if (!st) {
        refuse_at_door(c, x, API_BUSY);
        return;
    }
    const struct conn_source source = {.gone = stream_on_gone, .arg = st};
    conn_watch(c, &source);
    if (r->body_bytes > PARSE_HERE_MAX) {
        buf_add(&st->body, r->body, r->body_bytes);
        if (st->body.failed)
            stream_refuse_with(st, API_ENGINE);
        else
            start_worker(st, work_parse, after_parse);
        return;
    }
    parse(st, r->body, r->body_bytes);
    if (worker_done(st, 0))
        admit(st);
}

void streams_cut(struct stream_env *env)
{
    for (struct stream *st = env->first; st; st = st->next) {
        st->cut = true;
        stream_cancel(st);
    }
}
