#ifndef MODELS_JSONFILE_H
#define MODELS_JSONFILE_H

#include "kernels/base.h"
#include "models/model.h"
#include "models/strict_json.h"

#include <cjson/cJSON.h>

/* JSON files of a model directory, read as if an enemy had written them: a regular
 * file, a size cap, the RFC 8259 grammar to the letter, UTF-8, a depth and a node
 * cap, and only then cJSON, which checks none of this well. */

enum {
    CONFIG_BYTES_MAX = 1 << 20, /* config.json and its small neighbours */
    CONFIG_NODES_MAX = 200000,
};

/* Where complaints go: one line that begins with the file's name. */
struct complaint {
    const char *file; /* short name, "config.json" */
    char *text;       /* [size] */
    size_t size;
};

static inline struct complaint complaint_in(const char *file, char *err, size_t err_size)
{
    struct complaint c = {.file = file, .size = err_size};
    /* Not above: clang-tidy would then take err for a pointer that could be const. */
    c.text = err;
    return c;
}

/* Writes the line and returns s, so that a guard is one statement. */
enum status complain(const struct complaint *c, enum status s, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* dir/name into out. E_INVALID when it does not fit. */
enum status path_join(char out[MODEL_PATH_MAX], const char *dir, const char *name) MUST_CHECK;

/* false only when nothing of that name is there; what is there and cannot be read is
 * for the reader to complain about. */
bool file_present(const char *dir, const char *name);

/* A regular file opened for reading and its size. E_IO; E_INVALID: the path is too long. */
enum status file_open(int *fd, uint64_t *bytes, const char *dir,
                      const struct complaint *c) MUST_CHECK;

/* The whole of dir/c->file in memory from malloc(), a NUL behind its last byte. As
 * file_open(), and E_NOMEM, and E_FORMAT when it is empty or longer than bytes_max. */
enum status file_read(char **out, size_t *bytes, const char *dir, size_t bytes_max,
                      const struct complaint *c) MUST_CHECK;

/* dir/c->file -> tree, to be freed with cJSON_Delete(). Strings in it hold no NUL, so
 * strlen() of a valuestring is its length. */
enum status json_load(cJSON **out, const char *dir, size_t bytes_max, size_t nodes_max,
                      const struct complaint *c) MUST_CHECK;

/* The same from memory, with a NUL behind the last byte. */
enum status json_of_text(cJSON **out, const char *text, size_t bytes, size_t nodes_max,
                         const struct complaint *c) MUST_CHECK;

/* A member by its exact name; NULL when o is no object, or it is absent or null. */
const cJSON *json_get(const cJSON *o, const char *key);

/* Getters of optional members: absent or null leaves *out as it was; another type, a
 * value outside min..max, or a member given twice is E_FORMAT. */
enum status field_int(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out,
                      const struct complaint *c) MUST_CHECK;
enum status field_number(const cJSON *o, const char *key, double min, double max, double *out,
                         const struct complaint *c) MUST_CHECK;
enum status field_bool(const cJSON *o, const char *key, bool *out,
                       const struct complaint *c) MUST_CHECK;
/* *out points into the tree. */
enum status field_string(const cJSON *o, const char *key, const char **out,
                         const struct complaint *c) MUST_CHECK;

/* One value as a whole number in min..max; false when it is anything else. */
bool json_as_int(const cJSON *v, int64_t min, int64_t max, int64_t *out) MUST_CHECK;

#endif
