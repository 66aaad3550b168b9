#include "models/config.h"

#include <math.h>

/* Angles per position. Every kind begins with theta^(-2i / head_dim) (Su et al. 2021). */

static const double pi = 3.14159265358979323846;

static double blend(double a, double b, double part)
{
    return (1 - part) * a + part * b;
}

/* Turns within the original context: many of them carry order and stay, few of them carry
 * distance and are stretched. */
static double llama3(const struct rope *r, double freq)
{
    double turns = (double)r->context * freq / (2 * pi);
    if (turns < r->low)
        return freq / r->factor;
    if (turns > r->high)
        return freq;
    return blend(freq / r->factor, freq, (turns - r->low) / (r->high - r->low));
}

/* The pair, counted with a fraction, that makes so many turns within the original context. */
static double pair_of(const struct rope *r, int32_t head_dim, double turns)
{
    double dim = (double)head_dim;
    return dim * log((double)r->context / (turns * 2 * pi)) / (2 * log(r->theta));
}

static double yarn(const struct rope *r, int32_t head_dim, int32_t pair, double freq)
{
    double first = pair_of(r, head_dim, r->high);
    double last = pair_of(r, head_dim, r->low);
    first = fmax(r->fractional ? first : floor(first), 0);
    last = fmin(r->fractional ? last : ceil(last), head_dim - 1);
    /* The reference code keeps a ramp of no length from dividing by zero this way. */
    double length = last > first || last < first ? last - first : 0.001;
    double ramp = fmin(fmax((pair - first) / length, 0), 1);
    return blend(freq, freq / r->factor, ramp);
}

void rope_frequencies(const struct rope *r, int32_t head_dim, float *freq)
{
    for (int32_t i = 0; i < head_dim / 2; i++) {
        double plain = pow(r->theta, -2.0 * i / head_dim);
        switch (r->kind) {
        case ROPE_PLAIN:
            break;
        case ROPE_LINEAR:
            plain /= r->factor;
            break;
        case ROPE_LLAMA3:
            plain = llama3(r, plain);
            break;
        case ROPE_YARN:
            plain = yarn(r, head_dim, i, plain);
            break;
        }
        freq[i] = (float)plain;
    }
}

float rope_score_scale(const struct rope *r, int32_t head_dim)
{
    double longer = r->kind == ROPE_YARN ? r->attention : 1;
    return (float)(longer * longer / sqrt(head_dim));
}
