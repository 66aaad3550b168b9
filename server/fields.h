#ifndef SERVER_FIELDS_H
#define SERVER_FIELDS_H

#include "server/json.h"
#include "server/wire.h"

/* Private to the wire formats: how a parsed body becomes a gen_request. What is wrong
 * comes back as a fault, which every format then puts into its own words. */

enum { MESSAGES_MAX = 2048, BIAS_MAX = 1024 };

enum fault_what {
    FAULT_TYPE,        /* got is what came instead of want */
    FAULT_LOW,         /* bound is the least value */
    FAULT_NOT_ABOVE,   /* must be greater than bound */
    FAULT_HIGH,        /* bound is the greatest value */
    FAULT_ABSENT,      /* required */
    FAULT_TEXT,        /* text says what must be */
    FAULT_UNSUPPORTED, /* text says what is not offered */
};

struct fault {
    enum fault_what what;
    char param[PARAM_MAX]; /* "messages[2].content": names and numbers only, never values */
    const char *want;
    const char *got;
    double bound;
    const char *text;
    bool sentence; /* text is all there is to say: no format puts words around it */
};

/* Each returns E_INVALID, so that `return fault_...()` reads as the refusal it is. */
enum status fault_type(struct fault *f, const char *param, const char *want,
                       const struct cJSON *got) MUST_CHECK;
enum status fault_say(struct fault *f, enum fault_what what, const char *param,
                      const char *text) MUST_CHECK;
enum status fault_sentence(struct fault *f, enum fault_what what, const char *param,
                           const char *text) MUST_CHECK;

enum field_kind { FIELD_BOOL, FIELD_INT32, FIELD_SEED, FIELD_FLOAT };

/* One plain field: a row of a format's table. */
struct field {
    const char *name;
    enum field_kind kind;
    bool above; /* min itself is outside */
    double min;
    double max;
    size_t at;    /* offsetof(struct gen_request, ...) */
    size_t given; /* offset of the flag that tells it was there; 0: nobody asks */
};

/* null counts as absent only when null_ok. */
enum status fields_read(struct gen_request *r, const struct cJSON *top, const struct field *table,
                        size_t n, bool null_ok, struct fault *f) MUST_CHECK;

/* What a client may name as long as it asks for nothing by it: null, false, 0, "", []. */
bool json_inert(const struct cJSON *v);

/* r->tree of every format. */
struct body {
    struct cJSON *json;
};

/* Fills r with neutral values and its tree. On failure r holds nothing. */
enum status body_open(struct gen_request *r, const struct wire *w, const char *text, size_t bytes,
                      struct api_error *err) MUST_CHECK;

/* r->chat.messages, once every message has been found to be one. */
enum status messages_read(struct gen_request *r, const struct cJSON *list,
                          struct fault *f) MUST_CHECK;

/* The end of every parse: makes neutral what no sampler should meet. */
void sampling_settle(struct sampling *s);

#endif
