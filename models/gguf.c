#include "models/gguf.h"

#include <stdlib.h>
#include <string.h>

/* The head is walked once from front to back. Every length is compared with what the file
 * still holds before it is used or multiplied; a length that the file can hold but the
 * bytes at hand cannot ends the walk with E_AGAIN, and the caller comes back with more.
 * No number out of the file reaches an allocation before a minimum of bytes for each
 * item was seen to fit. */

enum {
    MAGIC_BYTES = 4,
    VERSION_MIN = 2,
    VERSION_MAX = 3,
    KEY_SHOWN_MAX = 96,
    PAIR_BYTES_MIN = 8 + 1 + 4 + 1,        /* a key of one letter with a byte */
    INFO_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 /* a name of one letter and one dimension */
};

static const uint8_t type_bytes[GGUF_TYPE_END] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

size_t gguf_type_bytes(enum gguf_type t)
{
    return type_bytes[t];
}

/* Types of tensors by their number in the file. Those that cannot be loaded have a size
 * too, so that a file is judged as a whole and a line can say what was found. */
static const struct format_row {
    const char *name;
    uint16_t values; /* of a block; 0: no such number */
    uint16_t bytes;
    uint8_t dtype;
} formats[] = {
    [0] = {"F32", 1, 4, DTYPE_F32},
    [1] = {"F16", 1, 2, DTYPE_F16},
    [2] = {"Q4_0", 32, 18, DTYPE_Q4_0},
    [3] = {"Q4_1", 32, 20, DTYPE_Q4_1},
    [6] = {"Q5_0", 32, 22, DTYPE_Q5_0},
    [7] = {"Q5_1", 32, 24, DTYPE_Q5_1},
    [8] = {"Q8_0", 32, 34, DTYPE_Q8_0},
    [9] = {"Q8_1", 32, 36, DTYPE_OTHER},
    [10] = {"Q2_K", 256, 84, DTYPE_OTHER},
    [11] = {"Q3_K", 256, 110, DTYPE_OTHER},
    [12] = {"Q4_K", 256, 144, DTYPE_Q4_K},
    [13] = {"Q5_K", 256, 176, DTYPE_Q5_K},
    [14] = {"Q6_K", 256, 210, DTYPE_Q6_K},
    [15] = {"Q8_K", 256, 292, DTYPE_OTHER},
    [16] = {"IQ2_XXS", 256, 66, 0},
    [17] = {"IQ2_XS", 256, 74, 0},
    [18] = {"IQ3_XXS", 256, 98, 0},
    [19] = {"IQ1_S", 256, 50, 0},
    [20] = {"IQ4_NL", 32, 18, 0},
    [21] = {"IQ3_S", 256, 110, 0},
    [22] = {"IQ2_S", 256, 82, 0},
    [23] = {"IQ4_XS", 256, 136, 0},
    [24] = {"I8", 1, 1, 0},
    [25] = {"I16", 1, 2, 0},
    [26] = {"I32", 1, 4, 0},
    [27] = {"I64", 1, 8, 0},
    [28] = {"F64", 1, 8, 0},
    [29] = {"IQ1_M", 256, 56, 0},
    [30] = {"BF16", 1, 2, DTYPE_BF16},
    [34] = {"TQ1_0", 256, 54, 0},
    [35] = {"TQ2_0", 256, 66, 0},
    [39] = {"MXFP4", 32, 17, 0},
};

/* --- the walk --- */

struct walk {
    const uint8_t *head;
    size_t at;
    size_t bytes;        /* of head */
    uint64_t file_bytes; /* at least bytes */
    const char *part;    /* what a line about a cut names */
    const struct complaint *c;
};

/* The next n bytes, each of size; *out NULL never comes with OK. */
static enum status take(struct walk *w, uint64_t n, size_t size, const uint8_t **out)
{
    uint64_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > w->file_bytes - w->at)
        return complain(w->c, E_FORMAT, "the file ends inside of its %s; it may have been cut off",
                        w->part);
    if (bytes > w->bytes - w->at)
        return E_AGAIN;
    *out = w->head + w->at;
    w->at += (size_t)bytes;
    return OK;
}

static enum status take_u32(struct walk *w, uint32_t *out)
{
    const uint8_t *p = NULL;
    enum status s = take(w, 1, sizeof(*out), &p);
    if (!s)
        memcpy(out, p, sizeof(*out));
    return s;
}

static enum status take_u64(struct walk *w, uint64_t *out)
{
    const uint8_t *p = NULL;
    enum status s = take(w, 1, sizeof(*out), &p);
    if (!s)
        memcpy(out, p, sizeof(*out));
    return s;
}

static enum status take_text(struct walk *w, const char **text, uint64_t *bytes)
{
    const uint8_t *p = NULL;
    enum status s = take_u64(w, bytes);
    if (!s)
        s = take(w, *bytes, 1, &p);
    *text = (const char *)p;
    return s;
}

/* A count of items that take at least bytes_min each. */
static enum status take_count(struct walk *w, uint64_t most, size_t bytes_min, const char *what,
                              uint64_t *out)
{
    enum status s = take_u64(w, out);
    if (s)
        return s;
    if (*out > most || *out > (w->file_bytes - w->at) / bytes_min)
        return complain(w->c, E_FORMAT, "%llu %s are more than %s", (unsigned long long)*out, what,
                        *out > most ? "the limit" : "the file can hold");
    return OK;
}

static int key_shown(const struct gguf_value *v)
{
    return v->key_bytes < KEY_SHOWN_MAX ? (int)v->key_bytes : KEY_SHOWN_MAX;
}

static enum status bad_value(const struct walk *w, const struct gguf_value *v, const char *what)
{
    return complain(w->c, E_FORMAT, "key \"%.*s\" %s", key_shown(v), v->key, what);
}

static enum status take_elements(struct walk *w, struct gguf_value *v)
{
    enum status s = OK;
    if (v->element != GGUF_STRING) {
        s = take(w, v->n, type_bytes[v->element], &v->at);
    } else {
        const uint8_t *none;
        const char *text;
        uint64_t bytes;
        /* Before the strings are walked one by one, there must be room for their lengths. */
        size_t start = w->at;
        s = take(w, v->n, sizeof(bytes), &none);
        w->at = start;
        v->at = w->head + start;
        for (uint64_t i = 0; i < v->n && !s; i++)
            s = take_text(w, &text, &bytes);
    }
    for (uint64_t i = 0; i < v->n && !s && v->element == GGUF_BOOL; i++) {
        if (v->at[i] > 1)
            s = bad_value(w, v, "is neither true nor false");
    }
    return s;
}

static enum status take_array(struct walk *w, struct gguf_value *v)
{
    uint32_t element;
    enum status s = take_u32(w, &element);
    if (!s)
        s = take_u64(w, &v->n);
    if (s)
        return s;
    if (element == GGUF_ARRAY)
        return bad_value(w, v, "is an array of arrays");
    if (element >= GGUF_TYPE_END)
        return bad_value(w, v, "is an array of an unknown type");
    v->element = (uint8_t)element;
    return take_elements(w, v);
}

static enum status take_pair(struct walk *w, struct gguf_value *v)
{
    uint64_t key_bytes;
    uint32_t type;
    enum status s = take_text(w, &v->key, &key_bytes);
    if (s)
        return s;
    if (key_bytes == 0 || key_bytes > UINT16_MAX || memchr(v->key, '\0', (size_t)key_bytes))
        return complain(w->c, E_FORMAT, "a key is empty, too long, or holds a NUL");
    v->key_bytes = (uint32_t)key_bytes;
    s = take_u32(w, &type);
    if (s)
        return s;
    if (type >= GGUF_TYPE_END)
        return bad_value(w, v, "has an unknown type");
    v->type = (uint8_t)type;
    v->element = v->type;
    v->n = 1;
    if (type == GGUF_ARRAY)
        return take_array(w, v);
    if (type != GGUF_STRING)
        return take_elements(w, v);
    const char *text = NULL;
    s = take_text(w, &text, &v->n);
    v->at = (const uint8_t *)text;
    return s;
}

int gguf_compare_key(const char *key, size_t bytes, const struct gguf_value *v)
{
    size_t n = bytes < v->key_bytes ? bytes : v->key_bytes;
    int order = memcmp(key, v->key, n);
    return order ? order : (bytes > v->key_bytes) - (bytes < v->key_bytes);
}

static int by_key(const void *a, const void *b)
{
    const struct gguf_value *v = a;
    return gguf_compare_key(v->key, v->key_bytes, b);
}

static enum status take_pairs(struct walk *w, struct gguf *g, uint64_t n)
{
    /* One more: calloc(0) may be NULL. */
    g->value = calloc((size_t)n + 1, sizeof(*g->value));
    if (!g->value)
        return complain(w->c, E_NOMEM, "no memory for %llu keys", (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        enum status s = take_pair(w, &g->value[i]);
        if (s)
            return s;
    }
    g->n_values = (size_t)n;
    qsort(g->value, g->n_values, sizeof(*g->value), by_key);
    for (size_t i = 1; i < g->n_values; i++) {
        if (by_key(&g->value[i - 1], &g->value[i]) == 0)
            return bad_value(w, &g->value[i], "occurs twice");
    }
    return OK;
}

/* --- tensors --- */

static enum status bad_tensor(const struct walk *w, const struct tensor *t, const char *what)
{
    return complain(w->c, E_FORMAT, "tensor \"%.*s\" %s", tensor_name_shown(t), t->name, what);
}

/* The bytes of a shape; dimensions count from the innermost. */
static const char *measure(struct tensor *t, const struct format_row *f, const uint64_t *dim)
{
    uint64_t n = 1;
    if (dim[0] % f->values)
        return "has rows that are no whole number of blocks";
    for (int i = 0; i < t->rank; i++) {
        if (dim[i] == 0)
            return "has a dimension of 0";
        if (__builtin_mul_overflow(n, dim[i], &n) || n > INT64_MAX)
            return "has a shape that is too large";
    }
    if (__builtin_mul_overflow(n / f->values, f->bytes, &t->bytes))
        return "has a shape that is too large";
    t->dim[0] = dim[t->rank - 1];
    t->dim[1] = t->rank > 1 ? dim[t->rank - 2] : 1;
    t->dtype = f->dtype;
    t->type = f->name;
    return NULL;
}

static enum status take_name(struct walk *w, struct tensor *t)
{
    uint64_t bytes;
    enum status s = take_text(w, &t->name, &bytes);
    if (s)
        return s;
    if (bytes == 0 || bytes > UINT16_MAX || memchr(t->name, '\0', (size_t)bytes))
        return complain(w->c, E_FORMAT, "the name of a tensor is empty, too long, or holds a NUL");
    t->name_bytes = (uint32_t)bytes;
    return OK;
}

static enum status take_info(struct walk *w, struct tensor *t, uint64_t alignment)
{
    uint64_t dim[GGUF_RANK_MAX] = {0};
    uint32_t rank;
    uint32_t type;
    enum status s = take_name(w, t);
    if (!s)
        s = take_u32(w, &rank);
    if (s)
        return s;
    if (rank < 1 || rank > GGUF_RANK_MAX)
        return bad_tensor(w, t, "must have 1 to 4 dimensions");
    t->rank = (uint8_t)rank;
    for (uint32_t i = 0; i < rank && !s; i++)
        s = take_u64(w, &dim[i]);
    if (!s)
        s = take_u32(w, &type);
    if (!s)
        s = take_u64(w, &t->begin);
    if (s)
        return s;
    if (type >= ARRAY_LEN(formats) || !formats[type].values)
        return complain(w->c, E_UNSUPPORTED,
                        "tensor \"%.*s\" has the type %u; known: F32, F16, BF16, Q8_0, Q4_0, "
                        "Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
                        tensor_name_shown(t), t->name, type);
    const char *wrong = measure(t, &formats[type], dim);
    if (!wrong && t->begin % alignment)
        wrong = "begins at an offset that is not aligned";
    return wrong ? bad_tensor(w, t, wrong) : OK;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor *x = a;
    const struct tensor *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* From offsets in the data to offsets in the file; none outside, none over another. */
static enum status place(struct walk *w, struct tensor *t, size_t n, uint64_t alignment)
{
    uint64_t data = (w->at + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < n; i++) {
        if (__builtin_add_overflow(t[i].begin, data, &t[i].begin) || t[i].begin > w->file_bytes ||
            t[i].bytes > w->file_bytes - t[i].begin)
            return bad_tensor(w, &t[i], "lies outside of the file, which may have been cut off");
    }
    if (n > 1)
        qsort(t, n, sizeof(*t), by_place);
    for (size_t i = 1; i < n; i++) {
        if (t[i].begin - t[i - 1].begin < t[i - 1].bytes)
            return bad_tensor(w, &t[i], "overlaps another");
    }
    return OK;
}

static enum status take_tensors(struct walk *w, const struct gguf *g, struct tensor_list *l,
                                uint16_t shard)
{
    size_t first = l->n;
    w->part = "list of tensors";
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        struct tensor t = {.shard = shard};
        enum status s = take_info(w, &t, g->alignment);
        if (!s)
            s = tensor_append(l, &t, w->c);
        if (s)
            return s;
    }
    return place(w, l->n > first ? l->item + first : NULL, l->n - first, g->alignment);
}

static enum status take_version(struct walk *w, struct gguf *g)
{
    const uint8_t *magic = NULL;
    enum status s = take(w, MAGIC_BYTES, 1, &magic);
    if (s)
        return s;
    if (memcmp(magic, "GGUF", MAGIC_BYTES) != 0)
        return complain(w->c, E_FORMAT, "not a GGUF file");
    s = take_u32(w, &g->version);
    if (s)
        return s;
    if (g->version >= 1 << 16)
        return complain(w->c, E_UNSUPPORTED, "a big-endian GGUF file is not supported");
    if (g->version < VERSION_MIN || g->version > VERSION_MAX)
        return complain(w->c, E_UNSUPPORTED, "GGUF version %u is not known; known: 2, 3",
                        g->version);
    return OK;
}

static enum status read_alignment(struct gguf *g, const struct complaint *c)
{
    int64_t n = 32;
    enum status s = gguf_int(g, "general.alignment", GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX, &n, c);
    if (!s && (n & (n - 1)))
        s = complain(c, E_FORMAT, "key \"general.alignment\" is %d, no power of two", (int)n);
    g->alignment = (uint64_t)n;
    return s;
}

enum status gguf_parse(struct gguf *g, const uint8_t *head, size_t bytes, uint64_t file_bytes,
                       struct tensor_list *l, uint16_t shard, const struct complaint *c)
{
    struct walk w = {
        .head = head, .bytes = bytes, .file_bytes = file_bytes, .part = "metadata", .c = c};
    uint64_t n_pairs = 0;
    enum status s = take_version(&w, g);
    if (!s)
        s = take_count(&w, TENSORS_MAX, INFO_BYTES_MIN, "tensors", &g->n_tensors);
    if (!s)
        s = take_count(&w, GGUF_KEYS_MAX, PAIR_BYTES_MIN, "keys", &n_pairs);
    if (!s)
        s = take_pairs(&w, g, n_pairs);
    if (!s)
        s = read_alignment(g, c);
    return s || !l ? s : take_tensors(&w, g, l, shard);
}
