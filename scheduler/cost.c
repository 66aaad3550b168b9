#include "scheduler/cost.h"

#include <math.h>

/* A linear model whose four values are tracked by a Kalman filter: each step is one noisy
 * measurement of a weighted sum, and the values drift a little from step to step, since a
 * machine is shared and warms up. The noise of a measurement grows with it. What no step has
 * told apart stays in doubt, but never in more than its own size, so that a million steps of
 * one kind do not make the next of another kind believe a single outlier. */

#define NOISE      0.2  /* standard deviation of a step's time, as a part of it */
#define DRIFT      0.01 /* of a value, per step */
#define DOUBT_MAX  1.0  /* standard deviation of a value, as a part of it */
#define SURPRISE   2.5  /* standard deviations that one step can pull at most */
#define SCALE_LAST 1024.0

/* Until so many steps were seen, doubt is what it is. */
enum { STEPS_TRUSTED = 200 };

static void terms(const struct step_shape *s, double x[COST_TERMS])
{
    x[0] = 1;
    x[1] = s->n_reads;
    x[2] = s->n_draws;
    x[3] = (double)s->context / SCALE_LAST;
}

static double weigh(const double x[COST_TERMS], const double v[COST_TERMS])
{
    double sum = 0;
    for (int i = 0; i < COST_TERMS; i++)
        sum += x[i] * v[i];
    return sum;
}

static void begin(struct cost *c, double y)
{
    for (int i = 0; i < COST_TERMS; i++)
        c->doubt[i][i] = y * y;
}

/* Scaling a row and its column keeps the matrix what it is. */
static void bound_doubt(struct cost *c, double y)
{
    for (int i = 0; i < COST_TERMS; i++) {
        double most = DOUBT_MAX * c->value[i] + 0.01 * y;
        double drift = DRIFT * c->value[i] + 1e-4 * y;
        c->doubt[i][i] += drift * drift;
        if (c->n < STEPS_TRUSTED || c->doubt[i][i] <= most * most)
            continue;
        double scale = most / sqrt(c->doubt[i][i]);
        for (int k = 0; k < COST_TERMS; k++) {
            c->doubt[i][k] *= scale;
            c->doubt[k][i] *= scale;
        }
    }
}

void cost_learn(struct cost *c, const struct step_shape *s, uint64_t ns)
{
    double x[COST_TERMS];
    double gain[COST_TERMS];
    double y = ns > 0 ? (double)ns : 1;
    if (c->n++ == 0)
        begin(c, y);
    terms(s, x);
    double expected = weigh(x, c->value);
    double noise = NOISE * fmax(y, expected);
    for (int i = 0; i < COST_TERMS; i++)
        gain[i] = weigh(x, c->doubt[i]);
    double variance = weigh(x, gain) + noise * noise;
    double most = SURPRISE * sqrt(variance);
    double pull = fmax(-most, fmin(most, y - expected)) / variance;
    for (int i = 0; i < COST_TERMS; i++) {
        c->value[i] = fmax(0, c->value[i] + gain[i] * pull);
        for (int k = 0; k < COST_TERMS; k++)
            c->doubt[i][k] -= gain[i] * gain[k] / variance;
    }
    bound_doubt(c, y);
}

double cost_step(const struct cost *c, const struct step_shape *s)
{
    double x[COST_TERMS];
    terms(s, x);
    return weigh(x, c->value);
}

double cost_read(const struct cost *c, int64_t position)
{
    return c->value[1] + c->value[3] * (double)position / SCALE_LAST;
}

double cost_prompt(const struct cost *c, int64_t position, int64_t n_left)
{
    return (double)n_left * cost_read(c, position + n_left / 2);
}

/* A step is that long at least, where there are rows for it; then its fixed part is one in so many.
 */
#define ALONE_NS    100e6
#define ALONE_PARTS 16

int32_t cost_rows(const struct cost *c)
{
    double each_ns = cost_read(c, 0);
    double ns = fmax(ALONE_NS, ALONE_PARTS * c->value[0]);
    if (c->n < COST_KNOWN || ns >= each_ns * INT32_MAX)
        return INT32_MAX;
    return ns > each_ns ? (int32_t)(ns / each_ns) : 1;
}

/* Tokens of an answer, as long as none has made room for another. */
#define ANSWER_GUESS 128

/* Two ways to wait, and the longer one counts: for the prompts in front to be computed, which
 * between the steps of others takes longer than alone; and, when every seat is taken, for as
 * many to leave the queue as stand in front. */
uint64_t cost_ttft(const struct sched_stats *s, int64_t n_left)
{
    double own = (double)n_left * (double)s->token_ns;
    double stretch = 1;
    if (s->decode_ns > 0) {
        int32_t n = s->waiting + 1;
        n = n < COST_STRETCHES_MAX ? n : COST_STRETCHES_MAX;
        stretch += 1 / (COST_STRETCH * n);
    }
    double compute = ((double)s->backlog_ns + own) * stretch;
    int32_t in_front = s->waiting + 1 - (s->seats - s->running);
    double leave = (double)s->leave_ns;
    if (s->leave_ns == 0 && s->seats > 0)
        leave = (double)s->decode_ns * ANSWER_GUESS / s->seats;
    double seat = in_front > 0 ? in_front * leave + own * stretch : 0;
    double sum = fmax(compute, seat) + (double)s->decode_ns;
    return (uint64_t)(sum * (s->ttft_scale > 0 ? s->ttft_scale : 1));
}
