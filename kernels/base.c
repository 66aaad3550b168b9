#include "kernels/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Longest log line; what is longer is cut, never split. */
enum { LOG_TEXT_MAX = 1024, LOG_LINE_MAX = 2 * LOG_TEXT_MAX + 128 };

static enum log_level log_most = LOG_INFO;
static bool log_json;

const char *status_text(enum status s)
{
    switch (s) {
#define STATUS_CASE(name, value, text)                                                             \
    case name:                                                                                     \
        return text;
        STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

void log_setup(enum log_level most, bool json)
{
    log_most = most;
    log_json = json;
}

/* Escapes what would break a line or a JSON string. The room is twice the text,
 * and what expands further than that is cut. */
static size_t escape(char *out, size_t room, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && n + 6 < room; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            const char seq[] = {'\\', 'u', '0', '0', hex[*p >> 4], hex[*p & 15]};
            memcpy(out + n, seq, sizeof(seq));
            n += sizeof(seq);
        } else if (log_json && (*p == '"' || *p == '\\')) {
            out[n++] = '\\';
            out[n++] = (char)*p;
        } else {
            out[n++] = (char)*p;
        }
    }
    out[n] = '\0';
    return n;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (level > log_most)
        return;
    char text[LOG_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    char safe[2 * LOG_TEXT_MAX];
    escape(safe, sizeof(safe), text);

    struct timespec t;
    struct tm utc;
    char when[32];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &utc);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);

    char line[LOG_LINE_MAX];
    const char *form = log_json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":\"%s\"}\n"
                                : "%s.%03ldZ %-5s %s\n";
    int n = snprintf(line, sizeof(line), form, when, t.tv_nsec / 1000000, names[level], safe);
    if (n > 0)
        (void)fwrite(line, 1, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1, stderr);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
