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

/* --- from divisors back to what made them --- */

enum {
    DIVISOR_MAX = 1000000,
    WHOLE = 4
}; /* Llama 3.1 and its kin keep what turns more often than this */

/* A rotation between the two ends of the blend. */
struct between {
    double once; /* turns of it in a context of one token */
    double part; /* of the way from stretched to kept */
};

/* turns = context * once, part = (turns - 1) / (high - 1): two of them give both unknowns, one
 * gives the context of the usual high. */
static void solve(struct rope *r, const struct between *first, const struct between *last, int n)
{
    double det = first->part * last->once - last->part * first->once;
    r->low = 1;
    r->high = WHOLE;
    double context = (1 + first->part * (WHOLE - 1)) / first->once;
    if (n > 1 && fabs(det) > 0)
        context = (first->part - last->part) / det;
    r->context = context >= 1 && context < CONTEXT_MAX ? llround(context) : 1;
    if (n < 2)
        return;
    double high = 1 + ((double)r->context * first->once - 1) / first->part;
    r->high = fabs(high - round(high)) < 1e-3 ? round(high) : high;
}

/* The blend is passed between two rotations: any context between these will do. */
static void guess(struct rope *r, const struct between *kept, const struct between *stretched)
{
    r->low = 1;
    r->high = WHOLE;
    double least = WHOLE / kept->once;
    double context = stretched->once > 0 ? sqrt(least / stretched->once) : least;
    r->context = context < CONTEXT_MAX ? llround(context) : CONTEXT_MAX;
}

static void fit_llama3(struct rope *r, const float *divisor, int32_t head_dim)
{
    struct between kept = {.once = 1 / (2 * pi)};
    struct between stretched = {.once = 0};
    struct between first = kept;
    struct between last = kept;
    int n = 0;
    for (int32_t i = 0; i < head_dim / 2; i++) {
        struct between b = {.once = pow(r->theta, -2.0 * i / head_dim) / (2 * pi)};
        b.part = (1 / (double)divisor[i] - 1 / r->factor) / (1 - 1 / r->factor);
        if (b.part >= 1) {
            kept = b;
        } else if (b.part <= 0) {
            stretched = stretched.once > 0 ? stretched : b;
        } else {
            first = n ? first : b;
            last = b;
            n++;
        }
    }
    if (n)
        solve(r, &first, &last, n);
    else
        guess(r, &kept, &stretched);
}

bool rope_of_divisors(struct rope *r, const float *divisor, int32_t head_dim)
{
    struct rope made = *r;
    float plain[HEAD_DIM_MAX / 2];
    float freq[HEAD_DIM_MAX / 2];
    double least = (double)divisor[0];
    made.factor = (double)divisor[0];
    for (int32_t i = 1; i < head_dim / 2; i++) {
        made.factor = fmax(made.factor, (double)divisor[i]);
        least = fmin(least, (double)divisor[i]);
    }
    if (r->kind != ROPE_PLAIN || least < 1 || made.factor > DIVISOR_MAX)
        return false;
    made.kind = least < made.factor ? ROPE_LLAMA3 : ROPE_LINEAR;
    if (made.kind == ROPE_LLAMA3)
        fit_llama3(&made, divisor, head_dim);
    rope_frequencies(r, head_dim, plain);
    rope_frequencies(&made, head_dim, freq);
    for (int32_t i = 0; i < head_dim / 2; i++) {
        double off = (double)freq[i] * (double)divisor[i] / (double)plain[i] - 1;
        if (!(fabs(off) < 1e-5))
            return false;
    }
    *r = made;
    return true;
}

float rope_score_scale(const struct rope *r, int32_t head_dim)
{
    double longer = r->kind == ROPE_YARN ? r->attention : 1;
    return (float)(longer * longer / sqrt(head_dim));
}
