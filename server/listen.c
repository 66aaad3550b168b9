/* A Unix socket is bound here and not by libuv, which would remove whatever lies at its path when
 * it closes: another server may have come to live there. The file is ours as long as its inode
 * is. */
#include "server/listen.h"

#include "server/address.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    struct address address;
    dev_t dev; /* of the Unix socket's file; inode 0: none */
    ino_t inode;
};

struct listeners {
    struct conn_set *conns;
    char first[ADDRESS_TEXT_MAX + 32];
    int32_t n;
    struct listener listener[CONN_LISTENERS_MAX];
};

static void on_connection(uv_stream_t *stream, int err)
{
    struct listeners *l = stream->data;
    if (err)
        conn_accept_failed(l->conns, err);
    else
        conn_accept(l->conns, stream);
}

static enum status cannot(const char *text, const char *why)
{
    log_line(LOG_ERROR, "cannot listen on %.160s: %s", text, why);
    return E_IO;
}

/* -- Unix sockets -- */

static bool somebody_answers(const struct sockaddr_un *at)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    bool refused = connect(fd, (const struct sockaddr *)at, sizeof(*at)) && errno == ECONNREFUSED;
    (void)close(fd);
    return !refused;
}

/* NULL, or why the path cannot be used. */
static const char *make_room(const struct sockaddr_un *at)
{
    struct stat st;
    if (lstat(at->sun_path, &st))
        return errno == ENOENT ? NULL : strerror(errno);
    if (!S_ISSOCK(st.st_mode))
        return "something else is there that is no socket";
    if (somebody_answers(at))
        return "another server listens there";
    return unlink(at->sun_path) ? strerror(errno) : NULL;
}

/* Nobody can connect before it listens, so its mode is right from the start. */
static const char *bind_unix(struct listener *n, int32_t mode, int *out)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct stat st;
    memcpy(at.sun_path, n->address.path, sizeof(n->address.path));
    const char *wrong = make_room(&at);
    if (wrong)
        return wrong;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return strerror(errno);
    if (bind(fd, (const struct sockaddr *)&at, sizeof(at))) {
        wrong = strerror(errno);
        (void)close(fd);
        return wrong;
    }
    if (chmod(at.sun_path, (mode_t)mode) || lstat(at.sun_path, &st)) {
        wrong = strerror(errno);
        (void)unlink(at.sun_path);
        (void)close(fd);
        return wrong;
    }
    n->dev = st.st_dev;
    n->inode = st.st_ino;
    *out = fd;
    return NULL;
}

static void remove_unix(struct listener *n)
{
    struct stat st;
    if (n->inode && lstat(n->address.path, &st) == 0 && st.st_ino == n->inode &&
        st.st_dev == n->dev)
        (void)unlink(n->address.path);
    n->inode = 0;
}

static enum status open_unix(struct listener *n, const char *text, int32_t mode)
{
    int fd = -1;
    const char *wrong = bind_unix(n, mode, &fd);
    if (wrong)
        return cannot(text, wrong);
    int err = uv_pipe_open(&n->io.pipe, fd);
    if (err) {
        (void)close(fd);
        return cannot(text, uv_strerror(err));
    }
    err = uv_listen(&n->io.stream, CONN_BACKLOG, on_connection);
    if (err)
        return cannot(text, uv_strerror(err));
    log_line(LOG_INFO, "listening on %s", text);
    return OK;
}

/* -- TCP -- */

/* An IPv6 listener takes IPv6 alone, so that one for each can stand side by side. */
static enum status open_tcp(struct listener *n, const char *text, const struct options *o)
{
    bool six = n->address.at.ss_family == AF_INET6;
    int err =
        uv_tcp_bind(&n->io.tcp, (const struct sockaddr *)&n->address.at, six ? UV_TCP_IPV6ONLY : 0);
    if (err == 0)
        err = uv_listen(&n->io.stream, CONN_BACKLOG, on_connection);
    if (err) {
        char why[ADDRESS_TEXT_MAX];
        (void)snprintf(why, sizeof(why), "%s%s", uv_strerror(err),
                       err == UV_EADDRINUSE ? "; --port takes another" : "");
        return cannot(text, why);
    }
    /* As it came out, for port 0 takes any. */
    int bytes = sizeof(n->address.at);
    char found[ADDRESS_TEXT_MAX];
    (void)uv_tcp_getsockname(&n->io.tcp, (struct sockaddr *)&n->address.at, &bytes);
    address_print(found, &n->address.at);
    log_line(LOG_INFO, "listening on %s://%s", o->tls_cert[0] ? "https" : "http", found);
    return OK;
}

/* -- all -- */

static void describe(struct listeners *l, const struct listener *n, const struct options *o)
{
    char text[ADDRESS_TEXT_MAX];
    if (n->address.path[0]) {
        (void)snprintf(l->first, sizeof(l->first), "--unix-socket %s http://localhost",
                       n->address.path);
        return;
    }
    address_print(text, &n->address.at);
    (void)snprintf(l->first, sizeof(l->first), "%s://%s", o->tls_cert[0] ? "https" : "http", text);
}

static enum status open_one(struct listeners *l, struct uv_loop_s *loop, const char *text,
                            const struct options *o)
{
    struct listener *n = &l->listener[l->n];
    if (!address_parse(&n->address, text)) {
        log_line(LOG_ERROR, "%.160s is not an address to listen on", text);
        return E_INVALID;
    }
    bool tcp = n->address.at.ss_family != 0;
    int err = tcp ? uv_tcp_init(loop, &n->io.tcp) : uv_pipe_init(loop, &n->io.pipe, 0);
    if (err)
        return cannot(text, uv_strerror(err));
    n->io.handle.data = l;
    l->n++;
    enum status s = tcp ? open_tcp(n, text, o) : open_unix(n, text, o->unix_mode);
    if (s == OK && l->n == 1)
        describe(l, n, o);
    return s;
}

enum status listeners_open(struct listeners **out, struct uv_loop_s *loop, const struct options *o,
                           struct conn_set *conns)
{
    struct listeners *l = calloc(1, sizeof(*l));
    if (!l)
        return E_NOMEM;
    /* The caller has it from here on: handles that are open must be closed by the loop. */
    *out = l;
    l->conns = conns;
    if (o->listen.n == 0) {
        char text[ADDRESS_TEXT_MAX];
        address_join(text, o->host, o->port);
        return open_one(l, loop, text, o);
    }
    static_assert((int)TEXT_LIST_MAX <= (int)CONN_LISTENERS_MAX, "every --listen has a place");
    for (int32_t i = 0; i < o->listen.n; i++) {
        enum status s = open_one(l, loop, o->listen.item[i], o);
        if (s)
            return s;
    }
    return OK;
}

void listeners_close(struct listeners *l)
{
    for (int32_t i = 0; l && i < l->n; i++) {
        struct listener *n = &l->listener[i];
        remove_unix(n);
        if (!uv_is_closing(&n->io.handle))
            uv_close(&n->io.handle, NULL);
    }
}

void listeners_free(struct listeners *l)
{
    free(l);
}

const char *listeners_address(const struct listeners *l)
{
    return l->first;
}
