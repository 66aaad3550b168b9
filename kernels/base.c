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

/* Bytes of the character at p, 0: it is not valid UTF-8, as half a character is not that the
 * cut of a long line leaves. */
static size_t utf8_bytes(const unsigned char *p)
{
    static const struct {
        unsigned char first;
        unsigned char last;
        unsigned char low; /* range of the second byte */
        unsigned char high;
        size_t n;
    } forms[] = {
        {0x01, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (p[0] < forms[i].first || p[0] > forms[i].last)
            continue;
        if (forms[i].n > 1 && (p[1] < forms[i].low || p[1] > forms[i].high))
            return 0;
        for (size_t k = 2; k < forms[i].n; k++)
            if (p[k] < 0x80 || p[k] > 0xbf)
                return 0;
        return forms[i].n;
    }
    return 0;
}

/* Escapes what would break a line or a JSON string; a byte that is no text becomes the
 * character of its number. The room is twice the text, and what expands further than that
 * is cut. */
static size_t escape(char *out, size_t room, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && n + 6 < room;) {
        size_t bytes = utf8_bytes(p);
        if (bytes == 0 || *p < 0x20 || *p == 0x7f) {
            const char seq[] = {'\\', 'u', '0', '0', hex[*p >> 4], hex[*p & 15]};
            memcpy(out + n, seq, sizeof(seq));
            n += sizeof(seq);
            p++;
            continue;
        }
        if (log_json && (*p == '"' || *p == '\\'))
            out[n++] = '\\';
        memcpy(out + n, p, bytes);
        n += bytes;
        p += bytes;
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

void stage_over(uint64_t *begun, const char *name, uint64_t bytes)
{
    uint64_t now = now_ns();
    double seconds = (double)(now - *begun) * 1e-9;
    *begun = now;
    if (bytes == 0)
        log_line(LOG_INFO, "start: %s, %.3f s", name, seconds);
    else
        log_line(LOG_INFO, "start: %s, %.3f s, %.2f GB/s", name, seconds,
                 seconds > 0 ? (double)bytes * 1e-9 / seconds : 0);
}
