/* Counting. Buckets are counted apart and summed up when written, so an observation touches one
 * counter. The bounds are vLLM's, and those of FastAPI's instrumentator. */
#include "server/metrics.h"

#include <string.h>
#include <time.h>

static const struct metric_scale tokens = {{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000,
                                            10000, 20000, 50000, 100000, 200000, 500000},
                                           18};
static const struct metric_scale few = {{1, 2, 5, 10, 20}, 5};
static const struct metric_scale first = {{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                           1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560},
                                          22};
static const struct metric_scale between = {
    {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}, 19};
static const struct metric_scale whole = {
    {.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680},
    21};
static const struct metric_scale fine = {
    {.01, .025, .05, .075, .1, .25, .5, .75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60},
    21};

const struct metric_scale *const metric_scales[METRIC_HISTOGRAMS] = {
    [HIST_PROMPT] = &tokens,     [HIST_ANSWER] = &tokens,   [HIST_LONGEST] = &tokens,
    [HIST_MAX_TOKENS] = &tokens, [HIST_COMPUTED] = &tokens, [HIST_N] = &few,
    [HIST_FIRST] = &first,       [HIST_BETWEEN] = &between, [HIST_PER_TOKEN] = &between,
    [HIST_WHOLE] = &whole,       [HIST_QUEUE] = &whole,     [HIST_PREFILL] = &whole,
    [HIST_DECODE] = &whole,      [HIST_INFERENCE] = &whole, [HIST_HTTP] = &fine,
};

const double metric_http_bounds[METRIC_HTTP_BOUNDS] = {.1, .5, 1};

void metrics_init(struct metrics *m)
{
    memset(m, 0, sizeof(*m));
    m->started_ns = now_ns();
    m->started_unix = (uint64_t)time(NULL);
}

/* NULL: there is no room for one more. */
static struct metric_handler *find_handler(struct metrics *m, const char *handler,
                                           const char *method)
{
    for (int32_t i = 0; i < m->n_handlers; i++) {
        struct metric_handler *h = &m->handler[i];
        if (strcmp(h->handler, handler) == 0 && strcmp(h->method, method) == 0)
            return h;
    }
    if (m->n_handlers == METRIC_HANDLERS_MAX)
        return NULL;
    struct metric_handler *h = &m->handler[m->n_handlers++];
    h->handler = handler;
    h->method = method;
    return h;
}

void metrics_http(struct metrics *m, const struct metric_http *a)
{
    struct metric_handler *h = find_handler(m, a->handler, a->method);
    int32_t i = 0;
    metrics_add(&m->model[0], HIST_HTTP, a->seconds);
    if (!h)
        return;
    h->by_class[a->code / 100 < STATUS_CLASSES ? a->code / 100 : 0]++;
    while (i < METRIC_HTTP_BOUNDS && a->seconds > metric_http_bounds[i])
        i++;
    h->bucket[i]++;
    h->seconds += a->seconds;
    h->bytes_in += a->bytes_in;
    h->bytes_out += a->bytes_out;
}

void metrics_add_n(struct model_metrics *m, enum metric_histogram which, double value, uint64_t n)
{
    const struct metric_scale *s = metric_scales[which];
    struct histogram *h = &m->histogram[which];
    int32_t i = 0;
    while (i < s->n && value > s->bound[i])
        i++;
    h->bucket[i] += n;
    h->sum += value * (double)n;
}

void metrics_add(struct model_metrics *m, enum metric_histogram which, double value)
{
    metrics_add_n(m, which, value, 1);
}

double seconds_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) * 1e-9 : 0;
}

static enum metric_phase phase_of(const struct sched_timing *t)
{
    if (!t->scheduled_ns)
        return PHASE_WAITING;
    return t->first_ns ? PHASE_DECODE : PHASE_PREFILL;
}

void metrics_request(struct model_metrics *m, enum metric_finish finish, double whole_s,
                     const struct sched_timing *t, int32_t n_prompt, int32_t n_answer)
{
    m->finished[finish]++;
    if (finish == METRIC_ABORT)
        m->cancelled[phase_of(t)]++;
    m->prompt_tokens += (uint64_t)n_prompt;
    m->cached_tokens += (uint64_t)t->n_cached;
    metrics_add(m, HIST_WHOLE, whole_s);
    metrics_add(m, HIST_PROMPT, n_prompt);
    metrics_add(m, HIST_ANSWER, n_answer);
    metrics_add(m, HIST_COMPUTED, n_prompt - t->n_cached);
    if (t->scheduled_ns)
        metrics_add(m, HIST_QUEUE, seconds_between(t->submitted_ns, t->scheduled_ns));
    if (!t->first_ns)
        return;
    double decode = seconds_between(t->first_ns, t->last_ns);
    metrics_add(m, HIST_PREFILL, seconds_between(t->scheduled_ns, t->first_ns));
    metrics_add(m, HIST_DECODE, decode);
    metrics_add(m, HIST_INFERENCE, seconds_between(t->scheduled_ns, t->last_ns));
    if (n_answer > 1)
        metrics_add(m, HIST_PER_TOKEN, decode / (n_answer - 1));
}
