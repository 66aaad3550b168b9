/* The bar is drawn at most ten times a second, so that a fast disk is not slowed down
 * by a slow terminal. */
#include "server/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_CELLS = 30 };

#define DRAW_EVERY_NS 100000000u
#define LOG_EVERY_NS  5000000000u

void bytes_text(char out[BYTES_TEXT_MAX], uint64_t bytes)
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}};
    double value = (double)bytes;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (value >= units[i].unit) {
            double n = value / units[i].unit;
            (void)snprintf(out, BYTES_TEXT_MAX, "%.*f %s", n < 10 ? 2 : 1, n, units[i].name);
            return;
        }
    }
    (void)snprintf(out, BYTES_TEXT_MAX, "%.0f bytes", value);
}

void progress_start(struct progress *p, const char *what)
{
    memset(p, 0, sizeof(*p));
    p->what = what;
    p->tty = isatty(STDERR_FILENO) == 1;
    p->start_ns = now_ns();
    p->shown_ns = p->start_ns;
}

static double seconds_since_start(const struct progress *p)
{
    return (double)(now_ns() - p->start_ns) * 1e-9;
}

static void draw(const struct progress *p, uint64_t done, uint64_t total)
{
    char bar[BAR_CELLS + 1];
    char has[BYTES_TEXT_MAX];
    char all[BYTES_TEXT_MAX];
    double part = total ? (double)done / (double)total : 1;
    size_t cells = part < 1 ? (size_t)(part * BAR_CELLS) : BAR_CELLS;
    memset(bar, ' ', BAR_CELLS);
    memset(bar, '=', cells);
    bar[BAR_CELLS] = '\0';
    bytes_text(has, done);
    bytes_text(all, total);
    (void)fprintf(stderr, "\r\033[K%s [%s] %s of %s, %.1f s", p->what, bar, has, all,
                  seconds_since_start(p));
    (void)fflush(stderr);
}

void progress_update(void *arg, uint64_t done, uint64_t total)
{
    struct progress *p = arg;
    uint64_t now = now_ns();
    if (now - p->shown_ns < (p->tty ? DRAW_EVERY_NS : LOG_EVERY_NS))
        return;
    p->shown_ns = now;
    if (p->tty) {
        draw(p, done, total);
        p->drawn = true;
        return;
    }
    char has[BYTES_TEXT_MAX];
    char all[BYTES_TEXT_MAX];
    bytes_text(has, done);
    bytes_text(all, total);
    log_line(LOG_INFO, "%s: %s of %s, %.1f s", p->what, has, all, seconds_since_start(p));
}

void progress_end(struct progress *p)
{
    if (p->drawn) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
    }
    p->drawn = false;
}
