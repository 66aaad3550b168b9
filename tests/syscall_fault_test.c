/* Aim: a system call that fails between a request's first byte and its answer's last costs at most
 * the connection it was for. Every call of each kind that a round of requests makes fails once,
 * with each of its errors, or does less than it was asked to; then nothing is left, and the next
 * request has its whole answer.
 *
 * The calls are libuv's as well as ours: this program defines them itself, and shared libraries
 * find its definitions first. Not failed are epoll_ctl() and reads of the loop's own event
 * descriptor, after which libuv gives up by design, and close(), which it calls past libc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/serve_rig.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define EXPORTED __attribute__((visibility("default")))

enum call {
    CALL_READ,
    CALL_WRITE,
    CALL_ACCEPT,
    CALL_SHUTDOWN,
    CALL_PEER,
    CALL_OPTION,
    CALL_RANDOM,
    CALL_EPOLL,
    N_CALLS,
};

static const char *const names[N_CALLS] = {"read",        "write",      "accept4",   "shutdown",
                                           "getpeername", "setsockopt", "getrandom", "epoll_wait"};

enum { SHORT = -1, ERRORS_MAX = 9 };

/* SHORT: one byte instead of all. */
static const int errors[N_CALLS][ERRORS_MAX] = {
    [CALL_READ] = {EINTR, EAGAIN, ECONNRESET, ETIMEDOUT, EIO, ENOMEM, ENOTCONN, SHORT},
    [CALL_WRITE] = {EINTR, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, EIO, ENOMEM, SHORT},
    [CALL_ACCEPT] = {EINTR, EAGAIN, ECONNABORTED, EMFILE, ENFILE, ENOMEM, ENOBUFS, EPERM, EPROTO},
    [CALL_SHUTDOWN] = {ENOTCONN, EINVAL, ENOBUFS},
    [CALL_PEER] = {ENOTCONN, ENOBUFS, EINVAL},
    [CALL_OPTION] = {EINVAL, ENOPROTOOPT, ENOMEM},
    [CALL_RANDOM] = {EINTR, EAGAIN, SHORT},
    [CALL_EPOLL] = {EINTR},
};

static struct {
    bool on; /* only this thread's calls */
    pthread_t thread;
    enum call call;
    int error;
    long at; /* 0: none */
    long n[N_CALLS];
} fault;

/* What this call has to do: 0, SHORT or an error. */
static int verdict(enum call call)
{
    if (!fault.on || !pthread_equal(fault.thread, pthread_self()))
        return 0;
    long n = ++fault.n[call];
    return call == fault.call && n == fault.at ? fault.error : 0;
}

static int fail_with(int error)
{
    errno = error;
    return -1;
}

static bool is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

EXPORTED ssize_t read(int fd, void *data, size_t n)
{
    int v = is_socket(fd) ? verdict(CALL_READ) : 0;
    if (v > 0)
        return fail_with(v);
    return syscall(SYS_read, fd, data, v == SHORT && n ? 1 : n);
}

EXPORTED ssize_t write(int fd, const void *data, size_t n)
{
    int v = is_socket(fd) ? verdict(CALL_WRITE) : 0;
    if (v > 0)
        return fail_with(v);
    return syscall(SYS_write, fd, data, v == SHORT && n ? 1 : n);
}

EXPORTED int accept4(int fd, __SOCKADDR_ARG from, socklen_t *bytes, int flags)
{
    int v = verdict(CALL_ACCEPT);
    return v > 0 ? fail_with(v) : (int)syscall(SYS_accept4, fd, from.__sockaddr__, bytes, flags);
}

EXPORTED int shutdown(int fd, int how)
{
    int v = verdict(CALL_SHUTDOWN);
    return v > 0 ? fail_with(v) : (int)syscall(SYS_shutdown, fd, how);
}

EXPORTED int getpeername(int fd, __SOCKADDR_ARG at, socklen_t *bytes)
{
    int v = verdict(CALL_PEER);
    return v > 0 ? fail_with(v) : (int)syscall(SYS_getpeername, fd, at.__sockaddr__, bytes);
}

EXPORTED int setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
    int v = verdict(CALL_OPTION);
    return v > 0 ? fail_with(v) : (int)syscall(SYS_setsockopt, fd, level, name, value, bytes);
}

EXPORTED ssize_t getrandom(void *data, size_t n, unsigned flags)
{
    int v = verdict(CALL_RANDOM);
    if (v > 0)
        return fail_with(v);
    return syscall(SYS_getrandom, data, v == SHORT && n ? 1 : n, flags);
}

struct epoll_event;
int epoll_pwait(int fd, struct epoll_event *events, int n, int ms, const sigset_t *mask);

EXPORTED int epoll_pwait(int fd, struct epoll_event *events, int n, int ms, const sigset_t *mask)
{
    int v = verdict(CALL_EPOLL);
    return v > 0 ? fail_with(v)
                 : (int)syscall(SYS_epoll_pwait, fd, events, n, ms, mask, (size_t)_NSIG / 8);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int ms);

EXPORTED int epoll_wait(int fd, struct epoll_event *events, int n, int ms)
{
    return epoll_pwait(fd, events, n, ms, NULL);
}

#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}],\"max_tokens\":3"

static const struct {
    const char *head;
    const char *body;
} requests[] = {
    {"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n", CHAT "}"},
    {"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n", CHAT ",\"stream\":true}"},
    {"POST /v1/nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", "{}"},
};

static void send_request(struct client *c, size_t i)
{
    struct buf b = {0};
    buf_printf(&b, "%sContent-Length: %zu\r\n\r\n%s", requests[i].head, strlen(requests[i].body),
               requests[i].body);
    (void)send(c->fd, b.data, b.n, MSG_NOSIGNAL);
    buf_free(&b);
}

static void serves_on(struct serve *s)
{
    struct client c;
    client_open(&c, &s->g);
    send_request(&c, 1);
    client_wait_text(s, &c, "data: [DONE]\n\n\r\n0\r\n\r\n");
    send_request(&c, 0);
    client_wait_text(s, &c, "\"finish_reason\":\"length\"");
    client_close(&c);
    serve_settle(s);
}

static void run(struct serve *s, enum call call, int error, long at)
{
    enum { TURNS_MIN = 15, SCENARIO_MS = 400 };
    struct client c[ARRAY_LEN(requests)];
    memset(fault.n, 0, sizeof(fault.n));
    fault.call = call;
    fault.error = error;
    fault.at = at;
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        client_open(&c[i], &s->g);
        send_request(&c[i], i);
    }
    uint64_t until = clock_ms() + SCENARIO_MS;
    for (int i = 0; i < TURNS_MIN || (s->env.first && clock_ms() < until); i++) {
        fault.on = true;
        rig_turn(&s->g);
        fault.on = false;
        usleep(20);
    }
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        client_close(&c[i]);
    for (uint64_t end = clock_ms() + SCENARIO_MS; conn_set_count(s->g.set) && clock_ms() < end;) {
        fault.on = true;
        rig_turn(&s->g);
        fault.on = false;
    }
    serve_settle(s);
}

static void test_every_call(void **state)
{
    (void)state;
    static struct serve s;
    long found[N_CALLS];
    serve_open(&s, &rig_limits);
    log_setup(LOG_ERROR, false);
    fault.thread = pthread_self();
    serves_on(&s);
    run(&s, CALL_READ, 0, 0);
    memcpy(found, fault.n, sizeof(found));
    for (int i = 0; i < N_CALLS; i++) {
        print_message("%s: %ld calls\n", names[i], found[i]);
        /* Whether a call is made at all is what this test stands on. */
        assert_true(found[i] > 0);
        for (int e = 0; e < ERRORS_MAX && errors[i][e]; e++)
            for (long at = 1; at <= found[i] + 1; at++)
                run(&s, (enum call)i, errors[i][e], at);
        serves_on(&s);
    }
    serve_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_call)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
