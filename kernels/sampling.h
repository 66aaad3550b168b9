#ifndef KERNELS_SAMPLING_H
#define KERNELS_SAMPLING_H

#include "kernels/base.h"

/* How one row of logits becomes a token: plain data that travels unchanged from
 * the API down to the backend. Every control is data of a pick, so that a new
 * one never needs a new call.
 *
 * Order of application (tests/sampling_test.c is the proof):
 *   1. logprobs are taken of the raw distribution;
 *   2. allowed mask, bias, banned tokens, repetition, presence and frequency penalties;
 *   3. temperature; 4. top_k; 5. top_p; 6. min_p; 7. the draw.
 * Probabilities are summed as integers, in units of 2^-40 of the most likely token's (exp.h): exact
 * in any order, so that every backend draws the same tokens to the bit.
 * The random number is Philox4x32-10 keyed by (seed, position), never by where
 * the row sits in the batch: the same request draws the same tokens in any
 * company. */

enum { LOGPROBS_MAX = 20 };

struct token_bias {
    int32_t token;
    float bias; /* added to the logit; -INFINITY bans the token */
};

struct token_count {
    int32_t token;
    int32_t n_out;  /* times produced: presence and frequency penalties */
    bool in_prompt; /* with n_out: repetition penalty */
};

/* Chosen by the client. Neutral: {.top_p = 1, .repetition = 1, .n_logprobs = -1}. */
struct sampling {
    float temperature; /* 0: argmax, lowest id wins a tie */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    int32_t top_k;     /* 0: off */
    float repetition;  /* 1: off; divides positive logits, multiplies negative ones */
    float presence;    /* 0: off */
    float frequency;   /* 0: off */
    uint64_t seed;
    int32_t n_logprobs;            /* -1: none; else the alternatives wanted, 0..LOGPROBS_MAX */
    const struct token_bias *bias; /* [n_bias] */
    int32_t n_bias;
};

struct pick {
    int32_t row;       /* row of this step whose logits are wanted */
    uint64_t position; /* of the token being drawn */
    struct sampling how;
    const struct token_count *seen; /* [n_seen] each token once; needed only with penalties */
    int32_t n_seen;
    const uint32_t *allowed; /* [(vocab + 31) / 32] bit set: allowed; NULL: every token */
    const int32_t *banned;   /* [n_banned] end tokens, while an answer may not end yet */
    int32_t n_banned;
    const int32_t *given; /* nothing is drawn, this token is judged: a prompt's; NULL: draw */
};

/* Whether a pick's logits differ from the raw ones. */
static inline bool pick_has_edits(const struct pick *p)
{
    return p->allowed || p->how.n_bias > 0 || p->n_banned > 0 || p->n_seen > 0;
}

enum {
    PICKED_BAD = -1,  /* logits were not finite: the request must fail, its neighbours not */
    PICKED_NONE = -2, /* the controls leave no token: the answer can only end */
};

struct picked {
    int32_t token; /* or one of PICKED_ */
    float logprob; /* the three below only when n_logprobs >= 0 */
    int32_t n_top;
    int32_t top_token[LOGPROBS_MAX]; /* most likely first */
    float top_logprob[LOGPROBS_MAX];
};

#endif
