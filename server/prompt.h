#ifndef SERVER_PROMPT_H
#define SERVER_PROMPT_H

#include "server/registry.h"
#include "server/wire.h"

/* A parsed request -> the token ids of its prompt, through the model's own template.
 * Touches the immutable tokenizer and its own arguments only, so any thread may. */

/* Most bytes of text one token of the context can stand for on average: longer prompts
 * are refused before they are tokenized. */
enum { PROMPT_BYTES_PER_TOKEN = 16 };

/* Bytes of everything the client wrote. */
size_t prompt_bytes(const struct gen_request *r);

/* On success the caller frees *ids, [*n]. E_INVALID: err is filled. */
enum status prompt_encode(const struct served *m, const struct gen_request *r, int32_t **ids,
                          size_t *n, struct api_error *err) MUST_CHECK;

/* What the request left open: the model's own generation_config where the format has no
 * defaults of its own, a random seed, and what of the context the prompt leaves. */
void prompt_params(struct sched_params *p, const struct served *m, const struct gen_request *r,
                   size_t n_prompt);

#endif
