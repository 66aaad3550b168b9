/* A run: pump() starts what is due, the clients' hooks count what ends, and when nothing more will
 * start and nobody is busy, uv_stop() ends it.
 *
 * Open loop: the schedule is fixed beforehand and times count from it. Closed loop: a place that
 * becomes free is when the next request should be sent. A bound on an open loop delays requests;
 * the delay is in their times. */
#include "bench/serve_run.h"

#include "bench/serve_client.h"
#include "bench/serve_random.h"
#include "bench/serve_schedule.h"
#include "bench/serve_wire.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    TICK_MS = 100,
    PROGRESS_MS = 200,
    CANCEL_TOKENS = 128, /* of an answer whose length nobody knows */
    RECORDS_FIRST = 1024,
};

#define MS            1000000u
#define LONG_PAUSE_NS 1000000000u
#define SALT_CANCEL   0xca9ce1u
#define SALT_SLOW     0x510eu
#define SALT_WARM     0x3a93u
#define SALT_LONG     0x1049u

struct run {
    struct run_spec spec;
    struct schedule schedule;
    int64_t next;   /* request to start, those of long prompts apart */
    int64_t busy;   /* of these */
    int64_t n_long; /* long prompts started */
    bool long_runs; /* one is being computed */
    uint64_t long_end_ns;
    uint64_t long_ns; /* the last one took */
    uint64_t begin_ns;
    uint64_t end_ns;
    uint64_t looked_ns; /* at the clients, for what has gone silent */
    uint64_t told_ns;   /* the terminal */
    int64_t texts;
    int64_t done;
    int64_t failed;
    double first_ms; /* sum over those that have a first text */
    int64_t n_first;
    struct record *records; /* [n_records] */
    int64_t n_records;
    int64_t room;
    bool no_memory;
};

struct generator {
    const struct serve_options *opt;
    const struct serve_target *target;
    const struct words *words;
    const struct dataset *data;
    struct cJSON *extra;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_signal_t interrupt;
    bool stopped;           /* by the user */
    struct client **client; /* [n_clients] */
    struct client **idle;   /* [n_idle] of these, the latest last */
    int32_t n_clients;
    int32_t n_idle;
    int32_t room;
    bool tells;
    bool refused; /* and what the server said has been shown */
    char id_prefix[64];
    struct run *run;
};

static void pump(struct generator *g);

/* ---- connections ---- */

static void on_text(struct client *c)
{
    struct run *r = ((struct generator *)c->arg)->run;
    r->texts++;
    if (c->out.events == 1) {
        r->first_ms += (double)(c->out.first_ns - c->out.due_ns) * 1e-6;
        r->n_first++;
    }
}

static void on_done(struct client *c);

static const struct client_hooks hooks = {.text = on_text, .done = on_done};

static bool grow(struct generator *g)
{
    int32_t room = g->room ? 2 * g->room : 64;
    struct client **client = realloc(g->client, (size_t)room * sizeof(struct client *));
    if (client)
        g->client = client;
    struct client **idle = realloc(g->idle, (size_t)room * sizeof(struct client *));
    if (idle)
        g->idle = idle;
    if (!client || !idle)
        return false;
    g->room = room;
    return true;
}

static struct client *new_client(struct generator *g)
{
    struct client *c = g->n_clients < g->room || grow(g) ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return NULL;
    c->loop = &g->loop;
    c->address = (const struct sockaddr *)&g->target->address;
    c->hooks = &hooks;
    c->arg = g;
    c->backend = g->opt->backend;
    c->keep_text = g->opt->save_detailed;
    c->nth = g->n_clients;
    g->client[g->n_clients++] = c;
    return c;
}

/* The one that was last in use has the freshest connection. One that is just closing is left. */
static struct client *take_client(struct generator *g)
{
    for (int32_t i = g->n_idle - 1; i >= 0; i--) {
        struct client *c = g->idle[i];
        if (c->state != CLIENT_IDLE && c->state != CLIENT_CLOSED)
            continue;
        memmove(&g->idle[i], &g->idle[i + 1],
                (size_t)(g->n_idle - i - 1) * sizeof(struct client *));
        g->n_idle--;
        return c;
    }
    return new_client(g);
}

/* ---- requests ---- */

static void write_request(struct client *c, const struct generator *g, const struct buf *body)
{
    const struct serve_target *t = g->target;
    const struct run *r = g->run;
    buf_clear(&c->request);
    buf_printf(&c->request,
               "POST %s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\n",
               t->base, t->endpoint, t->host, body->n);
    buf_add(&c->request, t->headers.data, t->headers.n);
    buf_printf(&c->request, "x-request-id: %s%s", g->id_prefix,
               c->out.kind == RECORD_WARM   ? "warm-"
               : c->out.kind == RECORD_LONG ? "long-"
                                            : "");
    if (r->spec.nth)
        buf_printf(&c->request, "%llu-", (unsigned long long)r->spec.nth);
    buf_printf(&c->request, "%lld\r\n\r\n", (long long)c->out.index);
    buf_add(&c->request, body->data, body->n);
}

static void write_prompt(struct buf *prompt, struct sample *s, const struct generator *g,
                         const struct record *r)
{
    const struct run_spec *spec = &g->run->spec;
    uint64_t seed = mix((uint64_t)g->opt->seed) ^ mix(spec->nth) ^ mix((uint64_t)r->index);
    if (r->kind == RECORD_LONG) {
        *s = (struct sample){g->opt->long_prompt, 1};
        dataset_write_random(prompt, g->words, seed ^ SALT_LONG, s->prompt_tokens);
    } else if (r->kind == RECORD_WARM) {
        *s = (struct sample){spec->prompt_tokens, spec->output_tokens};
        dataset_write_random(prompt, g->words, seed ^ SALT_WARM, s->prompt_tokens);
    } else {
        dataset_write(prompt, s, g->data, spec->nth, r->index);
    }
}

/* Whether this request is one of the share, whatever the server does. */
static bool chosen(const struct generator *g, const struct record *r, double share, uint64_t salt,
                   uint64_t *state)
{
    *state = mix(mix((uint64_t)g->opt->seed ^ salt) ^ (uint64_t)r->index);
    return r->kind == RECORD_COUNTED && draw(state) < share;
}

static void choose_manners(struct client *c, const struct generator *g, const struct sample *s)
{
    const struct serve_options *o = g->opt;
    int64_t most = s->output_tokens > 0 ? s->output_tokens : CANCEL_TOKENS;
    uint64_t state = 0;
    c->cancel_after = 0;
    if (chosen(g, &c->out, o->cancel_rate, SALT_CANCEL, &state))
        c->cancel_after = draw_between(&state, 1, most);
    c->out.slow = chosen(g, &c->out, o->slow_readers, SALT_SLOW, &state);
    c->slow_bytes = c->out.slow ? o->slow_bytes : 0;
}

static void keep_record(struct run *r, struct client *c)
{
    if (r->n_records == r->room) {
        int64_t room = r->room ? 2 * r->room : RECORDS_FIRST;
        struct record *more = realloc(r->records, (size_t)room * sizeof(*more));
        if (!more) {
            r->no_memory = true;
            free(c->out.gap_us);
            free(c->out.text);
            return;
        }
        r->records = more;
        r->room = room;
    }
    r->records[r->n_records++] = c->out;
}

/* false: it could not even be started, and is recorded as failed. */
static bool start(struct generator *g, int32_t kind, int64_t index, uint64_t due)
{
    struct buf prompt = {0};
    struct buf body = {0};
    struct sample sample = {0};
    struct run *r = g->run;
    struct client *c = take_client(g);
    if (!c) {
        r->no_memory = true;
        return false;
    }
    c->out = (struct record){.index = index, .kind = kind, .due_ns = due};
    write_prompt(&prompt, &sample, g, &c->out);
    choose_manners(c, g, &sample);
    c->out.prompt_tokens = sample.prompt_tokens;
    const struct serve_ask ask = {.opt = g->opt,
                                  .extra = g->extra,
                                  .model = g->target->model,
                                  .prompt = &prompt,
                                  .output_tokens = sample.output_tokens,
                                  .index = index};
    serve_body(&body, &ask);
    write_request(c, g, &body);
    r->no_memory |= prompt.failed || body.failed || c->request.failed;
    buf_free(&prompt);
    buf_free(&body);
    c->out.sent_ns = now_ns();
    bool good = !r->no_memory && client_start(c) == OK;
    if (!good) {
        (void)snprintf(c->out.fault, sizeof(c->out.fault), "no socket");
        c->out.end_ns = c->out.sent_ns;
        r->failed++;
        keep_record(r, c);
        g->idle[g->n_idle++] = c;
    }
    return good;
}

/* The first refusal in the server's words: a count of "http 400" does not say what to change. What
 * is no plain text could be written for the terminal. */
static void show_refusal(struct generator *g, const struct client *c)
{
    char shown[REFUSAL_BYTES_MAX + 1];
    size_t n = 0;
    if (g->refused || strncmp(c->out.fault, "http ", 5) != 0)
        return;
    for (; n < c->line.n && n < REFUSAL_BYTES_MAX; n++)
        shown[n] = c->line.data[n] >= ' ' && c->line.data[n] <= '~' ? c->line.data[n] : ' ';
    shown[n] = '\0';
    g->refused = true;
    (void)fprintf(stderr, "%sbench_serve: the first refusal, %s: %s\n", g->tells ? "\r\x1b[K" : "",
                  c->out.fault, shown);
}

static void on_done(struct client *c)
{
    struct generator *g = c->arg;
    struct run *r = g->run;
    bool failed = c->out.fault[0] != '\0';
    r->end_ns = c->out.end_ns;
    r->failed += failed;
    show_refusal(g, c);
    if (c->out.kind == RECORD_LONG) {
        r->long_runs = false;
        r->long_end_ns = c->out.end_ns;
        r->long_ns = c->out.end_ns - c->out.sent_ns;
    } else {
        r->busy--;
        r->done++;
    }
    keep_record(r, c);
    c->out = (struct record){0};
    g->idle[g->n_idle++] = c;
    /* After a fault the place stays empty until the next tick: a server that refuses must not be
     * asked as fast as it can say no. */
    if (!failed)
        pump(g);
}

/* ---- what is due ---- */

static bool time_is_up(const struct generator *g, uint64_t now)
{
    const struct run *r = g->run;
    return !r->spec.warm && !r->schedule.due_ns && g->opt->duration > 0 &&
           (double)(now - r->begin_ns) >= g->opt->duration * 1e9;
}

static bool more_to_start(const struct generator *g, uint64_t now)
{
    const struct run *r = g->run;
    if (r->no_memory || g->stopped || time_is_up(g, now))
        return false;
    if (g->opt->long_prompt && !r->spec.warm)
        return r->n_long < r->schedule.n;
    return r->next < r->schedule.n;
}

static bool has_room(const struct run *r)
{
    return r->spec.max_concurrency == 0 || r->busy < r->spec.max_concurrency;
}

static bool start_next(struct generator *g, uint64_t due)
{
    struct run *r = g->run;
    bool good = start(g, r->spec.warm ? RECORD_WARM : RECORD_COUNTED, r->next, due);
    r->busy += good;
    r->next++;
    return good;
}

/* Between two long prompts there is quiet for as long as the last one took, but at least for a
 * second. */
static void start_long(struct generator *g, uint64_t now)
{
    struct run *r = g->run;
    uint64_t quiet = r->long_ns > LONG_PAUSE_NS ? r->long_ns : LONG_PAUSE_NS;
    if (r->long_runs || now < r->long_end_ns + quiet || has_room(r))
        return;
    r->long_runs = start(g, RECORD_LONG, r->n_long++, now);
}

static void start_due(struct generator *g, uint64_t now)
{
    struct run *r = g->run;
    const uint64_t *due = r->schedule.due_ns;
    while (has_room(r) && more_to_start(g, now)) {
        if (due && r->begin_ns + due[r->next] > now)
            break;
        /* Without a bound everything was wanted at the beginning. */
        uint64_t wanted = r->spec.max_concurrency ? now_ns() : r->begin_ns;
        if (!start_next(g, due ? r->begin_ns + due[r->next] : wanted))
            break; /* no socket now: the next tick may find one */
    }
    if (g->opt->long_prompt && !r->spec.warm && more_to_start(g, now))
        start_long(g, now);
}

static void look_after_clients(struct generator *g, uint64_t now)
{
    for (int32_t i = 0; i < g->n_clients; i++) {
        struct client *c = g->client[i];
        bool busy = c->state == CLIENT_BUSY || c->state == CLIENT_CONNECTING;
        if (c->slow_bytes > 0)
            client_resume(c, now);
        if (busy && now > c->heard_ns && (double)(now - c->heard_ns) > g->opt->timeout * 1e9)
            client_close(c, "timeout");
    }
    g->run->looked_ns = now;
}

static void tell(struct generator *g, uint64_t now)
{
    struct run *r = g->run;
    double seconds = (double)(now - r->begin_ns) * 1e-9;
    if (!g->tells || r->spec.warm || now - r->told_ns < PROGRESS_MS * MS)
        return;
    r->told_ns = now;
    (void)fprintf(stderr, "\r%lld", (long long)r->done);
    if (r->schedule.n < INT64_MAX)
        (void)fprintf(stderr, " of %lld", (long long)r->schedule.n);
    (void)fprintf(stderr,
                  " done, %lld running, %lld failed, %.1f s, %.1f req/s, %.0f events/s, TTFT %.0f "
                  "ms\x1b[K",
                  (long long)r->busy, (long long)r->failed, seconds, (double)r->done / seconds,
                  (double)r->texts / seconds, r->n_first ? r->first_ms / (double)r->n_first : 0.0);
}

static void on_tick(uv_timer_t *timer)
{
    pump(timer->data);
}

/* What has ended so far is reported; a second time the process just ends. */
static void on_interrupt(uv_signal_t *interrupt, int number)
{
    struct generator *g = interrupt->data;
    (void)number;
    g->stopped = true;
    (void)uv_signal_stop(interrupt);
    for (int32_t i = 0; i < g->n_clients; i++) {
        struct client *c = g->client[i];
        if (c->state != CLIENT_BUSY && c->state != CLIENT_CONNECTING)
            continue;
        c->out.cancelled = true;
        client_close(c, NULL);
    }
}

/* Starts what is due and says when to look again. */
static void pump(struct generator *g)
{
    struct run *r = g->run;
    uint64_t now = now_ns();
    uint64_t wait = TICK_MS;
    start_due(g, now);
    bool more = more_to_start(g, now);
    if (!more && r->busy == 0 && !r->long_runs) {
        uv_stop(&g->loop);
        return;
    }
    if (now - r->looked_ns >= TICK_MS * MS)
        look_after_clients(g, now);
    tell(g, now);
    /* Never 0: libuv would run the timer again before it looks at a socket. */
    if (more && r->schedule.due_ns && has_room(r)) {
        uint64_t due = r->begin_ns + r->schedule.due_ns[r->next];
        if (due < now + wait * MS)
            wait = due > now ? (due - now) / MS + 1 : 1;
    }
    uv_update_time(&g->loop);
    (void)uv_timer_start(&g->tick, on_tick, wait, 0);
}

/* ---- a run ---- */

static double cpu_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static enum status plan_run(struct run *r, const struct generator *g)
{
    if (r->spec.warm) {
        r->schedule.n = r->spec.requests;
        return OK;
    }
    enum status s = schedule_make(&r->schedule, g->opt, r->spec.rate);
    if (s == OK && g->opt->no_oversample && dataset_size(g->data) < r->schedule.n)
        r->schedule.n = dataset_size(g->data);
    return s;
}

static int by_index(const void *a, const void *b)
{
    const struct record *x = a;
    const struct record *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

enum status generator_run(struct run_result *out, struct generator *g, const struct run_spec *spec)
{
    struct run r = {.spec = *spec};
    *out = (struct run_result){0};
    enum status s = plan_run(&r, g);
    if (s)
        return s;
    double cpu = cpu_seconds();
    r.begin_ns = now_ns();
    r.end_ns = r.begin_ns;
    r.long_end_ns = r.begin_ns;
    g->run = &r;
    (void)uv_signal_start(&g->interrupt, on_interrupt, SIGINT);
    uv_update_time(&g->loop);
    (void)uv_timer_start(&g->tick, on_tick, 0, 0);
    (void)uv_run(&g->loop, UV_RUN_DEFAULT);
    (void)uv_signal_stop(&g->interrupt);
    if (g->tells && r.told_ns)
        (void)fprintf(stderr, "\r\x1b[K");
    bool counted = r.schedule.due_ns || (r.schedule.n < INT64_MAX && g->opt->duration <= 0);
    *out = (struct run_result){
        .records = r.records, .n = r.n_records, .n_prompts = r.schedule.n, .begin_ns = r.begin_ns};
    out->sure = counted && !g->opt->long_prompt ? INT64_MAX : spec->max_concurrency;
    out->seconds = (double)(r.end_ns - r.begin_ns) * 1e-9;
    out->cpu_share = out->seconds > 0 ? (cpu_seconds() - cpu) / out->seconds : 0;
    if (out->n_prompts == INT64_MAX)
        out->n_prompts = r.next;
    if (r.n_records > 1)
        qsort(r.records, (size_t)r.n_records, sizeof(*r.records), by_index);
    schedule_free(&r.schedule);
    g->run = NULL;
    if (r.no_memory)
        run_result_free(out);
    return r.no_memory ? E_NOMEM : OK;
}

void run_result_free(struct run_result *r)
{
    for (int64_t i = 0; i < r->n; i++) {
        free(r->records[i].gap_us);
        free(r->records[i].text);
    }
    free(r->records);
    *r = (struct run_result){0};
}

/* ---- from open to close ---- */

static enum status prepare(struct generator *g)
{
    const struct serve_options *o = g->opt;
    struct json_error at;
    enum status s = OK;
    if (o->extra_body)
        s = json_parse(&g->extra, o->extra_body, strlen(o->extra_body), &at);
    g->tells = !o->disable_tqdm && isatty(STDERR_FILENO);
    if (o->request_id_prefix)
        (void)snprintf(g->id_prefix, sizeof(g->id_prefix), "%.60s", o->request_id_prefix);
    else
        (void)snprintf(g->id_prefix, sizeof(g->id_prefix), "bench-%08llx-",
                       (unsigned long long)(mix(now_ns() ^ (uint64_t)getpid()) & 0xffffffffu));
    return s;
}

enum status generator_open(struct generator **out, const struct serve_options *o,
                           const struct serve_target *t, const struct words *words)
{
    struct generator *g = calloc(1, sizeof(*g));
    if (!g)
        return E_NOMEM;
    g->opt = o;
    g->target = t;
    g->words = words;
    if (uv_loop_init(&g->loop)) {
        free(g);
        return E_IO;
    }
    (void)uv_timer_init(&g->loop, &g->tick);
    (void)uv_signal_init(&g->loop, &g->interrupt);
    g->tick.data = g;
    g->interrupt.data = g;
    enum status s = prepare(g);
    if (s)
        generator_close(g);
    else
        *out = g;
    return s;
}

void generator_use(struct generator *g, const struct dataset *data)
{
    g->data = data;
}

bool generator_stopped(const struct generator *g)
{
    return g->stopped;
}

void generator_close(struct generator *g)
{
    if (!g)
        return;
    for (int32_t i = 0; i < g->n_clients; i++)
        client_close(g->client[i], NULL);
    uv_close((uv_handle_t *)&g->tick, NULL);
    uv_close((uv_handle_t *)&g->interrupt, NULL);
    (void)uv_run(&g->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&g->loop);
    for (int32_t i = 0; i < g->n_clients; i++) {
        client_free(g->client[i]);
        free(g->client[i]);
    }
    free(g->client);
    free(g->idle);
    json_free(g->extra);
    free(g);
}
