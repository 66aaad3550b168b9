/* What the front door costs, without a model behind it.
 *
 *   bench_door serve [--pace-ms N] [options of firstlight serve]
 *       the server with an engine that answers at once, or makes one step every N ms: token i of a
 *       sequence is the letter that its position says, so that a reader can check every byte
 *   bench_door streams URL-PORT STREAMS SECONDS PACE-MS
 *       that many answers at once; every byte is checked, every gap between two events measured
 *   bench_door idle PORT CONNECTIONS PID
 *       that many idle keep-alive connections after one request each: bytes of the server for one
 *
 * bench/door.sh runs them side by side with nginx. */
#include "bench/usage.h"
#include "models/model.h"
#include "models/tokenizer.h"
#include "server/buf.h"
#include "server/options.h"
#include "server/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LETTERS = 26,
    VOCAB = 262144,
    CONTEXT = 4096,
    BLOCK_TOKENS = 16,
    BLOCKS = 32768,
    EVENTS_MAX = 256,
    READ_BYTES = 8192,
    ADDRESSES = 200, /* 127.0.0.x, since one has 28,000 ports */
};

static uint64_t pace_ns;

/* -- a model that thinks of nothing -- */

struct model {
    struct model_info info;
    int32_t letter[LETTERS];
    uint64_t due_ns;
    int32_t n_picked;
    struct picked *picked; /* [step_seqs_max] */
};

static void fill_info(struct model_info *out)
{
    *out = (struct model_info){
        .arch = "None",
        .dim = 1,
        .hidden = 1,
        .n_layers = 1,
        .n_heads = 1,
        .n_kv_heads = 1,
        .head_dim = 1,
        .vocab = VOCAB,
        .context_max = CONTEXT,
        .block_tokens = BLOCK_TOKENS,
        .n_blocks = BLOCKS,
        .bos = -1,
        .temperature = -1,
        .top_p = -1,
        .top_k = -1,
        .repetition = -1,
    };
}

enum status model_inspect(struct model_info *out, const char *path, char *err, size_t err_size)
{
    (void)path;
    (void)err;
    (void)err_size;
    fill_info(out);
    return OK;
}

/* Ids of the letters in the tokenizer beside which this is served. */
static enum status find_letters(struct model *m, const char *path, char *err, size_t err_size)
{
    struct tokenizer *t = NULL;
    enum status s = tokenizer_open(&t, path, err, err_size);
    for (int32_t i = 0; i < LETTERS && s == OK; i++) {
        const char letter = (char)('a' + i);
        int32_t ids[8];
        size_t n = 0;
        s = tokenizer_encode(t, &letter, 1, false, ids, ARRAY_LEN(ids), &n);
        m->letter[i] = ids[0];
        if (s == OK && n != 1)
            s = E_UNSUPPORTED;
    }
    tokenizer_close(t);
    return s;
}

enum status model_open(struct model **out, const struct model_options *opt, struct ops *ops,
                       char *err, size_t err_size)
{
    (void)ops;
    struct model *m = calloc(1, sizeof(*m));
    if (!m)
        return E_NOMEM;
    fill_info(&m->info);
    m->picked = calloc((size_t)opt->step_seqs_max, sizeof(*m->picked));
    enum status s = m->picked ? find_letters(m, opt->path, err, err_size) : E_NOMEM;
    if (s)
        model_close(m);
    else
        *out = m;
    return s;
}

void model_close(struct model *m)
{
    if (m)
        free(m->picked);
    free(m);
}

const struct model_info *model_info(const struct model *m)
{
    return &m->info;
}

void model_launch(struct model *m, const struct model_batch *b)
{
    m->n_picked = b->n_picks;
    for (int32_t i = 0; i < b->n_picks; i++)
        m->picked[i] = (struct picked){.token = m->letter[b->pick[i].position % LETTERS]};
    uint64_t now = now_ns();
    if (pace_ns)
        m->due_ns = m->due_ns + pace_ns > now ? m->due_ns + pace_ns : now + pace_ns;
}

enum status model_wait(struct model *m, struct picked *out)
{
    struct timespec due = {.tv_sec = (time_t)(m->due_ns / 1000000000u),
                           .tv_nsec = (long)(m->due_ns % 1000000000u)};
    while (pace_ns && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
        ;
    memcpy(out, m->picked, (size_t)m->n_picked * sizeof(*out));
    return OK;
}

enum status model_logits(struct model *m, int32_t i, float *logits)
{
    (void)m;
    (void)i;
    (void)logits;
    return E_UNSUPPORTED;
}

static int serve(int argc, char **argv)
{
    struct options o;
    char err[OPTION_ERROR_MAX];
    if (argc > 3 && strcmp(argv[2], "--pace-ms") == 0) {
        pace_ns = (uint64_t)(strtod(argv[3], NULL) * 1e6);
        argv[3] = argv[1];
        argv += 2;
        argc -= 2;
    }
    if (options_parse(&o, argc, argv, err, sizeof(err))) {
        (void)fprintf(stderr, "bench_door: %s\n", err);
        return 2;
    }
    log_setup(LOG_INFO, false);
    return server_run(&o);
}

/* -- clients -- */

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_door: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int join(int port, int nth)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr = {htonl(0x7f000001u + (unsigned)(nth % ADDRESSES))}};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0)
        die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)))
        die("connect");
    return fd;
}

static void send_all(int fd, const struct buf *b)
{
    if (send(fd, b->data, b->n, MSG_NOSIGNAL) != (ssize_t)b->n)
        die("send");
}

static void more_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* -- idle connections -- */

static long resident_kib(const char *pid)
{
    char path[64];
    char line[256];
    long kib = -1;
    (void)snprintf(path, sizeof(path), "/proc/%s/status", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        die(path);
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    (void)fclose(f);
    return kib;
}

static void ask_health(int fd)
{
    static const char text[] = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    char answer[1024];
    const struct buf b = {.data = (char *)text, .n = sizeof(text) - 1};
    send_all(fd, &b);
    if (recv(fd, answer, sizeof(answer), 0) <= 0 || memcmp(answer, "HTTP/1.1 200", 12) != 0)
        die("no answer");
}

static int idle(int port, int wanted, const char *pid)
{
    more_files();
    int *fd = calloc((size_t)wanted, sizeof(*fd));
    if (!fd)
        die("memory");
    int first = join(port, 0);
    ask_health(first);
    (void)close(first);
    (void)usleep(100000);
    long before = resident_kib(pid);
    for (int i = 0; i < wanted; i++) {
        fd[i] = join(port, i);
        ask_health(fd[i]);
    }
    (void)sleep(1);
    long after = resident_kib(pid);
    for (int i = 0; i < wanted; i++)
        ask_health(fd[i]);
    (void)printf("idle connections %d: resident %ld KiB -> %ld KiB, %.2f KiB each\n", wanted,
                 before, after, (double)(after - before) / wanted);
    free(fd);
    return 0;
}

/* -- streams -- */

struct reader {
    int fd;
    struct buf got;
    bool head_seen;
    bool ended;
    size_t before; /* bytes of the first event before and behind its text */
    struct buf form;
    char next; /* letter */
    int64_t n_letters;
    int64_t n_events;
    uint64_t last_ns;
};

struct gaps {
    uint32_t *us; /* [n] */
    size_t n;
    size_t room;
    int64_t wrong;
    int64_t merged;
};

static void note_gap(struct gaps *g, uint64_t ns)
{
    if (g->n == g->room) {
        g->room = g->room ? 2 * g->room : 1 << 20;
        g->us = realloc(g->us, g->room * sizeof(*g->us));
        if (!g->us)
            die("memory");
    }
    g->us[g->n++] = (uint32_t)(ns / 1000);
}

/* What stands behind the text: as in the first event, or the reason why this is the last. */
static bool ends_well(const struct reader *r, const char *end, size_t n)
{
    static const char last[] = "\",\"logprobs\":null,\"finish_reason\":\"length\"";
    bool same = n == r->form.n - r->before && memcmp(end, r->form.data + r->before, n) == 0;
    return same || (n >= sizeof(last) - 1 && memcmp(end, last, sizeof(last) - 1) == 0);
}

/* One event of text: byte for byte like the first but for the letters, and those go on. */
static bool take_text(struct reader *r, const char *event, size_t n, const char *text)
{
    static const char mark[] = "\"text\":\"";
    if (!text)
        return false;
    text += sizeof(mark) - 1;
    size_t before = (size_t)(text - event);
    const char *end = memchr(text, '"', n - before);
    if (!end)
        return false;
    if (!r->form.n) {
        buf_add(&r->form, event, before);
        buf_add(&r->form, end, n - (size_t)(end - event));
        r->before = before;
        r->next = *text;
    }
    size_t letters = (size_t)(end - text);
    if (before != r->before || memcmp(event, r->form.data, before) != 0 ||
        !ends_well(r, end, n - before - letters))
        return false;
    for (; text < end; text++) {
        if (*text != r->next)
            return false;
        r->next = r->next == 'z' ? 'a' : (char)(r->next + 1);
        r->n_letters++;
    }
    return letters > 0;
}

static bool take_event(struct reader *r, const char *event, size_t n, struct gaps *g)
{
    uint64_t now = now_ns();
    if (n == 14 && memcmp(event, "data: [DONE]\n\n", n) == 0)
        return true;
    int64_t letters = r->n_letters;
    const char *text = memmem(event, n, "\"text\":\"", 8);
    /* The last event has the reason and no text. */
    if (text && text[8] == '"')
        return memmem(event, n, "\"finish_reason\":\"length\"", 24) != NULL;
    if (!take_text(r, event, n, text))
        return false;
    g->merged += r->n_letters > letters + 1;
    if (r->n_events++)
        note_gap(g, now - r->last_ns);
    r->last_ns = now;
    return true;
}

/* A chunk holds whole events. */
static bool take_chunk(struct reader *r, const char *data, size_t n, struct gaps *g)
{
    while (n) {
        const char *end = memmem(data, n, "\n\n", 2);
        if (!end)
            return false;
        size_t bytes = (size_t)(end - data) + 2;
        if (!take_event(r, data, bytes, g))
            return false;
        data += bytes;
        n -= bytes;
    }
    return true;
}

/* As many whole chunks as have come; false: not as it should be. */
static bool take_bytes(struct reader *r, struct gaps *g)
{
    size_t at = 0;
    if (!r->head_seen) {
        const char *end = memmem(r->got.data, r->got.n, "\r\n\r\n", 4);
        if (!end)
            return true;
        if (memcmp(r->got.data, "HTTP/1.1 200", 12) != 0)
            return false;
        at = (size_t)(end - r->got.data) + 4;
        r->head_seen = true;
    }
    while (!r->ended) {
        const char *line = r->got.data + at;
        const char *end = memmem(line, r->got.n - at, "\r\n", 2);
        if (!end)
            break;
        char *stop;
        size_t size = strtoul(line, &stop, 16);
        size_t head = (size_t)(end - line) + 2;
        if (stop != end)
            return false;
        if (r->got.n - at < head + size + 2)
            break;
        if (memcmp(line + head + size, "\r\n", 2) != 0 || !take_chunk(r, line + head, size, g))
            return false;
        at += head + size + 2;
        r->ended = size == 0;
    }
    memmove(r->got.data, r->got.data + at, r->got.n - at);
    r->got.n -= at;
    return true;
}

static void start_reader(struct reader *r, int port, int nth, int tokens)
{
    struct buf b = {0};
    struct buf body = {0};
    buf_printf(&body, "{\"prompt\":\"Count.\",\"stream\":true,\"temperature\":0,\"max_tokens\":%d}",
               tokens);
    buf_printf(&b, "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n",
               body.n);
    buf_add(&b, body.data, body.n);
    r->fd = join(port, nth);
    send_all(r->fd, &b);
    buf_free(&b);
    buf_free(&body);
}

static int compare_us(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile_ms(const struct gaps *g, double q)
{
    return g->n ? g->us[(size_t)(q * (double)(g->n - 1))] * 1e-3 : 0;
}

/* Returns whether it is over. */
static bool read_some(struct reader *r, struct gaps *g)
{
    char data[READ_BYTES];
    ssize_t n = recv(r->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0)
        buf_add(&r->got, data, (size_t)n);
    if (n <= 0 || !take_bytes(r, g)) {
        if (g->wrong++ == 0)
            (void)fprintf(stderr, "wrong after %lld events: %.*s\n", (long long)r->n_events,
                          (int)(r->got.n < 400 ? r->got.n : 400), r->got.n ? r->got.data : "");
        return true;
    }
    return r->ended;
}

static int streams(int port, int n, int seconds, double pace_ms)
{
    more_files();
    int tokens = (int)(seconds * 1000 / pace_ms);
    struct gaps g = {0};
    struct reader *r = calloc((size_t)n, sizeof(*r));
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (!r || poll < 0)
        die("memory");
    for (int i = 0; i < n; i++) {
        start_reader(&r[i], port, i, tokens);
        struct epoll_event e = {.events = EPOLLIN, .data = {.ptr = &r[i]}};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, r[i].fd, &e))
            die("epoll");
    }
    int open = n;
    while (open) {
        struct epoll_event e[EVENTS_MAX];
        int found = epoll_wait(poll, e, EVENTS_MAX, -1);
        for (int i = 0; i < found; i++) {
            struct reader *one = e[i].data.ptr;
            if (!read_some(one, &g))
                continue;
            (void)close(one->fd);
            open--;
        }
    }
    int64_t letters = 0;
    int64_t events = 0;
    int64_t cut = 0;
    for (int i = 0; i < n; i++) {
        letters += r[i].n_letters;
        events += r[i].n_events;
        cut += r[i].n_letters != tokens;
    }
    if (g.n)
        qsort(g.us, g.n, sizeof(*g.us), compare_us);
    (void)printf("streams %d, %lld events of %lld tokens, wrong %lld, cut %lld, merged %lld; gaps "
                 "p50 %.1f ms, p99 %.1f ms, max %.1f ms (pace %.1f ms, p99 / pace %.2f)\n",
                 n, (long long)events, (long long)letters, (long long)g.wrong, (long long)cut,
                 (long long)g.merged, quantile_ms(&g, 0.5), quantile_ms(&g, 0.99),
                 quantile_ms(&g, 1), pace_ms, quantile_ms(&g, 0.99) / pace_ms);
    return g.wrong || cut ? 1 : 0;
}

static const char usage_text[] = "usage: bench_door serve [--pace-ms N] [options]\n"
                                 "       bench_door streams PORT STREAMS SECONDS PACE-MS\n"
                                 "       bench_door idle PORT CONNECTIONS PID\n";

int main(int argc, char **argv)
{
    usage_if_asked(argc, argv, usage_text);
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        return serve(argc, argv);
    if (argc == 6 && strcmp(argv[1], "streams") == 0)
        return streams((int)strtol(argv[2], NULL, 10), (int)strtol(argv[3], NULL, 10),
                       (int)strtol(argv[4], NULL, 10), strtod(argv[5], NULL));
    if (argc == 5 && strcmp(argv[1], "idle") == 0)
        return idle((int)strtol(argv[2], NULL, 10), (int)strtol(argv[3], NULL, 10), argv[4]);
    (void)fputs(usage_text, stderr);
    return 2;
}
