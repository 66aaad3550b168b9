#ifndef BENCH_SERVE_WIRE_H
#define BENCH_SERVE_WIRE_H

#include "bench/serve_options.h"

#include "server/json.h"

/* What a server speaks, as a table: the body of a request, and what an event of the answer says.
 * Neither knows of sockets or clocks. */

#define SERVE_WIRE_NAMES "openai|vllm|openai-chat|workers-ai"

/* Rows of serve_wires, in the order of the names. */
enum { SERVE_OPENAI, SERVE_VLLM, SERVE_CHAT, SERVE_WORKERS, N_SERVE_WIRES };

struct serve_ask {
    const struct serve_options *opt;
    const struct cJSON *extra; /* of --extra-body, NULL: none */
    const char *model;         /* NULL: unnamed */
    const struct buf *prompt;  /* a JSON string, or an array of token ids */
    int64_t output_tokens;     /* 0: the server's own limit */
    int64_t index;             /* of the request: with --seed, the seed of its draws */
};

/* What one event says. Text points into the tree it was read from. */
struct serve_event {
    const char *text; /* NULL, or [bytes] */
    size_t bytes;
    bool choice; /* it belongs to an answer, with or without text */
    bool finish;
    bool error;
    bool bad_usage;
    bool usage;
    int64_t prompt_tokens; /* -1: unsaid */
    int64_t cached_tokens;
    int64_t answer_tokens; /* -1: unsaid */
};

struct serve_wire {
    const char *name;
    const char *endpoint; /* {model} stands for the model's name */
    bool names_model;     /* in the body */
    bool ignores_eos;     /* has the field */
    void (*prompt)(struct buf *out, const struct buf *prompt);
    void (*read)(struct serve_event *out, const struct cJSON *top);
};

extern const struct serve_wire serve_wires[N_SERVE_WIRES];

void serve_body(struct buf *out, const struct serve_ask *ask);
/* One event's data, not [DONE]. false: it is no JSON object. */
bool serve_event_read(struct serve_event *out, struct cJSON **tree, int32_t backend,
                      const char *data, size_t bytes);

#endif
