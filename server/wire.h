#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H

#include "models/chat.h"
#include "scheduler/sched.h"
#include "server/buf.h"

struct cJSON;

/* What all wire formats share: a request to generate, an answer being written, an
 * error, and the table of functions that one format is made of. Formats do no I/O and
 * know no clock and no tokens, so tests and fuzzers call them directly; stream.c is
 * where a format, a connection and the scheduler meet. A new API is a new table. */

enum { STOPS_MAX = 16, STOP_BYTES_MAX = 256, MODEL_BYTES_MAX = 256 };
/* Answers to one request: n of each prompt, prompts of one body, and both together. */
enum { N_MAX = 8, PROMPTS_MAX = 128, CHOICES_MAX = 128 };
enum { REQUEST_NAME_MAX = 128, WIRE_ID_MAX = REQUEST_NAME_MAX + 32 };
/* With the NUL, of the name of a request's member, "messages[2].content". */
enum { PARAM_MAX = 64 };
/* params.max_new_tokens of a request that named none where the format has no default:
 * the context is the only limit. */
enum { TOKENS_NO_LIMIT = INT32_MAX };

struct wire;

/* Text, or token ids where text is NULL. */
struct gen_prompt {
    const char *text; /* UTF-8, not terminated */
    size_t bytes;
    int32_t *ids; /* [n_ids], owned by the request */
    size_t n_ids;
};

struct id_list {
    int32_t *id; /* [n], owned by the request */
    int32_t n;
};

/* Strings and arrays point into the parsed body, which the request owns. */
struct gen_request {
    const struct wire *wire;
    const char *model;         /* NULL: not named */
    const char *name;          /* request_id; NULL: not named */
    struct chat_input chat;    /* messages NULL: the prompts are used */
    struct gen_prompt *prompt; /* [n_prompts] */
    int32_t n_prompts;
    int32_t n;          /* answers to each prompt */
    bool raw;           /* Workers AI: prompt goes in without a template */
    bool chat_prompt;   /* Workers AI: prompt is one user message */
    bool echo;          /* completions: the prompt goes out first */
    bool echo_only;     /* ... and nothing else: max_tokens is 0 */
    bool no_specials;   /* a plain prompt gets no BOS */
    bool show_specials; /* special tokens become text of the answer */
    bool stream;
    bool stream_usage;
    bool usage_always; /* on every chunk */
    bool return_ids;
    bool ids_as_text;  /* tokens of log-probabilities are named "token_id:7" */
    bool include_stop; /* the stop string belongs to the answer */
    bool want_strings; /* /tokenize: the text of every token */
    bool reject_if_busy;
    struct {
        const char *text;
        size_t bytes;
    } stop[STOPS_MAX];
    int32_t n_stops;
    struct id_list stop_tokens;
    struct id_list allowed;  /* n 0: every token */
    int32_t prompt_logprobs; /* -1: none */
    int32_t truncate;        /* 0: no; -1: to what the context holds; else so many tokens */
    int32_t priority;        /* as vLLM has it: lower first */
    uint64_t salt;           /* of cache_salt; 0: none */
    bool temperature_given;
    bool top_p_given;
    bool top_k_given;
    bool min_p_given;
    bool repetition_given;
    bool seed_given;
    struct sched_params params; /* what was not given holds the format's default */
    struct token_bias *bias;    /* owned; params.sampling.bias points to it */
    struct cJSON *tree;         /* the parsed body */
    struct cJSON *made;         /* messages that the format has made of it, or NULL */
};

enum finish_reason { FINISH_NONE, FINISH_STOP, FINISH_LENGTH };

struct token_text {
    const char *text;
    size_t bytes;
    int32_t token;
    float logprob;
};

/* What log-probabilities tell of one token. */
struct token_detail {
    struct token_text drawn;
    bool first; /* of a prompt: nothing came before it, so it has no log-probability */
    int32_t n_top;
    struct token_text top[LOGPROBS_MAX];
};

struct detail_list {
    struct token_detail *at; /* [n] */
    int32_t n;
};

/* One of the answers. What is new of it since the last delta; all of it in a whole answer. */
struct choice {
    int32_t index; /* prompt * n + k */
    const char *text;
    size_t bytes;
    struct detail_list detail; /* only when log-probabilities were asked for */
    const int32_t *token;      /* [n_token], only with return_ids */
    int32_t n_token;
    const int32_t *prompt; /* [n_prompt], only with return_ids */
    int32_t n_prompt;
    struct detail_list prompt_detail; /* only with prompt_logprobs */
    enum finish_reason finish;        /* FINISH_NONE: more will come */
    const char *stop_text;            /* the stop string that ended it, or NULL */
    size_t stop_bytes;
    int32_t stop_token; /* likewise; -1 */
    /* The format's own. */
    bool started;        /* a delta of it has been written */
    int64_t text_offset; /* characters of the tokens written so far */
};

struct answer {
    char id[WIRE_ID_MAX];
    const char *model; /* as the client named it */
    int64_t created;   /* unix seconds */
    int32_t prompt_tokens;
    int32_t completion_tokens;
    int32_t cached_tokens;
    struct choice *choice; /* [n_choices] */
    int32_t n_choices;
    int32_t padding; /* letters that hide the length of the next event; 0: none */
    /* The format's own. */
    int32_t n_events;
    struct buf kept; /* text that its last events repeat; freed with the stream */
};

/* What a request that generates nothing wants to know. */
struct told {
    const int32_t *ids; /* [n_ids] */
    size_t n_ids;
    int32_t context;
    struct detail_list strings; /* [n_ids] with want_strings */
    const char *text;           /* of the ids, where the prompt came as ids */
    size_t bytes;
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
    API_NO_KEY,   /* no credentials at all; API_UNAUTHORIZED: wrong ones */
    API_MISSING,  /* a header or parameter that the route needs; text names it */
    API_BAD_NAME, /* what stands where a model's name should cannot be one */
    API_OLD_SDK,  /* a way of asking that nobody answers any more */
    API_BAD_HTTP, /* refused below the routes; the code is HTTP's */
};

struct api_error {
    enum api_error_kind kind;
    char param[PARAM_MAX]; /* "" : none */
    /* Constants and field names only, never internals or paths. "": the format's own
     * words for the kind. */
    char text[256];
    const char *dropped; /* a constant: why there was no place, in a word; NULL: no place */
    uint32_t retry_ms;   /* what to wait before another try, 0: not known */
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
    bool tells_limits;     /* answers carry x-ratelimit- lines */
    bool model_defaults;   /* what a request leaves open is the model's generation_config */
    /* E_INVALID with err filled, or E_NOMEM. On success the caller frees the request. */
    enum status (*parse)(struct gen_request *out, const char *body, size_t bytes,
                         struct api_error *err);
    /* A format whose requests generate nothing has this and none of the next four. */
    void (*tell)(struct buf *out, const struct gen_request *r, const struct told *t);
    /* What stands before the first delta of a stream; NULL: nothing. */
    void (*begin)(struct buf *out, const struct gen_request *r, struct answer *a);
    /* What is new of one choice; the last one has its finish. */
    void (*delta)(struct buf *out, const struct gen_request *r, struct answer *a, struct choice *c);
    /* After the last delta of every choice: usage if wanted, [DONE]. */
    void (*end)(struct buf *out, const struct gen_request *r, struct answer *a);
    void (*whole)(struct buf *out, const struct gen_request *r, struct answer *a);
    /* Body of an error answer. */
    void (*error)(struct buf *out, const struct api_error *e, const char *request_id);
    /* An error after the first byte of a stream, and the end of the stream. */
    void (*stream_error)(struct buf *out, const struct api_error *e, const char *request_id);
    /* HTTP code of an error answer: formats disagree (an unknown model is 404 or 400). */
    int (*status)(const struct api_error *e);
    const char *input;       /* the member that holds the prompt; NULL: "messages" or "prompt" */
    const char *no_model[2]; /* what stands before and behind the model's name */
    const char *too_long[3]; /* before, between and behind the two numbers */
};

void gen_request_free(struct gen_request *r);

/* The member that is to blame for a prompt. */
static inline const char *prompt_member(const struct gen_request *r)
{
    if (r->wire->input)
        return r->wire->input;
    return r->chat.messages ? "messages" : "prompt";
}

/* Whether log-probabilities of the prompt's tokens are part of the answer. */
static inline bool judges_prompt(const struct gen_request *r)
{
    return r->prompt_logprobs >= 0 || (r->echo && r->params.sampling.n_logprobs >= 0);
}

extern const struct wire wire_chat;            /* POST /v1/chat/completions */
extern const struct wire wire_completions;     /* POST /v1/completions */
extern const struct wire wire_messages;        /* POST /v1/messages: Anthropic */
extern const struct wire wire_count_tokens;    /* POST /v1/messages/count_tokens */
extern const struct wire wire_responses;       /* POST /v1/responses */
extern const struct wire wire_tokenize;        /* POST /tokenize */
extern const struct wire wire_detokenize;      /* POST /detokenize */
extern const struct wire wire_workers_rest;    /* POST /client/v4/accounts/{any}/ai/run/{model} */
extern const struct wire wire_workers_binding; /* POST /run?version=3 */
/* OpenAI's bodies and answers where Workers AI has them, with its errors. */
extern const struct wire wire_workers_chat;        /* .../ai/v1/chat/completions */
extern const struct wire wire_workers_completions; /* .../ai/v1/completions */
/* The door of .../ai/run/proxy; what is behind it speaks for itself. */
extern const struct wire wire_workers_proxy;

#endif
