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

enum field_kind {
    FIELD_BOOL,
    FIELD_NOT, /* a boolean whose opposite is stored */
    FIELD_INT32,
    FIELD_SEED,
    FIELD_FLOAT,
};

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

/* Tells texts apart, where who chooses them gains nothing by a clash. */

/* NULL when absent or null. */
const struct cJSON *json_given(const struct cJSON *top, const char *name);

/* r->model, and r->name from request_id. */
enum status model_read(struct gen_request *r, const struct cJSON *top, struct fault *f) MUST_CHECK;
/* r->stop from a string or a list of strings under this name. */
enum status stops_read(struct gen_request *r, const struct cJSON *top, const char *name,
                       struct fault *f) MUST_CHECK;
/* A list of token ids; nothing when it is absent or null. */
enum status ids_read(struct id_list *out, const struct cJSON *v, const char *param, size_t max,
                     struct fault *f) MUST_CHECK;
/* r->prompt: room for n, to be filled by prompt_add(). */
enum status prompts_open(struct gen_request *r, size_t n) MUST_CHECK;
void prompt_add(struct gen_request *r, const char *text, size_t bytes);
/* One that is a list of ids. */
enum status prompt_add_ids(struct gen_request *r, const struct cJSON *list, const char *param,
                           struct fault *f) MUST_CHECK;

/* What a client may name as long as it asks for nothing by it: null, false, 0, "", []. */
bool json_inert(const struct cJSON *v);

/* How one format reads its parsed body, and how it words a fault in err. */
typedef enum status (*read_fn)(struct gen_request *r, const struct cJSON *top, struct fault *f);
typedef void (*word_fn)(const struct fault *f, struct api_error *err);

/* The whole of a format's parse, from neutral values to settled ones. On failure r holds
 * nothing. */
enum status body_parse(struct gen_request *r, const struct wire *w, const char *text, size_t bytes,
                       read_fn read, word_fn word, struct api_error *err) MUST_CHECK;

/* r->chat.messages, once every message has been found to be one. */
enum status messages_read(struct gen_request *r, const struct cJSON *list,
                          struct fault *f) MUST_CHECK;

#endif
