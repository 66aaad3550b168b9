#include "scheduler/admit.h"

#include "scheduler/cost.h"

/* Three bounds, from the cheapest to ask to the dearest: requests alive, prompt tokens
 * waiting, and the time to the first token that cost_ttft() predicts. The time after which to
 * try again is how long the queue takes to shrink by what is too much: as many leave it in a
 * second as have lately. Without measurements it is a second. */

#define RETRY_UNKNOWN_NS 1000000000u
#define RETRY_MIN_NS     20000000u
#define RETRY_MAX_NS     60000000000u

static bool refuse(struct sched_refusal *out, enum sched_reason reason, uint64_t wait_ns)
{
    uint64_t ns = wait_ns ? wait_ns : RETRY_UNKNOWN_NS;
    ns = ns > RETRY_MIN_NS ? ns : RETRY_MIN_NS;
    *out = (struct sched_refusal){reason, ns < RETRY_MAX_NS ? ns : RETRY_MAX_NS};
    return false;
}

/* A quarter of the queue has to go: whoever comes back with the others finds room then. */
static uint64_t until_room(const struct sched_stats *s)
{
    return ((uint64_t)s->waiting / 4 + 1) * s->leave_ns;
}

static uint64_t until_tokens(const struct sched_stats *s, int64_t too_many)
{
    uint64_t compute_ns = (uint64_t)too_many * s->token_ns;
    uint64_t each = s->waiting > 0 ? (uint64_t)(s->waiting_tokens / s->waiting) : 0;
    uint64_t leave_ns = each > 0 ? (uint64_t)too_many / each * s->leave_ns : 0;
    return compute_ns > leave_ns ? compute_ns : leave_ns;
}

bool admit_judge(const struct sched_options *opt, const struct sched_stats *s, uint64_t slo_ns,
                 int32_t n_live, int32_t n_prompt, struct sched_refusal *out)
{
    int64_t tokens = s->waiting_tokens + n_prompt;
    if (n_live >= opt->live_max)
        return refuse(out, SCHED_MANY_REQUESTS, until_room(s));
    /* With nobody waiting even the longest prompt is no queue. */
    if (opt->queue_tokens_max > 0 && s->waiting > 0 && tokens > opt->queue_tokens_max)
        return refuse(out, SCHED_MANY_TOKENS, until_tokens(s, tokens - opt->queue_tokens_max));
    uint64_t slo = slo_ns ? slo_ns : opt->ttft_slo_ns;
    uint64_t expected = slo ? cost_ttft(s, n_prompt) : 0;
    if (expected > slo)
        return refuse(out, SCHED_TOO_LATE, expected - slo);
    return true;
}
