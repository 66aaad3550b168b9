#ifndef SERVER_JSON_H
#define SERVER_JSON_H

#include "kernels/base.h"
#include "models/strict_json.h"

/* JSON from clients. Nothing reaches cJSON that strict_json() has not accepted within the
 * limits below, each member once. This file and json.c are the only door to cJSON in this
 * folder. */
struct cJSON;

enum {
    JSON_DEPTH_MAX = 32,
    JSON_NODES_MAX = 200000, /* values of any kind */
    JSON_MEMBERS_MAX = 512,  /* of the outermost object: lookups there are linear */
};

/* Beyond it a double no longer tells neighbouring integers apart; the one just above still
 * reads as this one. */
#define JSON_INTEGER_MAX 9007199254740992.0

/* The strict pass, then the tree. The tree holds copies: text may go. E_INVALID with err
 * filled, or E_NOMEM. */
enum status json_parse(struct cJSON **out, const char *text, size_t bytes,
                       struct json_error *err) MUST_CHECK;
void json_free(struct cJSON *v); /* NULL is fine */

enum json_kind {
    JSON_ABSENT, /* of a NULL value */
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

enum json_kind json_kind(const struct cJSON *v);
const char *json_kind_text(enum json_kind kind); /* "string", "number" ... */

/* NULL when absent, or when v is no object. Case matters. */
const struct cJSON *json_member(const struct cJSON *v, const char *name);
/* Elements of an array, members of an object; NULL at the end or when v is neither. */
const struct cJSON *json_first(const struct cJSON *v);
const struct cJSON *json_next(const struct cJSON *v);
size_t json_count(const struct cJSON *v);
const char *json_name(const struct cJSON *v); /* of a member */

bool json_true(const struct cJSON *v);
/* NULL when v is no string. NUL-terminated, and NUL is nowhere inside. */
const char *json_string(const struct cJSON *v, size_t *bytes);
/* False when v is no number, or none that a double can hold (1e999). */
bool json_number(const struct cJSON *v, double *out);
/* False as above, and for fractions and beyond JSON_INTEGER_MAX. 1e2 is an integer. */
bool json_integer(const struct cJSON *v, int64_t *out);

#endif
