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

/* Two passes over a file. strict_json() is the gate; only text that passed reaches cJSON,
 * whose own recursion is then bounded by STRICT_DEPTH_MAX and whose memory by the node
 * cap. Every value taken from the tree goes through a getter with a range. */

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
    /* Names out of a file are shown on terminals, where an escape sequence would act. */
    for (char *p = c->text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
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

/* What a clone without Git LFS has in place of large files. */
static bool is_pointer(int fd)
{
    static const char start[] = "version https://git-lfs";
    char first[sizeof(start) - 1];
    return pread(fd, first, sizeof(first), 0) == (ssize_t)sizeof(first) &&
           memcmp(first, start, sizeof(first)) == 0;
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
    if (is_pointer(f)) {
        close(f);
        return complain(c, E_FORMAT, "only a pointer of Git LFS to the file; git lfs pull gets it");
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

static enum status read_text(char **out, int fd, size_t bytes, const struct complaint *c)
{
    char *text = malloc(bytes + 1);
    if (!text)
        return complain(c, E_NOMEM, "no memory for %zu bytes", bytes);
    if (read_up_to(fd, text, bytes) != bytes) {
        free(text);
        return complain(c, E_IO, "cannot read all of it");
    }
    text[bytes] = '\0';
    *out = text;
    return OK;
}

enum status file_read(char **out, size_t *bytes, const char *dir, size_t bytes_max,
                      const struct complaint *c)
{
    int fd = -1;
    uint64_t size = 0;
    enum status s = file_open(&fd, &size, dir, c);
    if (s)
        return s;
    if (size == 0)
        s = complain(c, E_FORMAT, "the file is empty");
    else if (size > bytes_max)
        s = complain(c, E_FORMAT, "%llu bytes, more than the limit of %zu",
                     (unsigned long long)size, bytes_max);
    else
        s = read_text(out, fd, (size_t)size, c);
    close(fd);
    *bytes = (size_t)size;
    return s;
}

/* --- text to tree --- */

enum status json_of_text(cJSON **out, const char *text, size_t bytes, size_t nodes_max,
                         const struct complaint *c)
{
    /* Names may repeat here: writers of vocabularies are not ours to correct, and the getters
     * refuse a repeated name where it matters. */
    const struct json_limits limits = {
        .nodes = nodes_max, .members = SIZE_MAX, .depth = STRICT_DEPTH_MAX};
    struct json_error err = {.what = NULL};
    if (strict_json(text, bytes, &limits, &err))
        return complain(c, E_FORMAT, "not valid JSON: %s at byte %zu", err.what, err.offset);
    /* The grammar is known to be right, so only memory can fail now. */
    *out = cJSON_ParseWithLength(text, bytes);
    return *out ? OK : complain(c, E_NOMEM, "no memory to parse %zu bytes", bytes);
}

enum status json_load(cJSON **out, const char *dir, size_t bytes_max, size_t nodes_max,
                      const struct complaint *c)
{
    char *text = NULL;
    size_t bytes = 0;
    enum status s = file_read(&text, &bytes, dir, bytes_max, c);
    if (s)
        return s;
    s = json_of_text(out, text, bytes, nodes_max, c);
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

enum status field_int(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out,
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

enum status field_bool(const cJSON *o, const char *key, bool *out, const struct complaint *c)
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
