#include "server/stream.h"

#include "server/output.h"
#include "server/prompt.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

/* A stream has up to three holders: the connection (`conn`, until it has its answer or its
 * peer has gone), a worker thread (`working`), the scheduler (`req`, until its finish has
 * been read). Each lets go by itself and stream_maybe_free() frees when all three have.
 *
 * Nothing is queued: tokens wait in the scheduler's log until the connection is idle, so
 * many tokens become one write by themselves and a slow client costs no memory.
 *
 * HTTP errors are possible until `begun`; after it an error is an event of the stream. */

/* Larger bodies are parsed off the loop, where a long parse delays nobody else. */
enum { PARSE_HERE_MAX = 65536 };

/* Silence after which a stream gets a comment. */
#define SILENCE_NS 15000000000u

/* What the access log says of a client that did not wait. No such status exists on the
 * wire; proxies have used this number for it for long. */
enum { CODE_CLIENT_GONE = 499 };

struct stream {
    struct stream_env *env;
    struct stream *next;
    struct stream *prev;
    struct conn *conn; /* NULL: has let go */
    uv_work_t work;
    bool working;
    struct sched_req *req; /* NULL: not submitted, or released */
    struct served *served;
    struct exchange x;
    char model[MODEL_BYTES_MAX + 1]; /* named by the route; "": by the body */
    struct buf body;                 /* a copy, for a parse off the loop */
    struct gen_request gen;
    enum status status; /* of the worker */
    struct api_error err;
    int32_t *ids; /* [n_ids] */
    size_t n_ids;
    struct output output;
    struct answer answer;
    struct buf piece;
    enum sched_finish finish; /* SCHED_RUNNING until the finish has been read */
    uint64_t first_ns;
    uint64_t read_ns; /* when tokens last came */
    uint64_t sent_ns; /* when a piece last went out */
    bool begun;       /* the head of a stream has been given to the connection */
    bool cut;         /* the process ends before the answer does */
};

static void stream_maybe_free(struct stream *st)
{
    if (st->conn || st->working || st->req)
        return;
    struct stream_env *env = st->env;
    if (st->prev)
        st->prev->next = st->next;
    else
        env->first = st->next;
    if (st->next)
        st->next->prev = st->prev;
    env->n_live--;
    output_close(&st->output);
    gen_request_free(&st->gen);
    buf_free(&st->piece);
    buf_free(&st->body);
    free(st->ids);
    free(st);
}

static void on_gone(void *arg)
{
    struct stream *st = arg;
    st->conn = NULL;
    st->env->metrics->disconnects++;
    reply_log(&st->x, CODE_CLIENT_GONE, st->answer.prompt_tokens, st->answer.completion_tokens, 0);
    if (st->req)
        sched_cancel(st->served->sched, st->req);
    stream_maybe_free(st);
}

/* Nothing has been sent yet. The connection lets go; a running request is cancelled. */
static void refuse(struct stream *st)
{
    if (st->conn)
        reply_error(&st->x, st->conn, &st->err, NULL);
    st->conn = NULL;
    if (st->req)
        sched_cancel(st->served->sched, st->req);
    stream_maybe_free(st);
}

static void refuse_with(struct stream *st, enum api_error_kind kind)
{
    api_error_set(&st->err, kind, NULL, NULL);
    refuse(st);
}

/* -- the answer -- */

static enum metric_finish metric_of(const struct stream *st)
{
    if (st->output.stopped || st->finish == SCHED_STOP)
        return METRIC_STOP;
    if (st->finish == SCHED_LENGTH)
        return METRIC_LENGTH;
    return st->finish == SCHED_CANCELLED ? METRIC_ABORT : METRIC_ERROR;
}

/* The finish has been read: nothing of the scheduler is needed any more. */
static void release(struct stream *st)
{
    struct sched_timing t;
    sched_timing(st->req, &t);
    sched_release(st->served->sched, st->req);
    st->req = NULL;
    st->first_ns = t.first_ns;
    st->answer.cached_tokens = t.n_cached;
    output_end(&st->output);
    metrics_request(st->env->metrics, metric_of(st), st->x.arrived_ns, &t, st->answer.prompt_tokens,
                    st->answer.completion_tokens);
}

static void count_tokens(struct stream *st, int32_t n)
{
    struct metrics *m = st->env->metrics;
    uint64_t now = now_ns();
    m->generation_tokens += (uint64_t)n;
    if (st->read_ns && n > 0)
        metrics_add_n(&m->between_tokens, (double)(now - st->read_ns) * 1e-9 / n, (uint64_t)n);
    if (n > 0)
        st->read_ns = now;
}

/* Everything the scheduler has by now becomes text. */
static void take_tokens(struct stream *st)
{
    struct sched_news news;
    sched_read(st->served->sched, st->req, &news);
    count_tokens(st, news.n);
    for (int32_t i = 0; i < news.n && !st->output.stopped; i++) {
        output_token(&st->output, news.token[i], news.detail ? &news.detail[i] : NULL);
        st->answer.completion_tokens++;
    }
    st->finish = news.finish;
    if (news.finish)
        release(st);
    else if (st->output.stopped || st->output.failed)
        sched_cancel(st->served->sched, st->req);
}

/* Whether the answer ended well; if not, st->err says how. */
static bool ended_well(struct stream *st)
{
    st->answer.finish = FINISH_STOP;
    if (st->output.failed)
        api_error_set(&st->err, API_ENGINE, NULL, "out of memory");
    else if (st->output.stopped || st->finish == SCHED_STOP)
        return true;
    else if (st->finish == SCHED_EXPIRED)
        api_error_set(&st->err, API_TIMEOUT, NULL, NULL);
    else if (st->finish == SCHED_CANCELLED && st->cut)
        api_error_set(&st->err, API_NOT_READY, NULL, "the server is shutting down");
    else if (st->finish != SCHED_LENGTH)
        api_error_set(&st->err, API_ENGINE, NULL, NULL);
    else {
        st->answer.finish = FINISH_LENGTH;
        return true;
    }
    st->answer.finish = FINISH_ERROR;
    return false;
}

static void log_end(const struct stream *st)
{
    reply_log(&st->x, 200, st->answer.prompt_tokens, st->answer.completion_tokens, st->first_ns);
}

static void respond_whole(struct stream *st)
{
    const struct output *o = &st->output;
    if (!ended_well(st)) {
        refuse(st);
        return;
    }
    st->gen.wire->whole(&st->piece, &st->gen, &st->answer, o->text.data ? o->text.data : "",
                        o->text.n, o->detail, o->n_detail);
    if (st->piece.failed) {
        refuse_with(st, API_ENGINE);
        return;
    }
    reply_whole(&st->x, st->conn, 200, st->gen.wire->whole_type, NULL, &st->piece);
    log_end(st);
    st->conn = NULL;
    stream_maybe_free(st);
}

static void pump(struct stream *st);

static void on_ready(void *arg)
{
    pump(arg);
}

static void begin(struct stream *st)
{
    const struct conn_source source = {.ready = on_ready, .gone = on_gone, .arg = st};
    if (st->begun)
        return;
    st->begun = true;
    reply_stream(&st->x, st->conn, st->gen.wire->stream_type, &source);
}

/* The last piece, and the end of the answer. */
static void send_end(struct stream *st)
{
    const struct output *o = &st->output;
    bool well = ended_well(st);
    if (!well && !st->begun) {
        refuse(st);
        return;
    }
    begin(st);
    buf_clear(&st->piece);
    if (well)
        st->gen.wire->end(&st->piece, &st->gen, &st->answer, o->text.data ? o->text.data : "",
                          o->text.n, o->detail, o->n_detail);
    else
        st->gen.wire->stream_error(&st->piece, &st->err, st->x.uuid);
    conn_send(st->conn, &st->piece);
    conn_finish(st->conn);
    log_end(st);
    st->conn = NULL;
    stream_maybe_free(st);
}

static void send_delta(struct stream *st)
{
    const struct output *o = &st->output;
    if (o->text.n == 0 && o->n_detail == 0)
        return;
    begin(st);
    buf_clear(&st->piece);
    st->gen.wire->delta(&st->piece, &st->gen, &st->answer, o->text.data ? o->text.data : "",
                        o->text.n, o->detail, o->n_detail);
    output_sent(&st->output);
    conn_send(st->conn, &st->piece);
    st->sent_ns = now_ns();
}

/* The connection can take a piece: give it what there is. */
static void pump(struct stream *st)
{
    if (st->begun && !conn_idle(st->conn))
        return;
    if (st->req)
        take_tokens(st);
    if (st->req)
        send_delta(st);
    else
        send_end(st);
}

void stream_on_news(struct stream *st)
{
    if (!st->req)
        return;
    if (st->conn && st->gen.stream) {
        pump(st);
        return;
    }
    take_tokens(st);
    if (st->req)
        return;
    if (st->conn)
        respond_whole(st);
    else
        stream_maybe_free(st);
}

/* -- the way down -- */

static void answer_init(struct stream *st)
{
    struct answer *a = &st->answer;
    (void)snprintf(a->id, sizeof(a->id), "%s%016llx%08x", st->gen.wire->id_prefix,
                   (unsigned long long)random_u64(), random_u32());
    a->model = st->model[0] ? st->model : st->gen.model;
    if (!a->model)
        a->model = st->served->names.name[0];
    a->created = (int64_t)time(NULL);
    a->prompt_tokens = (int32_t)st->n_ids;
}

/* A format knows no vocabulary, so it could not judge these. */
static bool bias_fits(const struct stream *st)
{
    for (int32_t i = 0; i < st->gen.params.sampling.n_bias; i++)
        if (st->gen.bias[i].token >= st->served->info.vocab)
            return false;
    return true;
}

static void submit(struct stream *st)
{
    struct sched_params p;
    int32_t context = st->served->info.context_max;
    if (st->n_ids >= (size_t)context) {
        /* An answer has one token at least. */
        api_error_too_long(&st->err, st->x.wire, (int64_t)st->n_ids + 1, context);
        refuse(st);
        return;
    }
    if (!bias_fits(st)) {
        api_error_set(&st->err, API_BAD_FIELD, "logit_bias",
                      "'logit_bias' names a token that the model does not have");
        refuse(st);
        return;
    }
    if (output_open(&st->output, st->served->tokenizer, &st->gen)) {
        refuse_with(st, API_ENGINE);
        return;
    }
    answer_init(st);
    prompt_params(&p, st->served, &st->gen, st->n_ids);
    p.deadline_ns = st->x.arrived_ns + st->env->request_ms * 1000000u;
    enum status s = sched_submit(st->served->sched, &p, st->ids, (int32_t)st->n_ids, st, &st->req);
    if (s == OK) {
        free(st->ids);
        st->ids = NULL;
    } else if (s == E_AGAIN) {
        refuse_with(st, API_BUSY);
    } else if (s == E_INVALID) {
        /* It is short enough, so it must be this; served_load() has warned of it. */
        api_error_set(&st->err, API_BAD_FIELD, st->gen.chat.messages ? "messages" : "prompt",
                      "The text holds a token that the model does not have");
        refuse(st);
    } else {
        refuse_with(st, API_ENGINE);
    }
}

static void work_tokenize(uv_work_t *work)
{
    struct stream *st = CONTAINER_OF(work, struct stream, work);
    st->status = prompt_encode(st->served, &st->gen, &st->ids, &st->n_ids, &st->err);
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
        refuse_with(st, API_NOT_READY);
        return false;
    }
    if (st->status == E_INVALID) {
        refuse(st);
        return false;
    }
    if (cancelled || st->status) {
        refuse_with(st, API_ENGINE);
        return false;
    }
    return true;
}

static void after_tokenize(uv_work_t *work, int cancelled)
{
    struct stream *st = CONTAINER_OF(work, struct stream, work);
    if (worker_done(st, cancelled))
        submit(st);
}

static void start_worker(struct stream *st, uv_work_cb work, uv_after_work_cb after)
{
    st->working = true;
    if (uv_queue_work(st->env->loop, &st->work, work, after) == 0)
        return;
    st->working = false;
    refuse_with(st, API_ENGINE);
}

/* How many tokens a prompt becomes is known only when it is tokenized: about these bytes. */
enum { BYTES_PER_TOKEN_GUESS = 4 };

static bool has_place(struct stream *st)
{
    struct sched_refusal no;
    size_t guess = prompt_bytes(&st->gen) / BYTES_PER_TOKEN_GUESS + 1;
    int32_t most = st->served->info.context_max;
    int32_t n = guess < (size_t)most ? (int32_t)guess : most;
    enum status s = sched_admit(st->served->sched, &st->gen.params, n, &no);
    if (s == OK)
        return true;
    api_error_set(&st->err, s == E_AGAIN ? API_BUSY : API_ENGINE, NULL, NULL);
    if (s == E_AGAIN)
        st->err.retry_ms = (uint32_t)(no.retry_after_ns / 1000000u);
    refuse(st);
    return false;
}

/* The request is known: may it have a place, and which model is meant? */
static void admit(struct stream *st)
{
    const char *name = st->model[0] ? st->model : st->gen.model;
    st->served = registry_find(st->env->registry, name);
    if (!st->served) {
        api_error_no_model(&st->err, st->x.wire, name);
        refuse(st);
        return;
    }
    if (st->gen.reject_if_busy && st->env->n_live > st->env->seqs_max) {
        refuse_with(st, API_BUSY);
        return;
    }
    size_t most = (size_t)st->served->info.context_max * PROMPT_BYTES_PER_TOKEN;
    if (prompt_bytes(&st->gen) > most) {
        refuse_with(st, API_TOO_LONG);
        return;
    }
    if (has_place(st))
        start_worker(st, work_tokenize, after_tokenize);
}

static void parse(struct stream *st, const char *body, size_t bytes)
{
    st->status = st->x.wire->parse(&st->gen, body, bytes, &st->err);
    st->gen.wire = st->x.wire;
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
    env->n_live++;
    return st;
}

static void refuse_at_door(struct conn *c, const struct exchange *x, enum api_error_kind kind)
{
    struct api_error e;
    api_error_set(&e, kind, NULL, NULL);
    reply_error(x, c, &e, NULL);
}

void stream_start(struct stream_env *env, struct conn *c, const struct exchange *x,
                  const char *model, const struct http_request *r)
{
    if (!env->ready || env->draining) {
        refuse_at_door(c, x, API_NOT_READY);
        return;
    }
    struct stream *st = env->n_live < env->live_max ? stream_new(env, c, x, model) : NULL;
    if (!st) {
        refuse_at_door(c, x, API_BUSY);
        return;
    }
    const struct conn_source source = {.gone = on_gone, .arg = st};
    conn_watch(c, &source);
    if (r->body_bytes > PARSE_HERE_MAX) {
        buf_add(&st->body, r->body, r->body_bytes);
        if (st->body.failed)
            refuse_with(st, API_ENGINE);
        else
            start_worker(st, work_parse, after_parse);
        return;
    }
    parse(st, r->body, r->body_bytes);
    if (worker_done(st, 0))
        admit(st);
}

void streams_keep_alive(struct stream_env *env)
{
    uint64_t now = now_ns();
    for (struct stream *st = env->first; st; st = st->next) {
        if (!st->conn || !st->begun || now - st->sent_ns < SILENCE_NS || !st->gen.wire->comments ||
            !conn_idle(st->conn))
            continue;
        buf_clear(&st->piece);
        buf_text(&st->piece, ": ping\n\n");
        conn_send(st->conn, &st->piece);
        st->sent_ns = now;
    }
}

void streams_cut(struct stream_env *env)
{
    for (struct stream *st = env->first; st; st = st->next) {
        st->cut = true;
        if (st->req)
            sched_cancel(st->served->sched, st->req);
    }
}
