/* All connections: the door, the clock, and the way out.
 *
 * The door. A listener whose callback returns without uv_accept() stops polling for good, so every
 * connection is accepted: into a conn, or, when there is no room or no memory for one, into the
 * spare handle, which is closed at once. If the spare is still closing, its close callback accepts.
 * A descriptor is kept in reserve: without one, libuv would try to accept forever, on this thread.
 *
 * The clock. One timer for all; each list of waiting connections is in order of deadlines, so a
 * tick looks at the first of each list, not at ten thousand.
 *
 * Invariant: every conn is in exactly one list; n_conns counts them until their handle is closed.
 */
#include "server/conn_private.h"

#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TICK_MS_MAX = 250,
    TICK_MS_MIN = 5,
    TICKS_PER_LIMIT = 8,
    REFUSED_LOG_MS = 1000,
    KEEPALIVE_S = 30,
    NO_FD_SLEEP_MS = 10,
    ACCEPTS_PER_TURN = 64,
    BODY_WINDOW_MS = 5000,
    OTHER_FILES = 128, /* that a process has beside connections, and some more */
};

static struct conn *conn_of(struct link *l)
{
    return CONTAINER_OF(l, struct conn, link);
}

/* -- the reserve -- */

static bool take_reserve(struct conn_set *s)
{
    if (s->reserve_fd < 0)
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return s->reserve_fd >= 0;
}

static void give_reserve(struct conn_set *s)
{
    if (s->reserve_fd >= 0)
        close(s->reserve_fd);
    s->reserve_fd = -1;
}

/* -- the way out -- */

static void check_empty(struct conn_set *s)
{
    bool open = s->n_conns || s->timer_open || s->spare_open || s->widest_open ||
                s->next_turn_open || s->n_turn_open;
    if (!s->closing || open || !s->on_empty)
        return;
    void (*on_empty)(void *arg) = s->on_empty;
    s->on_empty = NULL;
    on_empty(s->on_empty_arg);
}

void conn_set_drop(struct conn *c)
{
    struct conn_set *s = c->set;
    link_remove(&c->link);
    link_remove(&c->flushed);
    peers_drop(c->peer);
    free(c);
    s->n_conns--;
    if (s->n_conns == 0 && s->timer_open)
        uv_timer_stop(&s->timer);
    check_empty(s);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct conn_set *s = handle->data;
    s->timer_open = false;
    check_empty(s);
}

static void on_next_turn_closed(uv_handle_t *handle)
{
    struct conn_set *s = handle->data;
    s->next_turn_open = false;
    check_empty(s);
}

static void on_turn_closed(uv_handle_t *handle)
{
    struct conn_set *s = handle->data;
    s->n_turn_open--;
    check_empty(s);
}

/* Whoever was about to ask gets an answer, if he asks soon. */
static void refuse_late(struct conn_set *s)
{
    static const enum conn_wait asking[] = {WAIT_HEAD, WAIT_BODY};
    if (!s->draining || uv_now(s->loop) - s->drain_ms < s->limits.drain_grace_ms)
        return;
    for (size_t i = 0; i < ARRAY_LEN(asking); i++)
        while (!link_alone(&s->wait[asking[i]]))
            conn_refuse_late(conn_of(s->wait[asking[i]].next));
}

void conn_set_drain(struct conn_set *s)
{
    static const enum conn_wait silent[] = {WAIT_HANDSHAKE, WAIT_IDLE};
    if (!s->draining)
        s->drain_ms = uv_now(s->loop);
    s->draining = true;
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        while (!link_alone(&s->wait[silent[i]]))
            conn_leave(conn_of(s->wait[silent[i]].next));
    refuse_late(s);
}

void conn_set_tls(struct conn_set *s, struct tls_config *g)
{
    s->tls = g;
}

void conn_set_close(struct conn_set *s, void (*on_empty)(void *arg), void *arg)
{
    assert(!s->closing);
    s->draining = true;
    s->closing = true;
    s->n_waiting = 0;
    s->on_empty = on_empty;
    s->on_empty_arg = arg;
    for (int32_t i = 0; i < N_WAITS; i++)
        for (struct link *l = s->wait[i].next; l != &s->wait[i];) {
            struct conn *c = conn_of(l);
            l = l->next;
            conn_kill(c);
        }
    give_reserve(s);
    s->n_late = 0;
    uv_close((uv_handle_t *)&s->turn_end, on_turn_closed);
    uv_close((uv_handle_t *)&s->turn_more, on_turn_closed);
    uv_close((uv_handle_t *)&s->next_turn, on_next_turn_closed);
    uv_close((uv_handle_t *)&s->timer, on_timer_closed);
}

void conn_set_free(struct conn_set *s)
{
    if (!s)
        return;
    assert(s->n_conns == 0);
    assert(!s->timer_open);
    assert(!s->spare_open);
    assert(!s->widest_open);
    assert(!s->next_turn_open);
    assert(s->n_turn_open == 0);
    peers_close(s->peers);
    free(s);
}

int32_t conn_set_count(const struct conn_set *s)
{
    return s->n_conns;
}

/* -- the end of a turn -- */

static void on_turn_more(uv_idle_t *idle)
{
    (void)idle;
}

/* Who is told may send at once and is told again in the next turn. */
static void on_turn_end(uv_check_t *check)
{
    struct conn_set *s = check->data;
    struct link now;
    link_init(&now);
    link_move_all(&s->flushed, &now);
    while (!link_alone(&now)) {
        struct conn *c = CONTAINER_OF(now.next, struct conn, flushed);
        link_remove(&c->flushed);
        conn_flushed(c);
    }
    if (link_alone(&s->flushed))
        uv_idle_stop(&s->turn_more);
}

void conn_set_flushed(struct conn *c)
{
    struct conn_set *s = c->set;
    if (link_alone(&s->flushed))
        uv_idle_start(&s->turn_more, on_turn_more);
    link_before(&s->flushed, &c->flushed);
}

static bool open_turn(struct conn_set *s)
{
    if (uv_check_init(s->loop, &s->turn_end) || uv_idle_init(s->loop, &s->turn_more))
        return false;
    s->turn_end.data = s;
    s->turn_more.data = s;
    s->n_turn_open = 2;
    /* What only tells the end of writes keeps no loop alive. */
    (void)uv_check_start(&s->turn_end, on_turn_end);
    uv_unref((uv_handle_t *)&s->turn_end);
    return true;
}

/* -- the clock -- */

void conn_set_wait(struct conn *c, enum conn_wait what)
{
    struct conn_set *s = c->set;
    link_remove(&c->link);
    link_before(&s->wait[what], &c->link);
    c->waits_for = what;
    c->since_ms = uv_now(s->loop);
}

static void on_tick(uv_timer_t *timer)
{
    struct conn_set *s = timer->data;
    uint64_t now = uv_now(s->loop);
    for (int32_t i = WAIT_NONE + 1; i < N_WAITS; i++) {
        struct link *head = &s->wait[i];
        /* Every expiry moves the first away: to another list, or to the end as of now. */
        while (!link_alone(head) && conn_of(head->next)->since_ms + s->wait_ms[i] <= now)
            conn_expire(conn_of(head->next));
    }
    refuse_late(s);
}

static uint64_t tick_for(const uint64_t wait_ms[N_WAITS])
{
    uint64_t tick = TICK_MS_MAX;
    for (int32_t i = WAIT_NONE + 1; i < N_WAITS; i++)
        if (wait_ms[i] && wait_ms[i] / TICKS_PER_LIMIT < tick)
            tick = wait_ms[i] / TICKS_PER_LIMIT;
    return tick < TICK_MS_MIN ? TICK_MS_MIN : tick;
}

/* -- the door -- */

static void on_widest_closed(uv_handle_t *handle)
{
    struct conn_set *s = handle->data;
    close(s->widest_fd);
    s->widest_open = false;
    check_empty(s);
}

/* libuv has a table with a place for every descriptor up to the largest it has watched, and aborts
 * when it cannot grow it. So it grows now, while nobody is served: to the largest there can be.
 * Where this fails everything works as long as there is memory. */
static void widen_loop(struct conn_set *s)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    s->widest_fd = fcntl(fd, F_DUPFD_CLOEXEC, s->limits.conns_max + OTHER_FILES);
    (void)close(fd);
    if (s->widest_fd < 0)
        return;
    if (uv_poll_init_socket(s->loop, &s->widest, s->widest_fd)) {
        (void)close(s->widest_fd);
        return;
    }
    s->widest.data = s;
    s->widest_open = true;
    (void)uv_poll_start(&s->widest, UV_READABLE, NULL);
    (void)uv_poll_stop(&s->widest);
    uv_close((uv_handle_t *)&s->widest, on_widest_closed);
}

enum status conn_set_open(struct conn_set **out, struct uv_loop_s *loop,
                          const struct conn_limits *limits, const struct conn_handler *handler)
{
    assert(limits->conns_max > 0 && limits->ahead_bytes_max > 0);
    assert(limits->idle_ms_max && limits->head_ms_max && limits->body_ms_max);
    assert(limits->write_ms_max);
    struct conn_set *s = calloc(1, sizeof(*s));
    if (!s)
        return E_NOMEM;
    s->loop = loop;
    s->limits = *limits;
    s->handler = *handler;
    s->reserve_fd = -1;
    if (peers_open(&s->peers)) {
        free(s);
        return E_NOMEM;
    }
    (void)take_reserve(s);
    for (int32_t i = 0; i < N_WAITS; i++)
        link_init(&s->wait[i]);
    s->wait_ms[WAIT_IDLE] = limits->idle_ms_max;
    s->wait_ms[WAIT_HEAD] = limits->head_ms_max;
    s->wait_ms[WAIT_HANDSHAKE] = limits->handshake_ms_max;
    s->body_windows_max = (int32_t)((limits->body_ms_max + BODY_WINDOW_MS - 1) / BODY_WINDOW_MS);
    s->wait_ms[WAIT_BODY] = limits->body_ms_max / (uint64_t)s->body_windows_max;
    s->wait_ms[WAIT_WRITE] = limits->write_ms_max;
    s->wait_ms[WAIT_LINGER] = LINGER_MS;
    s->tick_ms = tick_for(s->wait_ms);
    link_init(&s->flushed);
    if (uv_idle_init(loop, &s->next_turn) || uv_timer_init(loop, &s->timer) || !open_turn(s)) {
        give_reserve(s);
        peers_close(s->peers);
        free(s);
        return E_IO;
    }
    s->timer.data = s;
    s->timer_open = true;
    s->next_turn.data = s;
    s->next_turn_open = true;
    widen_loop(s);
    *out = s;
    return OK;
}

/* Of the listener's kind. */
static int open_socket(uv_loop_t *loop, const uv_stream_t *listener, union socket *io)
{
    if (listener->type == UV_NAMED_PIPE)
        return uv_pipe_init(loop, &io->pipe, 0);
    return uv_tcp_init(loop, &io->tcp);
}

/* A failed uv_accept() leaves the listener without polling; listening again is what wakes it. */
static bool accept_into(uv_stream_t *listener, union socket *io)
{
    if (uv_accept(listener, &io->stream) == 0)
        return true;
    if (!uv_is_closing((uv_handle_t *)listener) &&
        uv_listen(listener, CONN_BACKLOG, listener->connection_cb))
        log_line(LOG_ERROR, "the listener has failed and takes no more connections");
    return false;
}

static void on_spare_closed(uv_handle_t *handle)
{
    struct conn_set *s = handle->data;
    uv_stream_t *waiting[CONN_LISTENERS_MAX];
    int32_t n = s->n_waiting;
    memcpy(waiting, s->waiting, sizeof(waiting));
    s->spare_open = false;
    s->n_waiting = 0;
    if (!s->closing)
        (void)take_reserve(s);
    for (int32_t i = 0; i < n; i++)
        if (!uv_is_closing((uv_handle_t *)waiting[i]))
            conn_accept(s, waiting[i]);
    check_empty(s);
}

/* A flood of connections shall not be a flood of lines. */
static void note_refused(struct conn_set *s, const char *why)
{
    uint64_t now = uv_now(s->loop);
    s->n_refused++;
    if (s->refused_ms && now - s->refused_ms < REFUSED_LOG_MS)
        return;
    log_line(LOG_WARN, "%llu connections refused, %d are open: %s",
             (unsigned long long)s->n_refused, (int)s->n_conns, why);
    s->n_refused = 0;
    s->refused_ms = now;
}

static void refuse(struct conn_set *s, uv_stream_t *listener)
{
    if (s->spare_open) {
        /* A listener says nothing more until it has been accepted from, so each is here once. */
        assert(s->n_waiting < CONN_LISTENERS_MAX);
        s->waiting[s->n_waiting++] = listener;
        return;
    }
    if (open_socket(s->loop, listener, &s->spare)) {
        log_line(LOG_ERROR, "a connection could not be refused");
        return;
    }
    note_refused(s, s->draining ? "shutting down" : "limit reached");
    s->spare.handle.data = s;
    s->spare_open = true;
    accept_into(listener, &s->spare);
    uv_close(&s->spare.handle, on_spare_closed);
}

static struct conn *conn_new(struct conn_set *s, const uv_stream_t *listener)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    if (s->tls && listener->type == UV_TCP && tls_open(&c->tls, s->tls)) {
        free(c);
        return NULL;
    }
    if (open_socket(s->loop, listener, &c->io)) {
        tls_close(c->tls);
        free(c);
        return NULL;
    }
    c->io.handle.data = c;
    c->set = s;
    link_init(&c->link);
    link_init(&c->flushed);
    return c;
}

/* None of these changes what is right, only how soon and how much: tokens are small, dead peers
 * are silent, and without a bound the kernel would keep megabytes for each slow reader. So a
 * failure here is not worth a connection. */
static void tune(struct conn *c)
{
    int fd;
    int send_bytes = SEND_BYTES;
    unsigned unacknowledged_ms = (unsigned)c->set->limits.write_ms_max;
    uv_send_buffer_size(&c->io.handle, &send_bytes);
    if (c->io.handle.type != UV_TCP)
        return;
    uv_tcp_nodelay(&c->io.tcp, 1);
    uv_tcp_keepalive(&c->io.tcp, 1, KEEPALIVE_S);
    if (uv_fileno(&c->io.handle, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms,
                   sizeof(unacknowledged_ms));
}

/* Who has come, and whether he has a place. An address that cannot be told is a peer that has
 * already left. */
static enum status identify(struct conn *c)
{
    struct sockaddr_storage from;
    int n = sizeof(from);
    if (c->io.handle.type != UV_TCP) {
        memcpy(c->address, "unix", sizeof("unix"));
        return OK;
    }
    memset(&from, 0, sizeof(from));
    if (uv_tcp_getpeername(&c->io.tcp, (struct sockaddr *)&from, &n))
        return E_IO;
    if (from.ss_family == AF_INET6)
        (void)uv_ip6_name((const struct sockaddr_in6 *)&from, c->address, sizeof(c->address));
    else
        (void)uv_ip4_name((const struct sockaddr_in *)&from, c->address, sizeof(c->address));
    int32_t most = c->set->limits.address_conns_max;
    if (most == 0)
        return OK;
    return peers_take(c->set->peers, (const struct sockaddr *)&from, most, &c->peer);
}

const char *conn_address(const struct conn *c)
{
    return c->address;
}

static void on_next_turn(uv_idle_t *idle)
{
    struct conn_set *s = idle->data;
    uv_stream_t *late[CONN_LISTENERS_MAX];
    int32_t n = s->n_late;
    memcpy(late, s->late, sizeof(late));
    s->n_late = 0;
    s->n_accepted = 0;
    uv_idle_stop(idle);
    for (int32_t i = 0; i < n; i++)
        if (!uv_is_closing((uv_handle_t *)late[i]))
            conn_accept(s, late[i]);
}

/* libuv goes on as long as there is somebody to accept, and those who are in would wait. A listener
 * that is not accepted from says nothing more, so the rest is left for the next turn. */
static bool is_too_late(struct conn_set *s, struct uv_stream_s *listener)
{
    uv_idle_start(&s->next_turn, on_next_turn);
    if (s->n_accepted++ < ACCEPTS_PER_TURN)
        return false;
    assert(s->n_late < CONN_LISTENERS_MAX);
    s->late[s->n_late++] = listener;
    return true;
}

void conn_accept(struct conn_set *s, struct uv_stream_s *listener)
{
    if (!s->closing && is_too_late(s, listener))
        return;
    bool room = s->n_conns < s->limits.conns_max && !s->draining && take_reserve(s);
    struct conn *c = room ? conn_new(s, listener) : NULL;
    if (!c) {
        refuse(s, listener);
        return;
    }
    if (s->n_conns++ == 0)
        uv_timer_start(&s->timer, on_tick, s->tick_ms, s->tick_ms);
    conn_set_wait(c, WAIT_NONE);
    if (!accept_into(listener, &c->io)) {
        conn_kill(c);
        return;
    }
    enum status status = identify(c);
    if (status) {
        if (status == E_AGAIN)
            note_refused(s, "too many from one address");
        conn_kill(c);
        return;
    }
    tune(c);
    conn_start(c);
}

/* The connection that is missed least: its descriptor is free when this returns. */
static bool shed_one(struct conn_set *s)
{
    static const enum conn_wait order[N_WAITS] = {WAIT_LINGER, WAIT_HANDSHAKE, WAIT_IDLE, WAIT_HEAD,
                                                  WAIT_BODY,   WAIT_WRITE,     WAIT_NONE};
    for (size_t i = 0; i < N_WAITS; i++) {
        struct link *head = &s->wait[order[i]];
        for (struct link *l = head->next; l != head; l = l->next)
            if (conn_of(l)->state != CONN_CLOSED) {
                conn_kill(conn_of(l));
                return true;
            }
    }
    return false;
}

void conn_accept_failed(struct conn_set *s, int err)
{
    note_refused(s, uv_strerror(err));
    if (err != UV_EMFILE && err != UV_ENFILE)
        return;
    if (s->reserve_fd >= 0)
        give_reserve(s);
    else if (!shed_one(s))
        uv_sleep(NO_FD_SLEEP_MS); /* nobody is served who could notice */
}
