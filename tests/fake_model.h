#ifndef TESTS_FAKE_MODEL_H
#define TESTS_FAKE_MODEL_H

#include "models/model.h"
#include "scheduler/sched.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model without tensors: it takes the place of models/model*.c in the one file of a test
 * program that includes this. Its KV cache holds the tokens themselves, and the token it
 * draws is a hash of every token it finds there on the way, of the position, and of all
 * controls of the pick. So a lost, doubled or foreign token, a block given to two requests
 * or a wrong count for a penalty gives another answer than fake_answer(), which knows the
 * prompt alone. A batch that breaks the contract of model.h aborts.
 *
 * fake_own_thread() makes it a device of its own: model_launch() copies the batch and returns,
 * a thread does the work. While fake_hold() is on, no step gets done. */

enum { FAKE_SEQS_MAX = 1024, FAKE_EOS = 0, FAKE_VOCAB = 97 };

struct fake_cell {
    int32_t token;
    int32_t position; /* -1: garbage */
    uint64_t step;    /* that wrote it */
};

struct model {
    struct model_info info;
    int32_t rows_max;
    int32_t seqs_max;
    uint32_t eos_one_in;  /* of the draws; 0: never */
    uint32_t bad_one_in;  /* of the draws: logits not finite; 0: never */
    uint32_t fail_one_in; /* of the steps: fail and leave garbage; 0: never */
    uint64_t lost_at;     /* the step from which the device is lost; 0: never */
    uint64_t n_steps;
    uint64_t spin; /* iterations of nothing per step, to vary who is when */
    void (*on_step)(const struct model_batch *b); /* NULL, or told of each step before its work */
    bool in_flight;
    int32_t n_before;           /* picks of the step before */
    struct fake_device *device; /* NULL: model_launch() does the work */
    struct fake_cell *cell;     /* [n_blocks * block_tokens] */
    enum status err;
    int32_t n_picked;
    struct picked picked[FAKE_SEQS_MAX];
};

/* The step on its way, and the thread that does it. */
struct fake_device {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t news;
    bool has_work;
    bool held;
    bool closing;
    struct model_batch batch; /* its arrays are the model's own copies */
    int32_t *numbers;
    struct pick pick[FAKE_SEQS_MAX];
};

static inline uint64_t fake_mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static inline void fake_require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fake model: %s\n", what);
    abort();
}

static inline struct model *fake_open(int32_t n_blocks, int32_t block_tokens, int32_t context_max,
                                      int32_t rows_max, int32_t seqs_max)
{
    struct model *m = calloc(1, sizeof(*m));
    fake_require(m && seqs_max <= FAKE_SEQS_MAX, "cannot open");
    m->info.vocab = FAKE_VOCAB;
    m->info.n_blocks = n_blocks;
    m->info.block_tokens = block_tokens;
    m->info.context_max = context_max;
    m->info.eos[0] = FAKE_EOS;
    m->info.n_eos = 1;
    m->info.bos = -1;
    m->rows_max = rows_max;
    m->seqs_max = seqs_max;
    size_t n_cells = (size_t)n_blocks * (size_t)block_tokens;
    m->cell = calloc(n_cells, sizeof(*m->cell));
    fake_require(m->cell, "no memory");
    for (size_t i = 0; i < n_cells; i++)
        m->cell[i].position = -1;
    return m;
}

/* Order must not matter: the list of counts is in any order. */
static inline uint64_t fake_seen_hash(const struct token_count *seen, int32_t n_seen)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < n_seen; i++) {
        uint64_t h = fake_mix(1, (uint64_t)seen[i].token);
        sum += fake_mix(fake_mix(h, (uint64_t)seen[i].n_out), seen[i].in_prompt);
    }
    return sum;
}

static inline bool fake_may(const struct pick *k, int32_t token)
{
    if (k->allowed && !(k->allowed[token / 32] >> token % 32 & 1u))
        return false;
    for (int32_t i = 0; i < k->n_banned; i++) {
        if (k->banned[i] == token)
            return false;
    }
    return true;
}

static inline int32_t fake_choice(const struct model *m, uint64_t h, const struct pick *k)
{
    int32_t vocab = m->info.vocab;
    int32_t first = 1 + (int32_t)((h >> 8) % (uint64_t)(vocab - 1));
    if (k->given)
        return *k->given;
    if (m->bad_one_in && (h >> 20) % m->bad_one_in == 0)
        return PICKED_BAD;
    if (m->eos_one_in && h % m->eos_one_in == 0 && fake_may(k, FAKE_EOS))
        return FAKE_EOS;
    for (int32_t i = 0; i < vocab; i++) {
        if (fake_may(k, (first + i) % vocab))
            return (first + i) % vocab;
    }
    return PICKED_NONE;
}

static inline void fake_draw(const struct model *m, uint64_t context, const struct pick *k,
                             struct picked *out)
{
    uint64_t h = fake_mix(context, k->how.seed);
    h = fake_mix(h, k->position);
    h = fake_mix(h, fake_seen_hash(k->seen, k->n_seen));
    for (int32_t i = 0; i < k->how.n_bias; i++)
        h = fake_mix(h, (uint64_t)k->how.bias[i].token);
    memset(out, 0, sizeof(*out));
    out->token = fake_choice(m, h, k);
    if (k->how.n_logprobs < 0)
        return;
    out->logprob = -(float)(h & 1023);
    out->n_top = k->how.n_logprobs;
    for (int32_t i = 0; i < out->n_top; i++)
        out->top_token[i] = (out->token + i + 1) % m->info.vocab;
}

/* What fake_answer() knows of the answer so far. */
struct fake_state {
    uint64_t context;
    uint32_t allowed[FAKE_VOCAB / 32 + 1];
    int32_t ends[SCHED_STOP_TOKENS_MAX + 1];
    int32_t n_ends;
    struct token_count seen[FAKE_VOCAB]; /* by token */
};

static inline void fake_begin(struct fake_state *f, const struct sched_params *p,
                              const int32_t *prompt, int32_t n_prompt)
{
    memset(f, 0, sizeof(*f));
    for (int32_t i = 0; i < n_prompt; i++) {
        f->context = fake_mix(f->context, (uint64_t)prompt[i]);
        f->seen[prompt[i]].in_prompt = true;
    }
    for (int32_t i = 0; p->allowed && i < p->n_allowed; i++)
        f->allowed[p->allowed[i] / 32] |= 1u << p->allowed[i] % 32;
    if (!p->ignore_eos)
        f->ends[f->n_ends++] = FAKE_EOS;
    for (int32_t i = 0; i < p->n_stop_tokens; i++)
        f->ends[f->n_ends++] = p->stop_token[i];
}

static inline void fake_next(const struct model *m, const struct fake_state *f,
                             const struct sched_params *p, int32_t position, bool may_end,
                             struct picked *out)
{
    const struct sampling *how = &p->sampling;
    bool penalties = how->repetition != 1.0f || how->presence != 0.0f || how->frequency != 0.0f;
    struct token_count list[FAKE_VOCAB];
    struct pick k = {.position = (uint64_t)position,
                     .how = *how,
                     .seen = list,
                     .allowed = p->allowed ? f->allowed : NULL,
                     .banned = f->ends,
                     .n_banned = may_end ? 0 : f->n_ends};
    for (int32_t t = 0; penalties && t < FAKE_VOCAB; t++) {
        if (f->seen[t].in_prompt || f->seen[t].n_out > 0)
            list[k.n_seen++] = (struct token_count){t, f->seen[t].n_out, f->seen[t].in_prompt};
    }
    fake_draw(m, f->context, &k, out);
}

/* The answer to a request that is alone in the world: at most max tokens to out, how many.
 * *last is the draw that ended it: an end token, one of PICKED_, or another token for the
 * length. */
static inline int32_t fake_answer(const struct model *m, const struct sched_params *p,
                                  const int32_t *prompt, int32_t n_prompt, int32_t max,
                                  int32_t *out, int32_t *last)
{
    struct fake_state f;
    int32_t n = 0;
    fake_begin(&f, p, prompt, n_prompt);
    *last = 1;
    while (n < max) {
        struct picked drawn;
        bool ends = false;
        fake_next(m, &f, p, n_prompt + n, n >= p->min_tokens, &drawn);
        *last = drawn.token;
        for (int32_t i = 0; i < f.n_ends; i++)
            ends = ends || f.ends[i] == drawn.token;
        if (drawn.token < 0 || ends)
            break;
        out[n++] = drawn.token;
        f.seen[drawn.token].n_out++;
        f.context = fake_mix(f.context, (uint64_t)drawn.token);
    }
    return n;
}

/* What judging prompt[at] says, at > 0. */
static inline void fake_judgement(const struct model *m, const struct sched_params *p,
                                  const int32_t *prompt, int32_t at, struct picked *out)
{
    uint64_t context = 0;
    const struct pick k = {
        .position = (uint64_t)at, .how = {.n_logprobs = p->prompt_logprobs}, .given = &prompt[at]};
    for (int32_t i = 0; i < at; i++)
        context = fake_mix(context, (uint64_t)prompt[i]);
    fake_draw(m, context, &k, out);
}

static inline struct fake_cell *fake_cell_at(struct model *m, const int32_t *table,
                                             int32_t position)
{
    int32_t block = table[position / m->info.block_tokens];
    fake_require(block >= 0 && block < m->info.n_blocks, "block out of range");
    return &m->cell[(size_t)block * (size_t)m->info.block_tokens +
                    (size_t)(position % m->info.block_tokens)];
}

static inline void fake_write(struct model *m, const struct model_batch *b, int32_t seq)
{
    const int32_t *table = b->block_table + (size_t)seq * (size_t)b->table_stride;
    fake_require(b->seq_start[seq] < b->seq_start[seq + 1], "a sequence without rows");
    for (int32_t row = b->seq_start[seq]; row < b->seq_start[seq + 1]; row++) {
        int32_t position = b->position[b->seq_start[seq]] + (row - b->seq_start[seq]);
        fake_require(b->position[row] == position, "positions have a gap");
        fake_require(position < m->info.context_max, "longer than the context");
        fake_require(position / m->info.block_tokens < b->table_stride, "table too short");
        int32_t token = b->token[row];
        fake_require(token < m->info.vocab && (token >= 0 || ~token < m->n_before),
                     "no such token");
        if (token < 0)
            token = m->picked[~token].token;
        struct fake_cell *c = fake_cell_at(m, table, position);
        fake_require(c->step != m->n_steps, "two sequences write one block");
        *c = (struct fake_cell){token, position, m->n_steps};
    }
}

static inline uint64_t fake_read(struct model *m, const int32_t *table, int32_t n)
{
    uint64_t context = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct fake_cell *c = fake_cell_at(m, table, i);
        fake_require(c->position == i, "the cache does not hold what it should");
        context = fake_mix(context, (uint64_t)c->token);
    }
    return context;
}

static inline void fake_scribble(struct model *m, const struct model_batch *b)
{
    for (int32_t i = 0; i < b->n_seqs; i++) {
        const int32_t *table = b->block_table + (size_t)i * (size_t)b->table_stride;
        int32_t n = b->position[b->seq_start[i + 1] - 1] + 1;
        for (int32_t at = 0; at < n; at++)
            fake_cell_at(m, table, at)->position = -1;
    }
}

const struct model_info *model_info(const struct model *m)
{
    return &m->info;
}

static inline void fake_pick_all(struct model *m, const struct model_batch *b)
{
    int32_t seq = 0;
    for (int32_t i = 0; i < b->n_picks; i++) {
        const struct pick *k = &b->pick[i];
        int32_t row = k->row;
        fake_require(i == 0 || row > b->pick[i - 1].row, "picks are not ascending");
        while (seq < b->n_seqs && b->seq_start[seq + 1] <= row)
            seq++;
        fake_require(seq < b->n_seqs, "a pick without a row");
        fake_require(k->given || row == b->seq_start[seq + 1] - 1, "not a last row");
        fake_require(k->position == (uint64_t)b->position[row] + 1, "wrong position");
        const int32_t *table = b->block_table + (size_t)seq * (size_t)b->table_stride;
        uint64_t context = fake_read(m, table, b->position[row] + 1);
        fake_draw(m, context, k, &m->picked[i]);
    }
}

static inline void fake_run(struct model *m, const struct model_batch *b)
{
    m->n_steps++;
    for (volatile uint64_t i = 0; i < m->spin; i++)
        ;
    if (m->on_step)
        m->on_step(b);
    m->err = OK;
    if (m->fail_one_in && fake_mix(m->n_steps, 7) % m->fail_one_in == 0)
        m->err = E_NOMEM;
    if (m->lost_at && m->n_steps >= m->lost_at)
        m->err = E_DEVICE;
    if (m->err) {
        fake_scribble(m, b);
    } else {
        for (int32_t i = 0; i < b->n_seqs; i++)
            fake_write(m, b, i);
        fake_pick_all(m, b);
    }
    m->n_before = b->n_picks;
}

static inline void *fake_device_main(void *arg)
{
    struct model *m = arg;
    struct fake_device *d = m->device;
    pthread_mutex_lock(&d->mutex);
    for (;;) {
        while (!d->closing && (!d->has_work || d->held))
            pthread_cond_wait(&d->news, &d->mutex);
        if (d->closing)
            break;
        pthread_mutex_unlock(&d->mutex);
        fake_run(m, &d->batch);
        pthread_mutex_lock(&d->mutex);
        d->has_work = false;
        pthread_cond_broadcast(&d->news);
    }
    pthread_mutex_unlock(&d->mutex);
    return NULL;
}

static inline void fake_own_thread(struct model *m)
{
    struct fake_device *d = calloc(1, sizeof(*d));
    size_t stride = (size_t)(m->info.context_max / m->info.block_tokens) + 1;
    size_t n = 2 * (size_t)m->rows_max + (size_t)m->seqs_max * (stride + 1) + 1;
    fake_require(d, "no memory");
    d->numbers = calloc(n, sizeof(*d->numbers));
    fake_require(d->numbers, "no memory");
    pthread_mutex_init(&d->mutex, NULL);
    pthread_cond_init(&d->news, NULL);
    m->device = d;
    fake_require(pthread_create(&d->thread, NULL, fake_device_main, m) == 0, "no thread");
}

static inline void fake_hold(struct model *m, bool on)
{
    pthread_mutex_lock(&m->device->mutex);
    m->device->held = on;
    pthread_cond_broadcast(&m->device->news);
    pthread_mutex_unlock(&m->device->mutex);
}

static inline const int32_t *fake_copy(int32_t **to, const int32_t *from, int32_t n)
{
    const int32_t *at = *to;
    memcpy(*to, from, (size_t)n * sizeof(*from));
    *to += n;
    return at;
}

static inline void fake_send(struct model *m, const struct model_batch *b)
{
    struct fake_device *d = m->device;
    int32_t *to = d->numbers;
    pthread_mutex_lock(&d->mutex);
    fake_require(!d->has_work, "a step is on its way");
    d->batch = *b;
    d->batch.token = fake_copy(&to, b->token, b->n_rows);
    d->batch.position = fake_copy(&to, b->position, b->n_rows);
    d->batch.seq_start = fake_copy(&to, b->seq_start, b->n_seqs + 1);
    d->batch.block_table = fake_copy(&to, b->block_table, b->n_seqs * b->table_stride);
    d->batch.pick = d->pick;
    memcpy(d->pick, b->pick, (size_t)b->n_picks * sizeof(*b->pick));
    d->has_work = true;
    pthread_cond_broadcast(&d->news);
    pthread_mutex_unlock(&d->mutex);
}

void model_launch(struct model *m, const struct model_batch *b)
{
    fake_require(b->n_rows > 0 && b->n_rows <= m->rows_max, "rows out of bounds");
    fake_require(b->n_seqs > 0 && b->n_seqs <= m->seqs_max, "sequences out of bounds");
    fake_require(b->n_picks >= 0 && b->n_picks <= m->seqs_max, "picks out of bounds");
    fake_require(b->seq_start[0] == 0 && b->seq_start[b->n_seqs] == b->n_rows, "bad prefix sum");
    fake_require(!m->in_flight, "a step is on its way");
    m->in_flight = true;
    m->n_picked = b->n_picks;
    if (m->device)
        fake_send(m, b);
    else
        fake_run(m, b);
}

enum status model_wait(struct model *m, struct picked *out)
{
    fake_require(m->in_flight, "no step is on its way");
    m->in_flight = false;
    if (m->device) {
        pthread_mutex_lock(&m->device->mutex);
        while (m->device->has_work)
            pthread_cond_wait(&m->device->news, &m->device->mutex);
        pthread_mutex_unlock(&m->device->mutex);
    }
    if (!m->err)
        memcpy(out, m->picked, (size_t)m->n_picked * sizeof(*out));
    return m->err;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    if (m->device) {
        pthread_mutex_lock(&m->device->mutex);
        m->device->closing = true;
        pthread_cond_broadcast(&m->device->news);
        pthread_mutex_unlock(&m->device->mutex);
        pthread_join(m->device->thread, NULL);
        pthread_cond_destroy(&m->device->news);
        pthread_mutex_destroy(&m->device->mutex);
        free(m->device->numbers);
        free(m->device);
    }
    free(m->cell);
    free(m);
}

/* What the next model_inspect() and model_open() find, for tests of what stands above. */
static struct model *fake_prepared;

enum status model_open(struct model **out, const struct model_options *opt, struct ops *ops,
                       char *err, size_t err_size)
{
    (void)opt;
    (void)ops;
    *out = fake_prepared;
    if (!fake_prepared)
        snprintf(err, err_size, "a fake model");
    return fake_prepared ? OK : E_UNSUPPORTED;
}

enum status model_inspect(struct model_info *out, const char *path, char *err, size_t err_size)
{
    (void)path;
    if (!fake_prepared) {
        snprintf(err, err_size, "a fake model");
        return E_UNSUPPORTED;
    }
    *out = fake_prepared->info;
    return OK;
}

enum status model_logits(struct model *m, int32_t i, float *logits)
{
    (void)m;
    (void)i;
    (void)logits;
    return E_UNSUPPORTED;
}

#endif
