#ifndef TESTS_FAKE_MODEL_H
#define TESTS_FAKE_MODEL_H

#include "models/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model without tensors: it takes the place of models/model.c in the one file of a test
 * program that includes this. Its KV cache holds the tokens themselves, and the token it
 * draws is a hash of every token it finds there on the way, of the position, and of all
 * controls of the pick. So a lost, doubled or foreign token, a block given to two requests
 * or a wrong count for a penalty gives another answer than fake_answer(), which knows the
 * prompt alone. A batch that breaks the contract of model.h aborts. */

enum { FAKE_SEQS_MAX = 1024, FAKE_EOS = 0 };

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
    uint64_t spin;          /* iterations of nothing per step, to vary who is when */
    struct fake_cell *cell; /* [n_blocks * block_tokens] */
    enum status err;
    int32_t n_picked;
    struct picked picked[FAKE_SEQS_MAX];
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
    m->info.vocab = 97;
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

static inline void fake_draw(const struct model *m, uint64_t context, const struct pick *k,
                             struct picked *out)
{
    uint64_t h = fake_mix(context, k->how.seed);
    h = fake_mix(h, k->position);
    h = fake_mix(h, fake_seen_hash(k->seen, k->n_seen));
    for (int32_t i = 0; i < k->how.n_bias; i++)
        h = fake_mix(h, (uint64_t)k->how.bias[i].token);
    memset(out, 0, sizeof(*out));
    out->token = 1 + (int32_t)((h >> 8) % (uint64_t)(m->info.vocab - 1));
    if (m->eos_one_in && h % m->eos_one_in == 0)
        out->token = FAKE_EOS;
    if (m->bad_one_in && (h >> 20) % m->bad_one_in == 0)
        out->token = PICKED_BAD;
    if (k->how.n_logprobs < 0)
        return;
    out->logprob = -(float)(h & 1023);
    out->n_top = k->how.n_logprobs;
    for (int32_t i = 0; i < out->n_top; i++)
        out->top_token[i] = (out->token + i) % m->info.vocab;
}

/* The answer to a request that is alone in the world: tokens to out [max], how many. *last
 * is the draw that ended it: FAKE_EOS, PICKED_BAD, or another token for the length. */
static inline int32_t fake_answer(const struct model *m, const struct sampling *how,
                                  const int32_t *prompt, int32_t n_prompt, int32_t max,
                                  bool ignore_eos, int32_t *out, int32_t *last)
{
    struct token_count *seen = calloc((size_t)m->info.vocab, sizeof(*seen));
    fake_require(seen, "no memory");
    uint64_t context = 0;
    bool penalties = how->repetition != 1.0f || how->presence != 0.0f || how->frequency != 0.0f;
    int32_t n = 0;
    for (int32_t i = 0; i < n_prompt; i++) {
        context = fake_mix(context, (uint64_t)prompt[i]);
        seen[prompt[i]].in_prompt = true;
    }
    while (n < max) {
        struct token_count *list = calloc((size_t)m->info.vocab, sizeof(*list));
        fake_require(list, "no memory");
        struct pick k = {.position = (uint64_t)(n_prompt + n), .how = *how, .seen = list};
        for (int32_t t = 0; penalties && t < m->info.vocab; t++) {
            if (seen[t].in_prompt || seen[t].n_out > 0)
                list[k.n_seen++] = (struct token_count){t, seen[t].n_out, seen[t].in_prompt};
        }
        struct picked p;
        fake_draw(m, context, &k, &p);
        free(list);
        *last = p.token;
        if (p.token == PICKED_BAD || (p.token == FAKE_EOS && !ignore_eos))
            break;
        out[n++] = p.token;
        seen[p.token].n_out++;
        context = fake_mix(context, (uint64_t)p.token);
    }
    free(seen);
    return n;
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
        fake_require(b->token[row] >= 0 && b->token[row] < m->info.vocab, "no such token");
        struct fake_cell *c = fake_cell_at(m, table, position);
        fake_require(c->step != m->n_steps, "two sequences write one block");
        *c = (struct fake_cell){b->token[row], position, m->n_steps};
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

void model_launch(struct model *m, const struct model_batch *b)
{
    m->n_steps++;
    for (volatile uint64_t i = 0; i < m->spin; i++)
        ;
    fake_require(b->n_rows > 0 && b->n_rows <= m->rows_max, "rows out of bounds");
    fake_require(b->n_seqs > 0 && b->n_seqs <= m->seqs_max, "sequences out of bounds");
    fake_require(b->n_picks >= 0 && b->n_picks <= b->n_seqs, "picks out of bounds");
    fake_require(b->seq_start[0] == 0 && b->seq_start[b->n_seqs] == b->n_rows, "bad prefix sum");
    m->n_picked = b->n_picks;
    m->err = OK;
    if (m->fail_one_in && fake_mix(m->n_steps, 7) % m->fail_one_in == 0)
        m->err = E_NOMEM;
    if (m->lost_at && m->n_steps >= m->lost_at)
        m->err = E_DEVICE;
    if (m->err) {
        fake_scribble(m, b);
        return;
    }
    for (int32_t i = 0; i < b->n_seqs; i++)
        fake_write(m, b, i);
    int32_t seq = 0;
    for (int32_t i = 0; i < b->n_picks; i++) {
        int32_t row = b->pick[i].row;
        fake_require(i == 0 || row > b->pick[i - 1].row, "picks are not ascending");
        while (seq < b->n_seqs && b->seq_start[seq + 1] <= row)
            seq++;
        fake_require(seq < b->n_seqs && row == b->seq_start[seq + 1] - 1, "not a last row");
        fake_require(b->pick[i].position == (uint64_t)b->position[row] + 1, "wrong position");
        const int32_t *table = b->block_table + (size_t)seq * (size_t)b->table_stride;
        uint64_t context = fake_read(m, table, b->position[row] + 1);
        fake_draw(m, context, &b->pick[i], &m->picked[i]);
    }
}

enum status model_wait(struct model *m, struct picked *out)
{
    if (!m->err)
        memcpy(out, m->picked, (size_t)m->n_picked * sizeof(*out));
    return m->err;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    free(m->cell);
    free(m);
}

/* Nobody above calls these in a test; they are here so that models/model.c stays out. */

enum status model_open(struct model **out, const struct model_options *opt, struct ops *ops,
                       char *err, size_t err_size)
{
    (void)opt;
    (void)ops;
    snprintf(err, err_size, "a fake model");
    *out = NULL;
    return E_UNSUPPORTED;
}

enum status model_inspect(struct model_info *out, const char *path, char *err, size_t err_size)
{
    (void)out;
    (void)path;
    snprintf(err, err_size, "a fake model");
    return E_UNSUPPORTED;
}

enum status model_logits(struct model *m, int32_t i, float *logits)
{
    (void)m;
    (void)i;
    (void)logits;
    return E_UNSUPPORTED;
}

#endif
