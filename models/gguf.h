#ifndef MODELS_GGUF_H
#define MODELS_GGUF_H

#include "models/tokenizer.h"
#include "models/weights.h"

/* GGUF, versions 2 and 3: a head of typed metadata and a list of tensors, then the data.
 * The head is held in memory as it lies in the file; values and names point into it.
 * Whatever a getter returns was checked to lie inside. */

enum {
    GGUF_HEAD_BYTES_MAX = 256 << 20,
    GGUF_KEYS_MAX = 1 << 16,
    GGUF_RANK_MAX = 4,
    GGUF_ALIGNMENT_MIN = 8,
    GGUF_ALIGNMENT_MAX = 4096,
};

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_END,
};

struct gguf_value {
    const char *key; /* not terminated */
    uint32_t key_bytes;
    uint8_t type;      /* enum gguf_type */
    uint8_t element;   /* type of an array's elements, never GGUF_ARRAY; else as type */
    uint64_t n;        /* elements of an array, bytes of a string, 1 */
    const uint8_t *at; /* the first element */
};

struct gguf {
    uint8_t *head;            /* [head_bytes] owned; at least metadata and tensor list */
    struct gguf_value *value; /* [n_values] sorted by key, each key once */
    size_t n_values;
    uint64_t n_tensors;
    uint64_t alignment;
    uint32_t version;
};

/* Parses bytes of head, the beginning of a file of file_bytes. The tensors are appended
 * to l, unless it is NULL. E_AGAIN: the head is longer than bytes; E_FORMAT, E_NOMEM.
 * After a failure too g is gguf_free()d by the caller; head is taken only by success. */
enum status gguf_parse(struct gguf *g, const uint8_t *head, size_t bytes, uint64_t file_bytes,
                       struct tensor_list *l, uint16_t shard, const struct complaint *c) MUST_CHECK;

/* Reads as much of the file as its head takes, and parses it. */
enum status gguf_read(struct gguf *g, int fd, uint64_t file_bytes, struct tensor_list *l,
                      uint16_t shard, const struct complaint *c) MUST_CHECK;

/* The metadata of a model that is one file, or of which path is the first part.
 * c->file is the last part of path. */
enum status gguf_open(struct gguf *g, const char *path, const struct complaint *c) MUST_CHECK;
void gguf_free(struct gguf *g); /* zeroed is fine */

/* A model path that names a file instead of a directory. */
bool gguf_is_path(const char *path);
/* The last part of a path, and what is before it ("." when nothing is). */
const char *gguf_file_name(const char *path);
enum status gguf_folder(char out[MODEL_PATH_MAX], const char *path) MUST_CHECK;

size_t gguf_type_bytes(enum gguf_type t); /* of one element; 0: strings and arrays */
int gguf_compare_key(const char *key, size_t bytes, const struct gguf_value *v);

/* NULL: no such key. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);

/* Getters of optional keys: absent leaves *out as it was; another type or a value outside
 * min..max is E_FORMAT. */
enum status gguf_int(const struct gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                     const struct complaint *c) MUST_CHECK;
enum status gguf_number(const struct gguf *g, const char *key, double *out,
                        const struct complaint *c) MUST_CHECK;
enum status gguf_bool(const struct gguf *g, const char *key, bool *out,
                      const struct complaint *c) MUST_CHECK;
/* A string without a NUL in it; not terminated, inside the head. */
enum status gguf_text(const struct gguf *g, const char *key, const char **text, size_t *bytes,
                      const struct complaint *c) MUST_CHECK;
/* An array of one of the types that element stands for: GGUF_STRING, GGUF_F32, or any
 * whole number for GGUF_I32. NULL in *out: absent. */
enum status gguf_array(const struct gguf *g, const char *key, enum gguf_type element,
                       const struct gguf_value **out, const struct complaint *c) MUST_CHECK;

/* Element i of an array of whole numbers or of GGUF_F32. */
int64_t gguf_int_at(const struct gguf_value *v, uint64_t i);
float gguf_float_at(const struct gguf_value *v, uint64_t i);

/* Walks an array of strings: at begins as v->at. */
const char *gguf_next_string(const uint8_t **at, size_t *bytes);

/* gguf_config.c: the metadata in the words of config.json and generation_config.json, so
 * that one reader with one set of checks judges both formats. Trees for cJSON_Delete(). */
enum status gguf_config(cJSON **config, cJSON **generation, const struct gguf *g,
                        const struct complaint *c) MUST_CHECK;
/* Hugging Face's name of a tensor in GGUF's spelling. */
const char *gguf_tensor_name(const char *name, char out[TENSOR_NAME_MAX]);
/* Rows of a head of q and k when they alternate between its halves; 0: they do not. */
uint32_t gguf_head_rows(const struct gguf *g);

/* gguf_tok.c: the tokenizer, and the chat template with the marks it names in the words of
 * tokenizer_config.json. E_FORMAT, E_UNSUPPORTED, E_NOMEM. */
enum status gguf_tokenizer(struct tokenizer **out, const struct gguf *g,
                           const struct complaint *c) MUST_CHECK;
/* The same tokenizer as a tokenizer.json, from malloc(). */
enum status gguf_tokenizer_json(char **out, size_t *bytes, const struct gguf *g,
                                const struct complaint *c) MUST_CHECK;
enum status gguf_tokenizer_config(cJSON **out, const struct gguf *g,
                                  const struct complaint *c) MUST_CHECK;

#endif
