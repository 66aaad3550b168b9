#include "models/weights.h"

#include <stdlib.h>
#include <string.h>

/* A safetensors file: eight bytes of header length, a JSON header, the data. After
 * safetensors_parse() every tensor of a file lies inside it, is as long as its shape and
 * type say, and together they cover the data without hole or overlap.
 *
 * The header passes strict_json() first, so the reader below may trust the grammar (a
 * string ends, a bracket closes) and has only the meaning to check. It makes no tree: a
 * header of 100 MB would become one of gigabytes. */

enum { LENGTH_BYTES = 8 };

static const struct dtype_row {
    const char *name;
    uint8_t bytes;
    uint8_t kind;
} dtypes[] = {
    {"F32", 4, DTYPE_F32},    {"F16", 2, DTYPE_F16},       {"BF16", 2, DTYPE_BF16},
    {"F64", 8, DTYPE_OTHER},  {"I64", 8, DTYPE_OTHER},     {"U64", 8, DTYPE_OTHER},
    {"I32", 4, DTYPE_OTHER},  {"U32", 4, DTYPE_OTHER},     {"I16", 2, DTYPE_OTHER},
    {"U16", 2, DTYPE_OTHER},  {"I8", 1, DTYPE_I8},         {"U8", 1, DTYPE_OTHER},
    {"BOOL", 1, DTYPE_OTHER}, {"F8_E4M3", 1, DTYPE_OTHER}, {"F8_E5M2", 1, DTYPE_OTHER},
};

/* --- reading a header whose grammar is known to be right --- */

struct reader {
    const char *at;
    const char *end;
};

static char peek(struct reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at))
        r->at++;
    return r->at < r->end ? *r->at : '\0';
}

static bool take(struct reader *r, char ch)
{
    if (peek(r) != ch)
        return false;
    r->at++;
    return true;
}

/* The raw text between the quotes; false when it is no string or holds an escape, for
 * then two spellings could name one tensor. */
static bool take_string(struct reader *r, const char **text, size_t *bytes)
{
    if (!take(r, '"'))
        return false;
    *text = r->at;
    while (*r->at != '"') {
        if (*r->at == '\\')
            return false;
        r->at++;
    }
    *bytes = (size_t)(r->at - *text);
    r->at++;
    return true;
}

static bool take_count(struct reader *r, uint64_t *out)
{
    uint64_t v = 0;
    char ch = peek(r);
    if (ch < '0' || ch > '9')
        return false;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (unsigned)(*r->at - '0'), &v))
            return false;
    }
    *out = v;
    return r->at == r->end || !strchr(".eE", *r->at);
}

/* [n, n, ...]: at most max of them, the count to *n. */
static bool take_counts(struct reader *r, uint64_t *out, int max, int *n)
{
    *n = 0;
    if (!take(r, '['))
        return false;
    while (peek(r) != ']') {
        if (*n == max || (*n > 0 && !take(r, ',')) || !take_count(r, &out[*n]))
            return false;
        ++*n;
    }
    return take(r, ']');
}

/* Over a whole object, its contents unread. */
static bool skip_object(struct reader *r)
{
    int depth = 0;
    if (peek(r) != '{')
        return false;
    do {
        char ch = *r->at++;
        if (ch == '{' || ch == '[')
            depth++;
        else if (ch == '}' || ch == ']')
            depth--;
        else if (ch == '"') {
            for (; *r->at != '"'; r->at++)
                r->at += *r->at == '\\';
            r->at++;
        }
    } while (depth > 0);
    return true;
}

static bool same(const char *text, size_t bytes, const char *word)
{
    return bytes == strlen(word) && memcmp(text, word, bytes) == 0;
}

static const struct dtype_row *find_dtype(const char *text, size_t bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        if (same(text, bytes, dtypes[i].name))
            return &dtypes[i];
    }
    return NULL;
}

/* What an entry says, before it is believed. */
struct entry {
    const struct dtype_row *dtype;
    uint64_t shape[RANK_MAX];
    uint64_t offset[2];
    int rank;
    int n_offsets;
    unsigned given; /* one bit per member */
};

enum { GIVEN_DTYPE = 1, GIVEN_SHAPE = 2, GIVEN_OFFSETS = 4, GIVEN_ALL = 7 };

/* One "name": value inside an entry; what is wrong, or NULL. */
static const char *take_member(struct reader *r, struct entry *e)
{
    const char *text;
    size_t bytes;
    unsigned which;
    if (!take_string(r, &text, &bytes) || !take(r, ':'))
        return "has a member with an escape in its name";
    if (same(text, bytes, "dtype")) {
        which = GIVEN_DTYPE;
        if (!take_string(r, &text, &bytes) || !(e->dtype = find_dtype(text, bytes)))
            return "has an unknown \"dtype\"";
    } else if (same(text, bytes, "shape")) {
        which = GIVEN_SHAPE;
        if (!take_counts(r, e->shape, RANK_MAX, &e->rank))
            return "has a bad \"shape\"";
    } else if (same(text, bytes, "data_offsets")) {
        which = GIVEN_OFFSETS;
        if (!take_counts(r, e->offset, 2, &e->n_offsets) || e->n_offsets != 2)
            return "has bad \"data_offsets\"";
    } else {
        return "has an unknown member";
    }
    if (e->given & which)
        return "gives a member twice";
    e->given |= which;
    return NULL;
}

static const char *take_entry(struct reader *r, struct entry *e)
{
    if (!take(r, '{'))
        return "is not an object";
    while (peek(r) != '}') {
        if (e->given && !take(r, ','))
            return "is not an object";
        const char *wrong = take_member(r, e);
        if (wrong)
            return wrong;
    }
    r->at++;
    return e->given == GIVEN_ALL ? NULL : "needs \"dtype\", \"shape\" and \"data_offsets\"";
}

/* Shape, type, offsets and file must tell one story. */
static const char *judge(const struct entry *e, uint64_t data_bytes)
{
    uint64_t n = e->dtype->bytes;
    if (e->offset[0] > e->offset[1] || e->offset[1] > data_bytes)
        return "lies outside of the file, which may have been cut off";
    for (int i = 0; i < e->rank; i++) {
        if (__builtin_mul_overflow(n, e->shape[i], &n))
            return "has a shape that is too large";
    }
    if (n != e->offset[1] - e->offset[0])
        return "has a shape that does not match its bytes";
    return NULL;
}

static int by_offset(const void *a, const void *b)
{
    const struct tensor *x = a;
    const struct tensor *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Sorts one file's tensors by place: they must cover begin .. end exactly. */
static enum status check_cover(struct tensor *t, size_t n, uint64_t begin, uint64_t end,
                               const struct complaint *c)
{
    if (n > 1)
        qsort(t, n, sizeof(*t), by_offset);
    for (size_t i = 0; i < n; i++) {
        if (t[i].begin < begin)
            return complain(c, E_FORMAT, "tensor \"%.*s\" overlaps another",
                            tensor_name_shown(&t[i]), t[i].name);
        if (t[i].begin > begin)
            return complain(c, E_FORMAT, "a hole lies before tensor \"%.*s\"",
                            tensor_name_shown(&t[i]), t[i].name);
        begin += t[i].bytes;
    }
    if (begin != end)
        return complain(c, E_FORMAT, "%llu bytes at the end belong to no tensor",
                        (unsigned long long)(end - begin));
    return OK;
}

static enum status take_tensor(struct tensor_list *l, struct reader *r, uint64_t data_begin,
                               uint64_t data_bytes, struct tensor *t, const struct complaint *c)
{
    struct entry e = {0};
    size_t bytes;
    if (!take_string(r, &t->name, &bytes) || !take(r, ':'))
        return complain(c, E_FORMAT, "a tensor name holds an escape");
    if (same(t->name, bytes, "__metadata__"))
        return skip_object(r) ? OK : complain(c, E_FORMAT, "\"__metadata__\" is not an object");
    t->name_bytes = (uint32_t)bytes;
    const char *wrong = take_entry(r, &e);
    if (!wrong)
        wrong = judge(&e, data_bytes);
    if (wrong)
        return complain(c, E_FORMAT, "tensor \"%.*s\" %s", tensor_name_shown(t), t->name, wrong);
    t->dtype = e.dtype->kind;
    t->type = e.dtype->name;
    t->rank = (uint8_t)e.rank;
    t->dim[0] = e.rank > 0 ? e.shape[0] : 1;
    t->dim[1] = e.rank > 1 ? e.shape[1] : 1;
    t->begin = data_begin + e.offset[0];
    t->bytes = e.offset[1] - e.offset[0];
    return tensor_append(l, t, c);
}

enum status safetensors_measure(const uint8_t first[8], uint64_t file_bytes, uint64_t *bytes,
                                const struct complaint *c)
{
    if (file_bytes < LENGTH_BYTES)
        return complain(c, E_FORMAT, "too short for a safetensors file");
    uint64_t n;
    memcpy(&n, first, sizeof(n));
    if (n > HEADER_BYTES_MAX)
        return complain(c, E_FORMAT, "a header of %llu bytes is over the limit of %d",
                        (unsigned long long)n, HEADER_BYTES_MAX);
    if (n > file_bytes - LENGTH_BYTES)
        return complain(c, E_FORMAT, "a header of %llu bytes does not fit the file's %llu",
                        (unsigned long long)n, (unsigned long long)file_bytes);
    *bytes = n;
    return OK;
}

enum status safetensors_parse(struct tensor_list *l, const char *header, size_t bytes,
                              uint64_t file_bytes, uint16_t shard, const struct complaint *c)
{
    /* Nothing is built from it, so only its depth is limited; names are compared when all
     * files have been read. */
    static const struct json_limits limits = {
        .nodes = SIZE_MAX, .members = SIZE_MAX, .depth = STRICT_DEPTH_MAX};
    struct json_error wrong = {.what = NULL};
    if (strict_json(header, bytes, &limits, &wrong))
        return complain(c, E_FORMAT, "the header is not valid JSON: %s at byte %zu", wrong.what,
                        wrong.offset);
    struct reader r = {.at = header, .end = header + bytes};
    if (!take(&r, '{'))
        return complain(c, E_FORMAT, "the header is not an object");
    uint64_t data_begin = LENGTH_BYTES + bytes;
    uint64_t data_bytes = file_bytes - data_begin;
    size_t first = l->n;
    for (bool more = peek(&r) != '}'; more; more = take(&r, ',')) {
        struct tensor t = {.shard = shard};
        enum status s = take_tensor(l, &r, data_begin, data_bytes, &t, c);
        if (s)
            return s;
    }
    struct tensor *mine = l->n > first ? l->item + first : NULL;
    return check_cover(mine, l->n - first, data_begin, file_bytes, c);
}
