/* Gaps are drawn from a gamma distribution of mean 1 / rate and the shape --burstiness. At a steady
 * rate they are stretched so that n requests take n / rate, as in vLLM: two seeds then differ in
 * how arrivals cluster, not in how many there are. */
#include "bench/serve_schedule.h"

#include "bench/serve_random.h"

#include <math.h>
#include <stdlib.h>

enum { NUM_PROMPTS = 1000, LONG_PROMPTS = 20, RATE_STEPS = 1000 };

/* Two at a time would be thriftier; nobody waits for this. */
static double draw_normal(uint64_t *state)
{
    double u = draw(state);
    double v = draw(state);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

/* Marsaglia and Tsang, "A simple method for generating gamma variables". Mean: shape. */
static double draw_gamma(uint64_t *state, double shape)
{
    if (shape == 1)
        return -log(draw(state));
    double boost = 1;
    if (shape < 1) {
        boost = pow(draw(state), 1 / shape);
        shape += 1;
    }
    double d = shape - 1.0 / 3;
    double c = 1 / sqrt(9 * d);
    for (;;) {
        double x = draw_normal(state);
        double v = 1 + c * x;
        v = v * v * v;
        if (v > 0 && log(draw(state)) < 0.5 * x * x + d - d * v + d * log(v))
            return boost * d * v;
    }
}

double schedule_rate(const struct serve_options *o, double rate, int64_t i, int64_t n)
{
    double progress = n > 1 ? (double)i / (double)(n - 1) : 0;
    if (o->ramp == RAMP_LINEAR)
        return o->ramp_start + (o->ramp_end - o->ramp_start) * progress;
    if (o->ramp == RAMP_EXPONENTIAL)
        return o->ramp_start * pow(o->ramp_end / o->ramp_start, progress);
    return rate;
}

/* How many requests take the duration, at the mean of the gaps over a ramp. */
static double count_within(const struct serve_options *o, double rate)
{
    double gap = 0;
    for (int32_t i = 0; i < RATE_STEPS; i++)
        gap += 1 / schedule_rate(o, rate, i, RATE_STEPS) / RATE_STEPS;
    return fmax(1, round(o->duration / gap));
}

static double count_of(const struct serve_options *o, double rate)
{
    bool clocked = o->ramp != RAMP_NONE || isfinite(rate);
    double asked = (double)o->num_prompts;
    if (asked == 0 && o->duration <= 0)
        asked = o->long_prompt ? LONG_PROMPTS : NUM_PROMPTS;
    if (!clocked || o->duration <= 0)
        return asked > 0 ? asked : (double)INFINITY;
    double fit = count_within(o, rate);
    return asked > 0 && asked < fit ? asked : fit;
}

enum status schedule_make(struct schedule *out, const struct serve_options *o, double rate)
{
    double n = count_of(o, rate);
    bool clocked = o->ramp != RAMP_NONE || isfinite(rate);
    *out = (struct schedule){.n = n < (double)SCHEDULE_MAX ? (int64_t)n : INT64_MAX};
    if (!clocked)
        return OK;
    if (out->n > SCHEDULE_MAX)
        return E_INVALID;
    double *at = malloc((size_t)out->n * sizeof(*at));
    out->due_ns = malloc((size_t)out->n * sizeof(*out->due_ns));
    if (!at || !out->due_ns) {
        free(at);
        schedule_free(out);
        return E_NOMEM;
    }
    uint64_t state = mix((uint64_t)o->seed);
    double sum = 0;
    for (int64_t i = 0; i < out->n; i++) {
        double mean = 1 / schedule_rate(o, rate, i, out->n);
        double gap = isinf(o->burstiness) ? 1 : draw_gamma(&state, o->burstiness) / o->burstiness;
        sum += gap * mean;
        at[i] = sum;
    }
    double stretch = o->ramp == RAMP_NONE && sum > 0 ? (double)out->n / rate / sum : 1;
    for (int64_t i = 0; i < out->n; i++)
        out->due_ns[i] = (uint64_t)(at[i] * stretch * 1e9);
    free(at);
    return OK;
}

void schedule_free(struct schedule *s)
{
    free(s->due_ns);
    *s = (struct schedule){0};
}
