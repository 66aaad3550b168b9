#include "models/gguf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The head of a GGUF file from disk to memory, and what is asked of it. How long a head
 * is nobody says, so it is read in growing pieces and parsed again until it is whole. */

enum {
    HEAD_BYTES_MIN = 24, /* magic, version, two counts */
    HEAD_FIRST_BYTES = 1 << 20,
};

/* --- files --- */

static enum status read_more(int fd, uint8_t **head, size_t from, size_t to,
                             const struct complaint *c)
{
    uint8_t *grown = realloc(*head, to);
    if (!grown)
        return complain(c, E_NOMEM, "no memory for a head of %zu bytes", to);
    *head = grown;
    while (from < to) {
        ssize_t n = pread(fd, grown + from, to - from, (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return complain(c, E_IO, "cannot read");
        from += (size_t)n;
    }
    return OK;
}

enum status gguf_read(struct gguf *g, int fd, uint64_t file_bytes, struct tensor_list *l,
                      uint16_t shard, const struct complaint *c)
{
    uint8_t *head = NULL;
    size_t have = 0;
    size_t first = l ? l->n : 0;
    size_t most = file_bytes < GGUF_HEAD_BYTES_MAX ? (size_t)file_bytes : GGUF_HEAD_BYTES_MAX;
    enum status s = E_AGAIN;
    if (file_bytes < HEAD_BYTES_MIN)
        return complain(c, E_FORMAT, "too short for a GGUF file");
    while (s == E_AGAIN && have < most) {
        size_t want = have ? 2 * have : HEAD_FIRST_BYTES;
        want = want < most ? want : most;
        s = read_more(fd, &head, have, want, c);
        if (s)
            break;
        have = want;
        gguf_free(g);
        if (l)
            l->n = first;
        s = gguf_parse(g, head, have, file_bytes, l, shard, c);
    }
    if (s == E_AGAIN)
        s = complain(c, E_FORMAT, "its head is over the limit of %d bytes", GGUF_HEAD_BYTES_MAX);
    if (s) {
        free(head);
        return s;
    }
    g->head = head;
    return OK;
}

void gguf_free(struct gguf *g)
{
    free(g->head);
    free(g->value);
    *g = (struct gguf){.head = NULL};
}

bool gguf_is_path(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

const char *gguf_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

enum status gguf_folder(char out[MODEL_PATH_MAX], const char *path)
{
    size_t n = (size_t)(gguf_file_name(path) - path);
    if (n >= MODEL_PATH_MAX)
        return E_INVALID;
    memcpy(out, n ? path : ".", n ? n : 1);
    out[n ? n : 1] = '\0';
    return OK;
}

enum status gguf_open(struct gguf *g, const char *path, const struct complaint *c)
{
    char folder[MODEL_PATH_MAX];
    int fd = -1;
    uint64_t bytes = 0;
    int64_t part = 0;
    int64_t parts = 1;
    *g = (struct gguf){.head = NULL};
    if (gguf_folder(folder, path))
        return complain(c, E_INVALID, "the path is too long");
    enum status s = file_open(&fd, &bytes, folder, c);
    if (s)
        return s;
    s = gguf_read(g, fd, bytes, NULL, 0, c);
    close(fd);
    if (!s)
        s = gguf_int(g, "split.no", 0, SHARDS_MAX - 1, &part, c);
    if (!s)
        s = gguf_int(g, "split.count", 1, SHARDS_MAX, &parts, c);
    if (!s && part)
        s = complain(c, E_INVALID, "is part %d of %d; give the first", (int)part + 1, (int)parts);
    if (s)
        gguf_free(g);
    return s;
}

/* --- getters --- */

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    size_t low = 0;
    size_t high = g->n_values;
    size_t bytes = strlen(key);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = gguf_compare_key(key, bytes, &g->value[middle]);
        if (order == 0)
            return &g->value[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool is_whole(enum gguf_type type)
{
    return gguf_type_bytes(type) && type != GGUF_F32 && type != GGUF_F64 && type != GGUF_BOOL;
}

int64_t gguf_int_at(const struct gguf_value *v, uint64_t i)
{
    size_t bytes = gguf_type_bytes(v->element);
    uint64_t u = 0;
    memcpy(&u, v->at + i * bytes, bytes);
    bool is_signed = v->element == GGUF_I8 || v->element == GGUF_I16 || v->element == GGUF_I32;
    if (is_signed && u >> (8 * bytes - 1))
        u |= UINT64_MAX << (8 * bytes);
    /* What no int64_t holds is out of every range. */
    return v->element == GGUF_U64 && u > INT64_MAX ? INT64_MIN : (int64_t)u;
}

float gguf_float_at(const struct gguf_value *v, uint64_t i)
{
    float f;
    memcpy(&f, v->at + i * sizeof(f), sizeof(f));
    return f;
}

enum status gguf_int(const struct gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                     const struct complaint *c)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return OK;
    int64_t n = is_whole(v->type) ? gguf_int_at(v, 0) : INT64_MIN;
    if (n < min || n > max)
        return complain(c, E_FORMAT, "key \"%s\" must be a whole number from %lld to %lld", key,
                        (long long)min, (long long)max);
    *out = n;
    return OK;
}

enum status gguf_number(const struct gguf *g, const char *key, double *out,
                        const struct complaint *c)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return OK;
    if (v->type == GGUF_F32)
        *out = (double)gguf_float_at(v, 0);
    else if (v->type == GGUF_F64)
        memcpy(out, v->at, sizeof(*out));
    else if (is_whole(v->type))
        *out = (double)gguf_int_at(v, 0);
    else
        return complain(c, E_FORMAT, "key \"%s\" must be a number", key);
    return OK;
}

enum status gguf_bool(const struct gguf *g, const char *key, bool *out, const struct complaint *c)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return OK;
    if (v->type != GGUF_BOOL)
        return complain(c, E_FORMAT, "key \"%s\" must be true or false", key);
    *out = v->at[0] == 1;
    return OK;
}

enum status gguf_text(const struct gguf *g, const char *key, const char **text, size_t *bytes,
                      const struct complaint *c)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return OK;
    if (v->type != GGUF_STRING || memchr(v->at, '\0', (size_t)v->n))
        return complain(c, E_FORMAT, "key \"%s\" must be a string without a NUL", key);
    *text = (const char *)v->at;
    *bytes = (size_t)v->n;
    return OK;
}

enum status gguf_array(const struct gguf *g, const char *key, enum gguf_type element,
                       const struct gguf_value **out, const struct complaint *c)
{
    const struct gguf_value *v = gguf_find(g, key);
    *out = v;
    if (!v)
        return OK;
    bool fits = element == GGUF_I32 ? is_whole(v->element) : v->element == element;
    if (v->type != GGUF_ARRAY || !fits)
        return complain(c, E_FORMAT, "key \"%s\" must be an array of %s", key,
                        element == GGUF_STRING ? "strings"
                        : element == GGUF_F32  ? "32-bit floats"
                                               : "whole numbers");
    return OK;
}

const char *gguf_next_string(const uint8_t **at, size_t *bytes)
{
    uint64_t n;
    memcpy(&n, *at, sizeof(n));
    const char *text = (const char *)*at + sizeof(n);
    *bytes = (size_t)n;
    *at += sizeof(n) + n;
    return text;
}
