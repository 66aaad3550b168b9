/* A buffer in front of a file. A disk that is full or slow costs lines, which are counted, never
 * an answer: writes to a pipe do not block, and what is not taken is dropped. */
#include "server/access.h"

#include "server/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { GATHER_BYTES = 64 * 1024, TIME_TEXT_MAX = 32, FILE_MODE = 0640 };

struct access_log {
    int32_t form; /* enum access_choice */
    const char *path;
    int fd;
    struct buf lines;
    uint64_t n_lost; /* lines, since the last word about it */
    uint64_t n_kept; /* lines in the buffer */
};

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, FILE_MODE);
}

enum status access_open(struct access_log **out, int32_t form, const char *path, char *err,
                        size_t err_size)
{
    *out = NULL;
    if (form == ACCESS_OFF)
        return OK;
    struct access_log *a = calloc(1, sizeof(*a));
    if (!a) {
        (void)snprintf(err, err_size, "access log: %s", status_text(E_NOMEM));
        return E_NOMEM;
    }
    a->form = form;
    a->path = path;
    a->fd = path[0] ? open_file(path) : STDERR_FILENO;
    if (a->fd < 0) {
        (void)snprintf(err, err_size, "access log %.150s: %s", path, strerror(errno));
        free(a);
        return E_IO;
    }
    *out = a;
    return OK;
}

void access_flush(struct access_log *a)
{
    if (!a || a->lines.n == 0)
        return;
    ssize_t n = write(a->fd, a->lines.data, a->lines.n);
    if (n < 0 || (size_t)n < a->lines.n || a->lines.failed) {
        /* Half a line may have gone out; the next one begins anew. */
        if (a->n_lost == 0)
            log_line(LOG_WARN, "the access log loses lines: %s", n < 0 ? strerror(errno) : "full");
        a->n_lost += a->n_kept;
    } else if (a->n_lost) {
        log_line(LOG_WARN, "the access log has lost up to %llu lines",
                 (unsigned long long)a->n_lost);
        a->n_lost = 0;
    }
    buf_clear(&a->lines);
    a->n_kept = 0;
}

void access_reopen(struct access_log *a)
{
    if (!a || !a->path[0])
        return;
    access_flush(a);
    int fd = open_file(a->path);
    if (fd < 0) {
        log_line(LOG_ERROR, "access log %.150s: %s; the old one is written on", a->path,
                 strerror(errno));
        return;
    }
    (void)close(a->fd);
    a->fd = fd;
}

void access_close(struct access_log *a)
{
    if (!a)
        return;
    access_flush(a);
    if (a->path[0])
        (void)close(a->fd);
    buf_free(&a->lines);
    free(a);
}

static void time_text(char out[TIME_TEXT_MAX])
{
    struct timespec now = {0};
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, TIME_TEXT_MAX - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

/* An id may hold a quote, which logfmt has to quote. */
static void write_logfmt(struct buf *b, const struct access_entry *e, const char *time)
{
    buf_printf(b, "time=%s id=", time);
    buf_json_text(b, e->id);
    buf_printf(b,
               " addr=%s key=%s method=%s route=%s status=%d body=%zu prompt=%d completion=%d "
               "first_ms=%.1f ms=%.1f\n",
               e->address[0] ? e->address : "-", e->key[0] ? e->key : "-", e->method, e->route,
               e->code, e->body_bytes, e->n_prompt, e->n_answer, e->first_ms, e->total_ms);
}

static void write_json(struct buf *b, const struct access_entry *e, const char *time)
{
    buf_printf(b, "{\"time\":\"%s\",\"id\":", time);
    buf_json_text(b, e->id);
    buf_printf(b, ",\"addr\":\"%s\",\"key\":\"%s\",\"method\":\"%s\",\"route\":\"%s\"", e->address,
               e->key, e->method, e->route);
    buf_printf(b,
               ",\"status\":%d,\"body\":%zu,\"prompt\":%d,\"completion\":%d,\"first_ms\":%.1f,"
               "\"ms\":%.1f}\n",
               e->code, e->body_bytes, e->n_prompt, e->n_answer, e->first_ms, e->total_ms);
}

void access_write(struct access_log *a, const struct access_entry *e)
{
    char time[TIME_TEXT_MAX];
    if (!a)
        return;
    time_text(time);
    if (a->form == ACCESS_JSON)
        write_json(&a->lines, e, time);
    else
        write_logfmt(&a->lines, e, time);
    a->n_kept++;
    if (a->lines.n >= GATHER_BYTES)
        access_flush(a);
}
