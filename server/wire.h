#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H

#include "models/chat.h"
#include "scheduler/sched.h"
#include "server/buf.h"

/* What all wire formats share: a request to generate, an answer being written, an
 * error, and the table of functions that one format is made of. Formats do no I/O and
 * know no clock and no tokens, so tests and fuzzers call them directly; stream.c is
 * where a format, a connection and the scheduler meet. A new API is a new table. */

enum { STOPS_MAX = 16, STOP_BYTES_MAX = 256, WIRE_ID_MAX = 64, MODEL_BYTES_MAX = 256 };
/* With the NUL, of the name of a request's member, "messages[2].content". */
enum { PARAM_MAX = 64 };
/* params.max_new_tokens of a request that named none where the format has no default:
 * the context is the only limit. */
enum { TOKENS_NO_LIMIT = INT32_MAX };

struct wire;

/* Strings and arrays point into the parsed body, which the request owns. */
struct gen_request {
    const struct wire *wire;
    const char *model;      /* NULL: not named */
    struct chat_input chat; /* messages NULL: prompt or prompt_ids is used */
    const char *prompt;     /* UTF-8, not terminated */
    size_t prompt_bytes;
    bool raw;         /* Workers AI: prompt goes in without a template */
    bool chat_prompt; /* Workers AI: prompt is one user message */
    bool echo;        /* completions: the prompt goes out first */
    bool stream;
    bool stream_usage;
    bool reject_if_busy;
    struct {
        const char *text;
        size_t bytes;
    } stop[STOPS_MAX];
    int32_t n_stops;
    bool temperature_given;
    bool top_p_given;
    bool top_k_given;
    bool repetition_given;
    bool seed_given;
    struct sched_params params; /* what was not given holds the format's default */
    struct token_bias *bias;    /* owned; params.sampling.bias points to it */
    void *tree;                 /* the parsed body */
};

enum finish_reason { FINISH_STOP, FINISH_LENGTH, FINISH_ERROR };

struct answer {
    char id[WIRE_ID_MAX];
    const char *model; /* as the client named it */
    int64_t created;   /* unix seconds */
    int32_t prompt_tokens;
    int32_t completion_tokens;
    int32_t cached_tokens;
    enum finish_reason finish;
    bool started;        /* the first delta has been written */
    int64_t text_offset; /* the format's own: characters of the tokens written so far */
};

/* What one delta carries besides its text, for logprobs. */
struct token_detail {
    const char *text;
    size_t bytes;
    float logprob;
    int32_t n_top;
    struct {
        const char *text;
        size_t bytes;
        float logprob;
    } top[LOGPROBS_MAX];
};

enum api_error_kind {
    API_BAD_JSON,
    API_BAD_FIELD, /* param names it */
    API_TOO_LONG,  /* prompt over the context */
    API_NO_MODEL,
    API_NO_ROUTE,
    API_BAD_METHOD,
    API_TOO_LARGE,
    API_TIMEOUT,
    API_UNAUTHORIZED,
    API_UNSUPPORTED, /* documented, not offered */
    API_BUSY,
    API_NOT_READY,
    API_ENGINE,
    API_NO_KEY, /* no credentials at all; API_UNAUTHORIZED: wrong ones */
};

struct api_error {
    enum api_error_kind kind;
    char param[PARAM_MAX]; /* "" : none */
    /* Constants and field names only, never internals or paths. "": the format's own
     * words for the kind. */
    char text[256];
    uint32_t retry_ms; /* what to wait before another try, 0: not known */
};

/* param and text may be NULL. */
void api_error_set(struct api_error *e, enum api_error_kind kind, const char *param,
                   const char *text);
/* API_NO_MODEL in the words of this format. The name comes from outside: it is cut. */
void api_error_no_model(struct api_error *e, const struct wire *w, const char *model);
/* API_TOO_LONG likewise: the tokens that the request would need, and the context. */
void api_error_too_long(struct api_error *e, const struct wire *w, int64_t tokens, int64_t context);

int api_error_status(enum api_error_kind kind); /* HTTP code where no format is known */

struct wire {
    const char *name;        /* for metrics: "chat", "completions", "workers" ... */
    const char *id_prefix;   /* "chatcmpl-" */
    const char *stream_type; /* Content-Type of a stream, exactly */
    const char *whole_type;
    const char *id_header; /* a second header that carries our id of the request; NULL: none */
    bool comments;         /* a silent stream may hold comment lines */
    bool model_defaults;   /* what a request leaves open is the model's generation_config */
    /* E_INVALID with err filled, or E_NOMEM. On success the caller frees the request. */
    enum status (*parse)(struct gen_request *out, const char *body, size_t bytes,
                         struct api_error *err);
    /* One event, detail only when logprobs were asked for. */
    void (*delta)(struct buf *out, const struct gen_request *r, struct answer *a, const char *text,
                  size_t bytes, const struct token_detail *detail, int32_t n_detail);
    /* The last delta's text, the finish reason, usage if wanted, [DONE]. */
    void (*end)(struct buf *out, const struct gen_request *r, struct answer *a, const char *text,
                size_t bytes, const struct token_detail *detail, int32_t n_detail);
    void (*whole)(struct buf *out, const struct gen_request *r, const struct answer *a,
                  const char *text, size_t bytes, const struct token_detail *detail,
                  int32_t n_detail);
    /* Body of an error answer. */
    void (*error)(struct buf *out, const struct api_error *e, const char *request_id);
    /* An error after the first byte of a stream, and the end of the stream. */
    void (*stream_error)(struct buf *out, const struct api_error *e, const char *request_id);
    /* HTTP code of an error answer: formats disagree (an unknown model is 404 or 400). */
    int (*status)(const struct api_error *e);
    const char *no_model[2]; /* what stands before and behind the model's name */
    const char *too_long[3]; /* before, between and behind the two numbers */
};

void gen_request_free(struct gen_request *r);

extern const struct wire wire_chat;            /* POST /v1/chat/completions */
extern const struct wire wire_completions;     /* POST /v1/completions */
extern const struct wire wire_workers_rest;    /* POST /client/v4/accounts/{any}/ai/run/{model} */
extern const struct wire wire_workers_binding; /* POST /run?version=3 */

#endif
