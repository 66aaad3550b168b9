#include "bench/serve_client.h"
#include "bench/serve_report.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <signal.h>

/* Load generator for /v1/chat/completions: how long readers wait for the first text and
 * between texts, and how many tokens leave the server, at a number of streams (closed loop:
 * each sends its next request when it has its answer) or at a rate of arrivals (open loop:
 * the schedule is fixed beforehand and waiting is counted from it, so a slow server cannot
 * slow down the clock). bench/README.md explains the columns.
 *
 * One thread, one libuv loop. A run is a struct run; client hooks fill it; uv_stop() ends it
 * when nothing more will start and nobody is busy. Connections outlive runs. */

enum {
    CLIENTS_MAX = 4096,
    RUNS_MAX = 16,
    TICK_MS = 100,
    WARM_TOKENS = 16,
    OPEN_WARM_STREAMS = 4,
    PROBE_WORDS_FEW = 8,
    PROBE_WORDS_MANY = 136,
    WORDS_MAX = 1 << 20,
    LONG_PROMPTS = 20,
};

#define MS 1000000u

enum kind { KIND_PROBE, KIND_WARM, KIND_COUNTED, KIND_LONG };

struct options {
    const char *url;
    const char *model;
    const char *api_key;
    const char *prompt;
    int64_t streams[RUNS_MAX];
    int32_t n_streams;
    int64_t ban; /* token id, -1: none */
    double rate;
    int64_t requests; /* 0: chosen, or until seconds have passed */
    double seconds;
    int64_t prompt_tokens;
    int64_t shared_prefix;
    int64_t long_prompt; /* tokens, 0: ordinary runs */
    int64_t max_tokens;
    double temperature;
    int64_t seed;
    double timeout;
    bool ignore_eos;
    bool same_prompts;
    bool csv;
    bool json;
    bool table;
};

struct bench {
    struct options opt;
    char host[256];
    char path[512];
    struct sockaddr_storage address;
    uv_loop_t loop;
    uv_timer_t tick;
    struct client *client[CLIENTS_MAX];
    int32_t n_clients;
    double tokens_base; /* of a prompt without words */
    double tokens_per_word;
    int64_t probe_words;
    struct run *run;
};

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* ---- requests ---- */

static void add_words(struct buf *out, uint64_t seed, int64_t n)
{
    static const char *const words[] = {
        "river", "seven",  "paper", "light", "green", "under", "music", "stone",
        "open",  "winter", "small", "bread", "north", "clock", "seed",  "table",
        "blue",  "garden", "glass", "story", "quiet", "field", "train", "water",
        "round", "letter", "house", "sound", "early", "metal", "cloud", "answer",
    };
    for (int64_t i = 0; i < n; i++) {
        buf_text(out, words[mix(seed + (uint64_t)i) % ARRAY_LEN(words)]);
        buf_text(out, " ");
    }
}

static int64_t words_for(const struct bench *b, int64_t tokens, double base)
{
    double n = round(((double)tokens - base) / b->tokens_per_word);
    return n < 1 ? 1 : n > WORDS_MAX ? WORDS_MAX : (int64_t)n;
}

/* The text of request `index`: the same for the same options, another for every index, run
 * and seed, so that nothing comes from a cache that was not meant to. */
static void add_prompt(struct buf *out, const struct bench *b, int32_t kind, int64_t index)
{
    const struct options *o = &b->opt;
    uint64_t own =
        mix(mix((uint64_t)o->seed) ^ mix(b->run->salt + (uint64_t)kind) ^ mix((uint64_t)index));
    if (kind == KIND_PROBE) {
        add_words(out, own, b->probe_words);
        return;
    }
    if (o->prompt && kind != KIND_LONG) {
        buf_text(out, o->prompt);
        return;
    }
    int64_t tokens = kind == KIND_LONG ? o->long_prompt : o->prompt_tokens;
    int64_t all = words_for(b, tokens, b->tokens_base);
    int64_t shared = o->shared_prefix > 0 ? words_for(b, o->shared_prefix, 0) : 0;
    shared = shared < all ? shared : all - 1;
    add_words(out, mix((uint64_t)o->seed), shared);
    add_words(out, own, all - shared);
}

static int64_t answer_limit(const struct bench *b, int32_t kind)
{
    if (kind == KIND_PROBE || kind == KIND_LONG)
        return 1;
    bool short_one = kind == KIND_WARM && b->opt.max_tokens > WARM_TOKENS;
    return short_one ? WARM_TOKENS : b->opt.max_tokens;
}

static void write_request(struct bench *b, struct client *c, int32_t kind, int64_t index)
{
    const struct options *o = &b->opt;
    struct buf text = {0};
    struct buf body = {0};
    add_prompt(&text, b, kind, index);
    buf_text(&body, "{\"stream\":true,\"stream_options\":{\"include_usage\":true},");
    if (o->model) {
        buf_text(&body, "\"model\":");
        buf_json_text(&body, o->model);
        buf_text(&body, ",");
    }
    buf_printf(&body, "\"max_tokens\":%lld,\"temperature\":%g,\"seed\":%lld,\"ignore_eos\":%s,",
               (long long)answer_limit(b, kind), o->temperature, (long long)(o->seed + index),
               o->ignore_eos ? "true" : "false");
    if (o->ban >= 0)
        buf_printf(&body, "\"logit_bias\":{\"%lld\":-100},", (long long)o->ban);
    buf_text(&body, "\"messages\":[{\"role\":\"user\",\"content\":");
    buf_json(&body, text.data, text.n);
    buf_text(&body, "}]}");
    buf_clear(&c->request);
    buf_printf(&c->request,
               "POST %s/v1/chat/completions HTTP/1.1\r\nHost: %s\r\n"
               "Content-Type: application/json\r\nContent-Length: %zu\r\n",
               b->path, b->host, body.n);
    if (o->api_key)
        buf_printf(&c->request, "Authorization: Bearer %s\r\n", o->api_key);
    buf_text(&c->request, "\r\n");
    buf_add(&c->request, body.data, body.n);
    if (text.failed || body.failed || c->request.failed)
        quit(1, "out of memory", "");
    buf_free(&text);
    buf_free(&body);
}

static void start(struct bench *b, struct client *c, int32_t kind, int64_t index, uint64_t due)
{
    write_request(b, c, kind, index);
    c->kind = kind;
    c->index = index;
    b->run->busy++;
    client_start(c, &b->loop, (const struct sockaddr *)&b->address, due);
}

/* ---- one run ---- */

static bool more_to_start(const struct bench *b, uint64_t now)
{
    const struct run *r = b->run;
    if (r->with_long)
        return r->n_long < r->requests;
    if (r->requests > 0)
        return r->next < r->requests;
    uint64_t stop = r->begin_ns + (uint64_t)(b->opt.seconds * 1e9);
    return (r->streams ? now : r->due_ns) < stop;
}

static struct client *free_client(struct bench *b, const struct client_hooks *hooks)
{
    for (int32_t i = 0; i < b->n_clients; i++)
        if (b->client[i]->state == CLIENT_IDLE || b->client[i]->state == CLIENT_CLOSED)
            return b->client[i];
    if (b->n_clients == CLIENTS_MAX)
        return NULL;
    struct client *c = calloc(1, sizeof(*c));
    if (!c)
        quit(1, "out of memory", "");
    c->arg = b;
    c->hooks = hooks;
    b->client[b->n_clients++] = c;
    return c;
}

static void on_text(struct client *c, uint64_t before_ns, uint64_t now)
{
    struct run *r = ((struct bench *)c->arg)->run;
    if (c->kind != KIND_COUNTED)
        return;
    bool beside_long = r->long_runs || before_ns < r->long_end_ns;
    add_sample(beside_long ? &r->itl_long : &r->itl, now - before_ns);
}

static void count_answer(struct run *r, const struct client *c)
{
    const struct outcome *o = &c->out;
    if (o->fault[0]) {
        count_fault(r, o->fault);
        return;
    }
    r->done++;
    r->prompt_tokens += o->prompt_tokens;
    r->cached_tokens += o->cached_tokens;
    r->answer_tokens += o->answer_tokens;
    r->events += o->events;
    if (c->kind == KIND_PROBE)
        return;
    add_sample(&r->ttft, o->first_ns - o->start_ns);
    add_sample(&r->e2e, o->end_ns - o->start_ns);
    if (c->index < r->sure)
        r->hash += mix(o->hash ^ mix((uint64_t)c->index));
}

static void pump(struct bench *b);

static void count_long(struct run *r, const struct client *c)
{
    const struct outcome *o = &c->out;
    r->long_runs = false;
    r->long_end_ns = o->end_ns;
    r->long_ns = o->end_ns - o->start_ns;
    if (o->fault[0]) {
        count_fault(r, o->fault);
        return;
    }
    r->long_tokens += o->prompt_tokens;
    r->long_cached += o->cached_tokens;
    add_sample(&r->ttft_long, o->first_ns - o->start_ns);
}

static void on_done(struct client *c)
{
    struct bench *b = c->arg;
    b->run->busy--;
    b->run->end_ns = c->out.end_ns;
    if (c->kind == KIND_LONG)
        count_long(b->run, c);
    else
        count_answer(b->run, c);
    /* After a fault the place stays empty until the next tick: a server that refuses must
     * not be asked as fast as it can say no. */
    if (!c->out.fault[0])
        pump(b);
}

static const struct client_hooks hooks = {.text = on_text, .done = on_done};

/* Between two long prompts there is quiet for as long as the last one took, but at least for
 * a second. */
static void start_long(struct bench *b, uint64_t now)
{
    struct run *r = b->run;
    uint64_t quiet = r->long_ns > 1000 * MS ? r->long_ns : 1000 * MS;
    if (r->long_runs || now < r->long_end_ns + quiet || r->busy < r->streams)
        return;
    struct client *c = free_client(b, &hooks);
    if (!c)
        return;
    r->long_runs = true;
    start(b, c, KIND_LONG, r->n_long++, now);
}

static uint64_t next_gap(const struct bench *b, struct run *r)
{
    r->random = mix(r->random);
    double u = ((double)(r->random >> 11) + 0.5) * 0x1p-53;
    return (uint64_t)(-log(u) / b->opt.rate * 1e9);
}

static void start_closed(struct bench *b, uint64_t now)
{
    struct run *r = b->run;
    int32_t kind = b->probe_words ? KIND_PROBE : r->warm ? KIND_WARM : KIND_COUNTED;
    while (r->busy - r->long_runs < r->streams && more_to_start(b, now)) {
        struct client *c = free_client(b, &hooks);
        if (!c)
            break;
        start(b, c, kind, r->next++, now_ns());
    }
    if (r->with_long && more_to_start(b, now))
        start_long(b, now);
}

static void start_open(struct bench *b, uint64_t now)
{
    struct run *r = b->run;
    while (r->due_ns <= now && more_to_start(b, now)) {
        struct client *c = free_client(b, &hooks);
        if (c)
            start(b, c, KIND_COUNTED, r->next, r->due_ns);
        else
            count_fault(r, "no client left");
        r->next++;
        r->due_ns += next_gap(b, r);
    }
}

static void on_tick(uv_timer_t *timer)
{
    pump(timer->data);
}

/* Starts what is due and says when to look again. */
static void pump(struct bench *b)
{
    struct run *r = b->run;
    uint64_t now = now_ns();
    uint64_t wait = TICK_MS;
    if (r->streams)
        start_closed(b, now);
    else
        start_open(b, now);
    if (!more_to_start(b, now) && r->busy == 0) {
        uv_stop(&b->loop);
        return;
    }
    /* Never 0: libuv would run the timer again before it looks at a socket. */
    if (!r->streams && more_to_start(b, now) && r->due_ns < now + wait * MS)
        wait = (r->due_ns - now) / MS + 1;
    uv_update_time(&b->loop);
    (void)uv_timer_start(&b->tick, on_tick, wait, 0);
    for (int32_t i = 0; i < b->n_clients; i++) {
        struct client *c = b->client[i];
        bool busy = c->state == CLIENT_BUSY || c->state == CLIENT_CONNECTING;
        if (busy && (double)(now - c->heard_ns) > b->opt.timeout * 1e9 && now > c->heard_ns)
            client_close(c, "timeout");
    }
}

static void run_until_done(struct bench *b, struct run *r)
{
    b->run = r;
    r->begin_ns = now_ns();
    r->end_ns = r->begin_ns;
    r->long_end_ns = r->begin_ns;
    r->random = mix((uint64_t)b->opt.seed);
    r->due_ns = r->begin_ns + (r->streams ? 0 : next_gap(b, r));
    (void)uv_timer_start(&b->tick, on_tick, 0, 0);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
}

static const char *first_fault(const struct run *r)
{
    return r->fault[0].n ? r->fault[0].name : "";
}

static double probe(struct bench *b, int64_t words)
{
    struct run r = {.streams = 1, .requests = 1, .salt = (uint64_t)words};
    b->probe_words = words;
    run_until_done(b, &r);
    b->probe_words = 0;
    if (r.errors)
        quit(1, "the server does not answer as expected", first_fault(&r));
    run_free(&r);
    return (double)r.prompt_tokens;
}

/* How this model's tokenizer cuts our words. */
static void calibrate(struct bench *b)
{
    double few = probe(b, PROBE_WORDS_FEW);
    double many = probe(b, PROBE_WORDS_MANY);
    b->tokens_per_word = (many - few) / (PROBE_WORDS_MANY - PROBE_WORDS_FEW);
    if (!(b->tokens_per_word > 0))
        quit(1, "the server's prompt_tokens do not grow with the prompt", "");
    b->tokens_base = few - PROBE_WORDS_FEW * b->tokens_per_word;
}

/* Every thread awake, every connection open, nothing counted. */
static void warm_up(struct bench *b, int64_t streams)
{
    struct run r = {.streams = streams, .requests = streams, .warm = true};
    r.salt = mix((uint64_t)streams);
    run_until_done(b, &r);
    if (r.errors == streams)
        quit(1, "not one answer while warming up", first_fault(&r));
    run_free(&r);
}

static void name_run(const struct bench *b, struct row *row, const struct run *r)
{
    const struct options *o = &b->opt;
    char prompt[32];
    (void)snprintf(prompt, sizeof(prompt), "%lld", (long long)o->prompt_tokens);
    add_word(row, "load", "load", o->long_prompt ? "long" : r->streams ? "closed" : "open");
    add_number(row, "streams", "", "streams", r->streams ? (double)r->streams : (double)NAN, 0);
    add_number(row, "rate_per_s", "", "rate/s", r->streams ? (double)NAN : o->rate, 2);
    add_word(row, "prompt", "prompt", o->prompt ? "text" : prompt);
    add_number(row, "max_tokens", "max", "tokens", (double)o->max_tokens, 0);
}

/* streams 0: open loop. Number of errors. */
static int64_t measure(struct bench *b, int64_t streams, int32_t number)
{
    const struct options *o = &b->opt;
    struct run r = {.streams = streams, .requests = o->requests, .with_long = o->long_prompt > 0};
    struct row row = {.n = 0};
    enum form form = o->json ? FORM_JSON : o->csv ? FORM_CSV : FORM_TABLE;
    warm_up(b, streams ? streams : OPEN_WARM_STREAMS);
    if (o->long_prompt && r.requests == 0)
        r.requests = LONG_PROMPTS;
    else if (r.requests == 0 && o->seconds <= 0)
        r.requests = streams > 4 ? 4 * streams : 16;
    r.sure = streams && r.requests == 0 ? streams : INT64_MAX;
    r.salt = o->same_prompts ? 0 : mix((uint64_t)number);
    run_until_done(b, &r);
    name_run(b, &row, &r);
    if (o->long_prompt)
        fill_long(&row, &r);
    else
        fill_load(&row, &r);
    print_row(&row, form, number == 0, &r);
    run_free(&r);
    return r.errors;
}

/* ---- the command line ---- */

enum value_type { VALUE_TEXT, VALUE_INT, VALUE_NUMBER, VALUE_FLAG, VALUE_LIST };

static const struct value_row {
    const char *name;
    enum value_type type;
    size_t at;
    double min;
    double max;
    const char *help;
} value_rows[] = {
#define AT(member) offsetof(struct options, member)
    {"url", VALUE_TEXT, AT(url), 0, 0, "http://HOST:PORT[/PATH] (http://127.0.0.1:8080)"},
    {"model", VALUE_TEXT, AT(model), 0, 0, "model to name (none: the server's only one)"},
    {"api-key", VALUE_TEXT, AT(api_key), 0, 0, "sent as Authorization: Bearer"},
    {"streams", VALUE_LIST, AT(streams), 1, CLIENTS_MAX - 1,
     "closed loop: streams at once; 1,4,16 makes three runs (1)"},
    {"rate", VALUE_NUMBER, AT(rate), 0, 1e5, "open loop: Poisson arrivals per second"},
    {"requests", VALUE_INT, AT(requests), 0, 1e9, "requests per run (4 per stream, at least 16)"},
    {"seconds", VALUE_NUMBER, AT(seconds), 0, 1e6, "in place of requests: send for that long"},
    {"prompt-tokens", VALUE_INT, AT(prompt_tokens), 1, 1e6,
     "about so many, template included (64)"},
    {"prompt", VALUE_TEXT, AT(prompt), 0, 0, "this text in every request instead"},
    {"shared-prefix", VALUE_INT, AT(shared_prefix), 0, 1e6,
     "about so many of the prompt's tokens are the same in all requests (0)"},
    {"max-tokens", VALUE_INT, AT(max_tokens), 1, 1e6, "longest answer (64)"},
    {"ignore-eos", VALUE_FLAG, AT(ignore_eos), 0, 0, "answers are as long as they may be"},
    {"ban", VALUE_INT, AT(ban), 0, INT32_MAX,
     "token id that is never drawn: the end token, where its text is empty"},
    {"temperature", VALUE_NUMBER, AT(temperature), 0, 2, "0: the likeliest token (0)"},
    {"seed", VALUE_INT, AT(seed), 0, 1e9, "of prompts, arrivals and sampling (1)"},
    {"same-prompts", VALUE_FLAG, AT(same_prompts), 0, 0,
     "every run sends the prompts of the first: answers must be equal, caches will help"},
    {"long-prompt", VALUE_INT, AT(long_prompt), 0, 1e6,
     "tokens of a prompt that arrives again and again beside the streams"},
    {"timeout", VALUE_NUMBER, AT(timeout), 0.1, 1e5, "seconds without a byte (120)"},
    {"csv", VALUE_FLAG, AT(csv), 0, 0, "print comma-separated values"},
    {"json", VALUE_FLAG, AT(json), 0, 0, "print a JSON object per run"},
    {"table", VALUE_FLAG, AT(table), 0, 0, "print a table (this)"},
#undef AT
};

static void help(void)
{
    printf("bench_serve [options]: load on /v1/chat/completions\n");
    for (size_t i = 0; i < ARRAY_LEN(value_rows); i++)
        printf("  --%-15s %s\n", value_rows[i].name, value_rows[i].help);
    exit(0);
}

static double number_of(const struct value_row *row, const char *text, char **end)
{
    errno = 0;
    double x = strtod(text, end);
    bool whole = row->type == VALUE_NUMBER || x == floor(x);
    if (*end == text || errno || !whole || !(x >= row->min && x <= row->max))
        quit(2, "value out of range", row->name);
    return x;
}

static void set_value(struct options *o, const struct value_row *row, const char *text)
{
    void *at = (char *)o + row->at;
    char *end = NULL;
    if (row->type == VALUE_TEXT) {
        *(const char **)at = text;
        return;
    }
    if (row->type == VALUE_LIST) {
        o->n_streams = 0;
        do {
            if (o->n_streams == RUNS_MAX)
                quit(2, "too many runs", row->name);
            o->streams[o->n_streams++] = (int64_t)number_of(row, text, &end);
            text = end + 1;
        } while (*end == ',');
    } else if (row->type == VALUE_INT) {
        *(int64_t *)at = (int64_t)number_of(row, text, &end);
    } else {
        *(double *)at = number_of(row, text, &end);
    }
    if (*end)
        quit(2, "not a number", row->name);
}

static void read_options(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const struct value_row *row = value_rows;
        const struct value_row *stop = value_rows + ARRAY_LEN(value_rows);
        if (strcmp(argv[i], "--help") == 0)
            help();
        while (row < stop && (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, row->name)))
            row++;
        if (row == stop)
            quit(2, "unknown option (see --help)", argv[i]);
        if (row->type == VALUE_FLAG)
            *(bool *)((char *)o + row->at) = true;
        else if (++i == argc)
            quit(2, "option without a value", row->name);
        else
            set_value(o, row, argv[i]);
    }
    size_t bytes = o->prompt ? strlen(o->prompt) : 0;
    for (size_t at = 0, n; at < bytes; at += n)
        if ((n = json_utf8(o->prompt + at, bytes - at)) == 0)
            quit(2, "not UTF-8", "prompt");
}

static void read_url(struct bench *b)
{
    char port[8] = "80";
    const char *url = b->opt.url;
    struct addrinfo hint = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int n = 0;
    if (sscanf(url, "http://%255[^/]%n%511s", b->host, &n, b->path) < 1 || n == 0)
        quit(2, "not of the form http://HOST:PORT", url);
    size_t path = strlen(b->path);
    while (path > 0 && b->path[path - 1] == '/')
        b->path[--path] = '\0';
    char name[sizeof(b->host)];
    memcpy(name, b->host, sizeof(name));
    char *colon = strrchr(name, ':');
    if (colon && !strchr(colon, ']')) {
        (void)snprintf(port, sizeof(port), "%s", colon + 1);
        *colon = '\0';
    }
    char *bare = name[0] == '[' ? name + 1 : name;
    bare[strcspn(bare, "]")] = '\0';
    int err = getaddrinfo(bare, port, &hint, &found);
    if (err)
        quit(1, gai_strerror(err), url);
    /* Where a name means both, servers more often listen on the older. */
    const struct addrinfo *best = found;
    for (const struct addrinfo *i = found; i && best->ai_family != AF_INET; i = i->ai_next)
        best = i->ai_family == AF_INET ? i : best;
    memcpy(&b->address, best->ai_addr, best->ai_addrlen);
    freeaddrinfo(found);
}

static void bench_close(struct bench *b)
{
    struct run nobody = {0};
    b->run = &nobody;
    for (int32_t i = 0; i < b->n_clients; i++)
        client_close(b->client[i], NULL);
    uv_close((uv_handle_t *)&b->tick, NULL);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&b->loop);
    for (int32_t i = 0; i < b->n_clients; i++) {
        client_free(b->client[i]);
        free(b->client[i]);
    }
}

/* Exit status: 0 every answer was whole, 1 some were not, 2 not understood. */
int main(int argc, char **argv)
{
    static struct bench b = {
        .opt = {.url = "http://127.0.0.1:8080",
                .streams = {1},
                .n_streams = 1,
                .prompt_tokens = 64,
                .max_tokens = 64,
                .ban = -1,
                .seed = 1,
                .timeout = 120},
    };
    int64_t errors = 0;
    (void)signal(SIGPIPE, SIG_IGN);
    read_options(&b.opt, argc, argv);
    read_url(&b);
    if (uv_loop_init(&b.loop) || uv_timer_init(&b.loop, &b.tick))
        quit(1, "no event loop", "");
    b.tick.data = &b;
    calibrate(&b);
    if (b.opt.rate > 0)
        errors += measure(&b, 0, 0);
    else
        for (int32_t i = 0; i < b.opt.n_streams; i++)
            errors += measure(&b, b.opt.streams[i], i);
    bench_close(&b);
    return errors > 0;
}
