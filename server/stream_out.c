/* The answer: what branches have come to becomes one whole body, or pieces of a stream.
 *
 * Branches are read when the connection is idle, so many tokens become one write by themselves.
 *
 * HTTP errors are possible until `begun`; after it an error is an event of the stream. A stream
 * begins with its first text, or, where the format has comments, with a comment when it has waited
 * for ping_ns: then proxies keep it, and what goes wrong later cannot be a status any more. */
#include "server/stream_private.h"

#include <stdlib.h>

/* What the scheduler has by now; true when something was new. */
bool stream_read_news(struct stream *st)
{
    struct answer *a = &st->answer;
    bool any = false;
    a->completion_tokens = 0;
    for (int32_t i = 0; i < a->n_choices; i++) {
        struct branch *b = &st->branch[i];
        bool ran = b->req != NULL;
        any = branch_read(b) || any;
        a->completion_tokens += b->output.n_seen;
        if (!ran || b->req)
            continue;
        st->n_running--;
        /* The siblings of a first answer have its prompt from it. */
        if (a->choice[i].index % st->gen.n == 0)
            a->cached_tokens += b->timing.n_cached;
    }
    return any;
}

/* Whether those that have ended have ended well; if not, st->err says how. */
static bool all_well(struct stream *st)
{
    for (int32_t i = 0; i < st->answer.n_choices; i++) {
        struct branch *b = &st->branch[i];
        if (b->req || branch_ended_well(b, &st->err))
            continue;
        if (b->finish == SCHED_CANCELLED && st->cut)
            api_error_set(&st->err, API_NOT_READY, NULL, "the server is shutting down");
        return false;
    }
    return true;
}

/* A whole request has ended, however many answers it had. */
static void count_end(const struct stream *st)
{
    struct model_metrics *m = &st->env->metrics->model[st->served - st->env->registry->model];
    int32_t longest = 0;
    for (int32_t i = 0; i < st->answer.n_choices; i++)
        if (st->branch[i].output.n_seen > longest)
            longest = st->branch[i].output.n_seen;
    metrics_add(m, HIST_LONGEST, longest);
    metrics_add(m, HIST_N, st->gen.n);
    if (st->gen.params.max_new_tokens != TOKENS_NO_LIMIT)
        metrics_add(m, HIST_MAX_TOKENS, st->gen.params.max_new_tokens);
}

static void log_end(const struct stream *st)
{
    count_end(st);
    reply_log(&st->x, 200, st->answer.prompt_tokens, st->answer.completion_tokens,
              st->branch[0].timing.first_ns);
}

void stream_load_lines(const struct stream *st, char out[LOAD_LINES_MAX])
{
    struct sched_stats stats;
    char load[LOAD_LINE_MAX] = "";
    char limits[LIMIT_LINES_MAX] = "";
    out[0] = '\0';
    if (!st->served || (st->x.wish.load == LOAD_NONE && !st->x.wire->tells_limits))
        return;
    sched_stats(st->served->sched, &stats);
    wishes_load_line(load, &st->x, &stats);
    if (st->x.wire->tells_limits)
        wishes_limit_lines(limits, &st->served->limits, &stats);
    (void)snprintf(out, LOAD_LINES_MAX, "%s%s", load, limits);
}

/* What is known at this moment: at the head of a stream not more than that the first token is
 * here, if it is, at the end where the time went. */
enum { LINES_MAX = LOAD_LINES_MAX + 192 };

static void header_lines(const struct stream *st, char out[LINES_MAX])
{
    char load[LOAD_LINES_MAX];
    const struct sched_timing *t = st->branch ? &st->branch[0].timing : NULL;
    uint64_t now = now_ns();
    stream_load_lines(st, load);
    if (t && t->first_ns)
        (void)snprintf(out, LINES_MAX,
                       "Server-Timing: queue;dur=%.3f, prefill;dur=%.3f, decode;dur=%.3f, "
                       "total;dur=%.3f\r\n%s",
                       since_ms(t->submitted_ns, t->scheduled_ns),
                       since_ms(t->scheduled_ns, t->first_ns), since_ms(t->first_ns, t->last_ns),
                       since_ms(st->x.arrived_ns, now), load);
    else
        (void)snprintf(out, LINES_MAX, "Server-Timing: %s;dur=%.3f\r\n%s",
                       st->answer.completion_tokens > 0 ? "ttft" : "total",
                       since_ms(st->x.arrived_ns, now), load);
}

/* The piece is the answer. */
void stream_send_whole(struct stream *st, int32_t n_prompt, uint64_t first_ns)
{
    char lines[LINES_MAX];
    header_lines(st, lines);
    reply_whole(&st->x, st->conn, 200, st->gen.wire->whole_type, lines, &st->piece);
    reply_log(&st->x, 200, n_prompt, st->answer.completion_tokens, first_ns);
    st->conn = NULL;
    stream_maybe_free(st);
}

static void respond_whole(struct stream *st)
{
    if (!all_well(st)) {
        stream_refuse(st);
        return;
    }
    for (int32_t i = 0; i < st->answer.n_choices; i++)
        (void)branch_show(&st->branch[i]);
    st->gen.wire->whole(&st->piece, &st->gen, &st->answer);
    if (st->piece.failed) {
        stream_refuse_with(st, API_ENGINE);
        return;
    }
    count_end(st);
    stream_send_whole(st, st->answer.prompt_tokens, st->branch[0].timing.first_ns);
}

static void pump(struct stream *st);

static void on_ready(void *arg)
{
    pump(arg);
}

static void begin(struct stream *st)
{
    const struct conn_source source = {.ready = on_ready, .gone = stream_on_gone, .arg = st};
    if (st->begun)
        return;
    char lines[LINES_MAX];
    st->begun = true;
    header_lines(st, lines);
    reply_stream(&st->x, st->conn, st->gen.wire->stream_type, lines, &source);
}

/* What is in the piece was the last. */
static void finish(struct stream *st)
{
    begin(st);
    st->x.sent_bytes += st->piece.n;
    conn_send(st->conn, &st->piece);
    conn_finish(st->conn);
    log_end(st);
    st->conn = NULL;
    stream_cancel(st);
    stream_maybe_free(st);
}

static void fail(struct stream *st)
{
    if (!st->begun) {
        stream_refuse(st);
        return;
    }
    buf_clear(&st->piece);
    st->gen.wire->stream_error(&st->piece, &st->err, st->x.uuid);
    finish(st);
}

/* Events of everything that is new. */
static void write_deltas(struct stream *st)
{
    const struct wire *w = st->gen.wire;
    buf_clear(&st->piece);
    for (int32_t i = 0; i < st->answer.n_choices; i++) {
        struct branch *b = &st->branch[i];
        if (!branch_show(b))
            continue;
        st->answer.padding = padding_draw(st->env->padding);
        if (!st->opened && w->begin)
            w->begin(&st->piece, &st->gen, &st->answer);
        st->opened = true;
        w->delta(&st->piece, &st->gen, &st->answer, b->choice);
        branch_sent(b);
    }
}

/* The connection can take a piece: give it what there is. */
static void pump(struct stream *st)
{
    if (st->begun && !conn_idle(st->conn))
        return;
    (void)stream_read_news(st);
    if (!all_well(st)) {
        fail(st);
        return;
    }
    write_deltas(st);
    st->answer.padding = padding_draw(st->env->padding);
    if (st->n_running == 0)
        st->gen.wire->end(&st->piece, &st->gen, &st->answer);
    if (st->piece.failed) {
        api_error_set(&st->err, API_ENGINE, NULL, "out of memory");
        fail(st);
    } else if (st->n_running == 0) {
        finish(st);
    } else if (st->piece.n > 0) {
        begin(st);
        st->x.sent_bytes += st->piece.n;
        conn_send(st->conn, &st->piece);
        st->sent_ns = now_ns();
    }
}

void stream_on_news(void *user)
{
    struct branch *b = user;
    struct stream *st = b->stream;
    branch_on_news(b);
    if (st->conn && st->gen.stream) {
        pump(st);
        return;
    }
    (void)stream_read_news(st);
    if (st->n_running > 0)
        return;
    if (st->conn)
        respond_whole(st);
    else
        stream_maybe_free(st);
}

/* Silent for long: in the queue, or between two pieces that the client has taken. */
static bool wants_comment(const struct stream *st, uint64_t now)
{
    uint64_t since = st->sent_ns ? st->sent_ns : st->x.arrived_ns;
    return st->conn && st->n_running > 0 && st->gen.stream && st->gen.wire->comments &&
           now - since >= st->env->ping_ns && (!st->begun || conn_idle(st->conn));
}

void streams_keep_alive(struct stream_env *env)
{
    uint64_t now = now_ns();
    for (struct stream *st = env->first; st; st = st->next) {
        if (!wants_comment(st, now))
            continue;
        begin(st);
        buf_clear(&st->piece);
        buf_text(&st->piece, ": ping\n\n");
        conn_send(st->conn, &st->piece);
        st->sent_ns = now;
    }
}
