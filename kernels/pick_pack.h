#ifndef KERNELS_PICK_PACK_H
#define KERNELS_PICK_PACK_H

#include "kernels/sampling.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Picks on their way to a device and back: plain data without pointers of the host. What has no
 * fixed size lies in words beside the tasks. */

enum { PICKS_MAX = 4096 };

struct pick_task {
    uint64_t seed;
    uint64_t position;
    uint32_t *words; /* device: what the offsets below count from */
    float temperature;
    float top_p;
    float min_p;
    float repetition;
    float presence;
    float frequency;
    int32_t top_k;
    int32_t n_logprobs; /* -1 .. LOGPROBS_MAX, and no more than there are tokens */
    int32_t judged;     /* given is the token */
    int32_t given;
    int32_t masked; /* words [(vocab + 31) / 32] from 0 on say which tokens are allowed */
    int32_t n_bias; /* each a token and a float */
    int32_t n_banned;
    int32_t n_seen; /* each a token, n_out and in_prompt; no token twice */
    uint32_t bias;
    uint32_t banned;
    uint32_t seen;
    uint32_t saved; /* [n_bias + n_banned + n_seen] room for the logits that are edited */
};

/* What the host needs to know of a pick: logarithms are its own. */
struct pick_result {
    uint64_t mass; /* of all tokens, raw; 0 when nothing is known of them */
    float most;    /* the largest logit */
    float logit;   /* the token's own, raw; 0 when there is no token */
    int32_t token;
    int32_t n_top;
    int32_t top_token[LOGPROBS_MAX];
    float top_logit[LOGPROBS_MAX];
};

/* Words beside the tasks of n picks. */
size_t pick_words(const struct pick *pick, int32_t n, int32_t vocab);

/* task [n], words [pick_words()]; on_device is where the words are going to lie. */
void pick_pack(struct pick_task *task, uint32_t *words, uint32_t *on_device,
               const struct pick *pick, int32_t n, int32_t vocab);

void pick_unpack(struct picked *out, const struct pick *pick, const struct pick_result *result,
                 int32_t n);

/* What a logit exceeds its log probability by; mass as in exp.h, relative to the largest logit. */
float logprob_base(float most, uint64_t mass);

#ifdef __cplusplus
}
#endif

#endif
