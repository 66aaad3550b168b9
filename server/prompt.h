#ifndef SERVER_PROMPT_H
#define SERVER_PROMPT_H

#include "server/registry.h"
#include "server/wire.h"

/* A parsed request -> the token ids of its prompts, through the model's own template.
 * Touches the immutable tokenizer and its own arguments only, so any thread may. */

/* Most bytes of text one token of the context can stand for on average: longer prompts
 * are refused before they are tokenized. */
enum { PROMPT_BYTES_PER_TOKEN = 16 };

struct prompt_ids {
    int32_t *ids; /* [n], from malloc */
    size_t n;
};

/* Bytes of the longest text that the client wrote. */
size_t prompt_bytes(const struct gen_request *r);
/* A conversation is one prompt. */
int32_t prompt_count(const struct gen_request *r);

/* Of prompt i. On success the caller frees out->ids. E_INVALID: err is filled. */
enum status prompt_encode(struct prompt_ids *out, const struct served *m,
                          const struct gen_request *r, int32_t i, struct api_error *err) MUST_CHECK;

/* The answer to a request that generates nothing. E_NOMEM. */
enum status prompt_tell(struct buf *out, const struct served *m, const struct gen_request *r,
                        const struct prompt_ids *p) MUST_CHECK;

/* What the request left open: the model's own generation_config where the format has no
 * defaults of its own, a random seed, and what of the context the prompt leaves. */
void prompt_params(struct sched_params *p, const struct served *m, const struct gen_request *r,
                   size_t n_prompt);

#endif
