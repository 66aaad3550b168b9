#include "models/jsonfile.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Two passes over a file. strict_check() is the gate: a loop with an explicit stack of
 * one bit per level, so no input can make it recurse. Only text that passed reaches
 * cJSON, whose own recursion is then bounded by JSON_DEPTH_MAX and whose memory by the
 * node cap. Every value taken from the tree goes through a getter with a range. */

/* Doubles hold every whole number up to here. */
#define JSON_WHOLE_MAX 9007199254740992.0

enum status complain(const struct complaint *c, enum status s, const char *fmt, ...)
{
    int n = snprintf(c->text, c->size, "%s: ", c->file);
    if (n < 0 || (size_t)n >= c->size)
        return s;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(c->text + n, c->size - (size_t)n, fmt, args);
    va_end(args);
    return s;
}

enum status path_join(char out[MODEL_PATH_MAX], const char *dir, const char *name)
{
    int n = snprintf(out, MODEL_PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < MODEL_PATH_MAX ? OK : E_INVALID;
}

bool file_present(const char *dir, const char *name)
{
    char path[MODEL_PATH_MAX];
    struct stat st;
    if (path_join(path, dir, name))
        return true;
    return stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

enum status file_open(int *fd, uint64_t *bytes, const char *dir, const struct complaint *c)
{
    char path[MODEL_PATH_MAX];
    if (path_join(path, dir, c->file))
        return complain(c, E_INVALID, "the path is too long");
    /* Without O_NONBLOCK a FIFO of that name would hang the start. */
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f < 0)
        return complain(c, E_IO, "cannot open in %s: %s", dir, strerror(errno));
    struct stat st;
    if (fstat(f, &st) != 0) {
        close(f);
        return complain(c, E_IO, "cannot stat: %s", strerror(errno));
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 0) {
        close(f);
        return complain(c, E_IO, "not a regular file");
    }
    *fd = f;
    *bytes = (uint64_t)st.st_size;
    return OK;
}

/* What is read may be less than asked for when the file was cut meanwhile. */
static size_t read_up_to(int fd, char *to, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = read(fd, to + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

enum status file_read(char **out, size_t *bytes, const char *dir, size_t bytes_max,
                      const struct complaint *c)
{
    int fd;
    uint64_t size;
    enum status s = file_open(&fd, &size, dir, c);
    if (s)
        return s;
    char *text = NULL;
    if (size == 0) {
        s = complain(c, E_FORMAT, "the file is empty");
    } else if (size > bytes_max) {
        s = complain(c, E_FORMAT, "%llu bytes, more than the limit of %zu",
                     (unsigned long long)size, bytes_max);
    } else if (!(text = malloc((size_t)size + 1))) {
        s = complain(c, E_NOMEM, "no memory for %llu bytes", (unsigned long long)size);
    } else if (read_up_to(fd, text, (size_t)size) != size) {
        s = complain(c, E_IO, "cannot read all of it");
    }
    close(fd);
    if (s) {
        free(text);
        return s;
    }
    text[size] = '\0';
    *out = text;
    *bytes = (size_t)size;
    return OK;
}

/* --- the strict grammar --- */

struct gate {
    const unsigned char *at;
    const unsigned char *end;
    size_t nodes_left;
    uint64_t in_object; /* bit d: level d is an object */
    int depth;
};

static bool is_digit(const struct gate *g)
{
    return g->at < g->end && *g->at >= '0' && *g->at <= '9';
}

static void blanks(struct gate *g)
{
    while (g->at < g->end && (*g->at == ' ' || *g->at == '\t' || *g->at == '\n' || *g->at == '\r'))
        g->at++;
}

static bool literal(struct gate *g, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(g->end - g->at) < n || memcmp(g->at, word, n) != 0)
        return false;
    g->at += n;
    return true;
}

static bool take(struct gate *g, char ch)
{
    if (g->at == g->end || *g->at != (unsigned char)ch)
        return false;
    g->at++;
    return true;
}

static bool digits(struct gate *g)
{
    if (!is_digit(g))
        return false;
    while (is_digit(g))
        g->at++;
    return true;
}

static bool number(struct gate *g)
{
    (void)take(g, '-');
    if (!take(g, '0') && !digits(g))
        return false;
    if (take(g, '.') && !digits(g))
        return false;
    if (take(g, 'e') || take(g, 'E')) {
        if (!take(g, '+'))
            (void)take(g, '-');
        if (!digits(g))
            return false;
    }
    return true;
}

static bool hex4(struct gate *g, unsigned *out)
{
    unsigned v = 0;
    if (g->end - g->at < 4)
        return false;
    for (int i = 0; i < 4; i++, g->at++) {
        unsigned ch = *g->at;
        if (ch >= '0' && ch <= '9')
            v = v * 16 + (ch - '0');
        else if ((ch | 32) >= 'a' && (ch | 32) <= 'f')
            v = v * 16 + ((ch | 32) - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static bool escape(struct gate *g)
{
    if (g->at == g->end)
        return false;
    unsigned char kind = *g->at++;
    if (kind != 'u')
        return kind != '\0' && strchr("\"\\/bfnrt", kind) != NULL;
    unsigned v;
    if (!hex4(g, &v) || v == 0 || (v >= 0xDC00 && v <= 0xDFFF))
        return false;
    if (v < 0xD800 || v > 0xDBFF)
        return true;
    return take(g, '\\') && take(g, 'u') && hex4(g, &v) && v >= 0xDC00 && v <= 0xDFFF;
}

/* One character of two to four bytes; neither overlong, nor a surrogate, nor beyond
 * U+10FFFF: the range of the second byte says it all. */
static bool utf8(struct gate *g)
{
    unsigned char lead = *g->at;
    int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (lead < 0xC2 || lead > 0xF4 || g->end - g->at <= more)
        return false;
    for (g->at++; more > 0; more--, g->at++) {
        if (*g->at < low || *g->at > high)
            return false;
        low = 0x80;
        high = 0xBF;
    }
    return true;
}

static bool string(struct gate *g)
{
    if (!take(g, '"'))
        return false;
    while (g->at < g->end && *g->at != '"') {
        if (*g->at < 0x20)
            return false;
        if (*g->at >= 0x80) {
            if (!utf8(g))
                return false;
        } else if (*g->at++ == '\\' && !escape(g)) {
            return false;
        }
    }
    return take(g, '"');
}

static bool key(struct gate *g)
{
    blanks(g);
    if (!string(g))
        return false;
    blanks(g);
    return take(g, ':');
}

/* A value without members, or the opening of one with; *open tells which. */
static bool value(struct gate *g, bool *open)
{
    blanks(g);
    *open = false;
    if (g->at == g->end || g->nodes_left == 0)
        return false;
    g->nodes_left--;
    switch (*g->at) {
    case '{':
    case '[':
        if (g->depth == JSON_DEPTH_MAX)
            return false;
        g->in_object = g->in_object << 1 | (*g->at == '{');
        g->depth++;
        g->at++;
        *open = true;
        return true;
    case '"':
        return string(g);
    case 't':
        return literal(g, "true");
    case 'f':
        return literal(g, "false");
    case 'n':
        return literal(g, "null");
    default:
        return number(g);
    }
}

static bool take_close(struct gate *g)
{
    blanks(g);
    if (!take(g, g->in_object & 1 ? '}' : ']'))
        return false;
    g->in_object >>= 1;
    g->depth--;
    return true;
}

/* After a value: closes what ends here and stands before the next value, or at depth
 * zero at the end. */
static bool next(struct gate *g)
{
    while (g->depth > 0) {
        blanks(g);
        if (take(g, ','))
            return !(g->in_object & 1) || key(g);
        if (!take_close(g))
            return false;
    }
    return true;
}

static bool walk(struct gate *g)
{
    do {
        bool open;
        if (!value(g, &open))
            return false;
        /* The key of the first member is due unless the brackets are empty. */
        if (open && !take_close(g)) {
            if ((g->in_object & 1) && !key(g))
                return false;
            continue;
        }
        if (!next(g))
            return false;
    } while (g->depth > 0);
    blanks(g);
    return g->at == g->end;
}

bool strict_check(const char *text, size_t bytes, size_t nodes_max, size_t *at)
{
    const unsigned char *begin = (const unsigned char *)text;
    struct gate g = {.at = begin, .end = begin + bytes, .nodes_left = nodes_max};
    bool good = walk(&g);
    *at = (size_t)(g.at - begin);
    return good;
}

enum status json_load(cJSON **out, const char *dir, size_t bytes_max, size_t nodes_max,
                      const struct complaint *c)
{
    char *text;
    size_t bytes;
    size_t at;
    enum status s = file_read(&text, &bytes, dir, bytes_max, c);
    if (s)
        return s;
    if (!strict_check(text, bytes, nodes_max, &at))
        s = complain(c, E_FORMAT, "not valid JSON, or over a limit, at byte %zu", at);
    /* The grammar is known to be right, so only memory can fail now. */
    else if (!(*out = cJSON_ParseWithLength(text, bytes)))
        s = complain(c, E_NOMEM, "no memory to parse %zu bytes", bytes);
    free(text);
    return s;
}

/* --- getters --- */

const cJSON *json_get(const cJSON *o, const char *key)
{
    if (!cJSON_IsObject(o))
        return NULL;
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return v && !cJSON_IsNull(v) ? v : NULL;
}

/* *out NULL: absent. A name given twice means different things to different readers,
 * so it means nothing here. */
static enum status find(const cJSON *o, const char *key, const cJSON **out,
                        const struct complaint *c)
{
    const cJSON *v;
    int n = 0;
    *out = NULL;
    if (!cJSON_IsObject(o))
        return complain(c, E_FORMAT, "\"%s\" is looked for in what is not an object", key);
    cJSON_ArrayForEach(v, o)
    {
        if (strcmp(v->string, key) != 0)
            continue;
        if (++n > 1)
            return complain(c, E_FORMAT, "\"%s\" is given twice", key);
        if (!cJSON_IsNull(v))
            *out = v;
    }
    return OK;
}

bool json_as_int(const cJSON *v, int64_t min, int64_t max, int64_t *out)
{
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble) || fabs(v->valuedouble) > JSON_WHOLE_MAX ||
        v->valuedouble != floor(v->valuedouble))
        return false;
    int64_t n = (int64_t)v->valuedouble;
    if (n < min || n > max)
        return false;
    *out = n;
    return true;
}

enum status json_int(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out,
                     const struct complaint *c)
{
    const cJSON *v;
    enum status s = find(o, key, &v, c);
    if (s || !v)
        return s;
    if (!json_as_int(v, min, max, out))
        return complain(c, E_FORMAT, "\"%s\" must be a whole number from %lld to %lld", key,
                        (long long)min, (long long)max);
    return OK;
}

enum status field_number(const cJSON *o, const char *key, double min, double max, double *out,
                         const struct complaint *c)
{
    const cJSON *v;
    enum status s = find(o, key, &v, c);
    if (s || !v)
        return s;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= min && v->valuedouble <= max))
        return complain(c, E_FORMAT, "\"%s\" must be a number from %g to %g", key, min, max);
    *out = v->valuedouble;
    return OK;
}

enum status json_bool(const cJSON *o, const char *key, bool *out, const struct complaint *c)
{
    const cJSON *v;
    enum status s = find(o, key, &v, c);
    if (s || !v)
        return s;
    if (!cJSON_IsBool(v))
        return complain(c, E_FORMAT, "\"%s\" must be true or false", key);
    *out = cJSON_IsTrue(v);
    return OK;
}

enum status field_string(const cJSON *o, const char *key, const char **out,
                         const struct complaint *c)
{
    const cJSON *v;
    enum status s = find(o, key, &v, c);
    if (s || !v)
        return s;
    if (!cJSON_IsString(v))
        return complain(c, E_FORMAT, "\"%s\" must be a string", key);
    *out = v->valuestring;
    return OK;
}
