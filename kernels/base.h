#ifndef KERNELS_BASE_H
#define KERNELS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What every floor stands on: status codes, log lines, checked sizes, and the few helpers that
 * would otherwise be written on each of them. */

/* Every function that can fail for a reason outside the program returns one of
 * these and leaves its results in out-parameters. Broken invariants assert. */
#define STATUS_MAP(X)                                                                              \
    X(OK, 0, "ok")                                                                                 \
    X(E_INVALID, -1, "invalid argument")                                                           \
    X(E_NOMEM, -2, "out of memory")                                                                \
    X(E_AGAIN, -3, "limit reached, try again later")                                               \
    X(E_IO, -4, "input/output error")                                                              \
    X(E_FORMAT, -5, "file is not in the expected format")                                          \
    X(E_UNSUPPORTED, -6, "not supported")                                                          \
    X(E_DEVICE, -7, "the accelerator failed")

enum status {
#define STATUS_ENUM(name, value, text) name = value,
    STATUS_MAP(STATUS_ENUM)
#undef STATUS_ENUM
};

#define MUST_CHECK                      __attribute__((warn_unused_result))
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#ifdef __cplusplus
extern "C" {
#endif

const char *status_text(enum status s);

/* One line on stderr: time, level, text; one JSON object per line when json is
 * set. Control bytes in the text are escaped, so a line is always one line.
 * log_setup() before other threads start; log_line() from any thread. */
void log_setup(enum log_level most, bool json);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Monotonic clock, nanoseconds. */
uint64_t now_ns(void);

/* Logs how long a stage of a start took, and its rate unless bytes is 0; *begun becomes now. */
void stage_over(uint64_t *begun, const char *name, uint64_t bytes);

/* false when the result does not fit; *out is then unspecified. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline int32_t min32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* -1: no hexadecimal digit. */
static inline int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

#ifdef __cplusplus
}
#endif

#endif
