#include "models/model_priv.h"

#include <assert.h>
#include <string.h>

/* A step of a loaded model.
 *
 * The batch is packed into one array that goes up in one piece. Its addresses never change and,
 * where the backend records steps, its shape is rounded up with rows that are nobody's: all that
 * differs between two steps of a key lies in that array. Nothing is allocated here. */

enum { KV_ROUND_MIN = 256 /* the shortest context a step is shaped for */ };

/* Rows of a decode step are rounded up to a multiple of each up to its bound: the work of few more
 * rows for few shapes. */
static const struct {
    int32_t most;
    int32_t multiple;
} row_steps[] = {{2, 1}, {4, 2}, {8, 4}, {64, 8}, {256, 16}, {INT32_MAX, 64}};

static void check_rows(const struct model *m, const struct model_batch *b, int32_t seq)
{
    const struct model_info *f = &m->llama.config.info;
    int32_t first = b->seq_start[seq];
    int32_t last = b->seq_start[seq + 1] - 1;
    assert(last >= first);
    assert(b->position[first] >= 0 && b->position[last] < f->context_max);
    for (int32_t r = first; r <= last; r++) {
        assert(b->position[r] == b->position[first] + r - first);
        assert(b->token[r] < f->vocab);
        assert(b->token[r] >= 0 || ~b->token[r] < m->n_picks);
    }
    const int32_t *table = b->block_table + (size_t)seq * (size_t)b->table_stride;
    int32_t n = blocks_for(b->position[last] + 1);
    assert(n <= b->table_stride);
    for (int32_t i = 0; i < n; i++)
        assert(table[i] >= 0 && table[i] < f->n_blocks);
}

/* All of this is the planner's duty: what a client sends cannot make it fail. */
static void check_batch(const struct model *m, const struct model_batch *b)
{
    assert(!m->in_flight);
    assert(b->n_rows >= 1 && b->n_rows <= m->rows_max);
    assert(b->n_seqs >= 1 && b->n_seqs <= m->seqs_max);
    assert(b->n_picks >= 0 && b->n_picks <= m->seqs_max);
    assert(b->seq_start[0] == 0 && b->seq_start[b->n_seqs] == b->n_rows);
    for (int32_t i = 0; i < b->n_seqs; i++)
        check_rows(m, b, i);
    for (int32_t i = 0; i < b->n_picks; i++) {
        assert(b->pick[i].row >= 0 && b->pick[i].row < b->n_rows);
        assert(i == 0 || b->pick[i].row > b->pick[i - 1].row);
    }
}

/* Rounded up to a power of two, so that steps of one batch share few shapes. */
static int32_t round_context(const struct model *m, int32_t tokens)
{
    int32_t most = m->llama.config.info.context_max;
    int32_t n = KV_ROUND_MIN;
    while (n < tokens)
        n *= 2;
    return n < most ? n : most;
}

static int32_t longest(const struct model_batch *b)
{
    int32_t most = 0;
    for (int32_t i = 0; i < b->n_seqs; i++) {
        int32_t n = b->position[b->seq_start[i + 1] - 1] + 1;
        most = n > most ? n : most;
    }
    return most;
}

/* A decode step looks like thousands before it; one with a prompt in it has a shape of its own,
 * which is never worth recording. */
static bool worth_recording(const struct model *m, const struct model_batch *b)
{
    return m->ops->records && !m->llama.probe && b->n_rows == b->n_seqs && b->n_picks == b->n_rows;
}

static int32_t round_rows(const struct model *m, int32_t rows)
{
    size_t i = 0;
    while (rows > row_steps[i].most)
        i++;
    int32_t up = (rows + row_steps[i].multiple - 1) / row_steps[i].multiple;
    return min32(up * row_steps[i].multiple, m->seqs_max);
}

/* Where the step's rows end, the rows up to shape_rows are nobody's. */
static void pack_padding(struct model *m, const struct model_batch *b, int32_t shape_rows)
{
    for (int32_t i = b->n_rows; i < shape_rows; i++) {
        m->host[m->at.token + (size_t)i] = 0;
        m->host[m->at.position + (size_t)i] = -1;
        m->host[m->at.row_seq + (size_t)i] = 0;
        m->host[m->at.seq_start + (size_t)i + 1] = b->n_rows;
        m->host[m->at.pick_row + (size_t)i] = i;
    }
}

/* Returns how many numbers are to go up. */
static size_t pack(struct model *m, const struct model_batch *b, int32_t stride)
{
    size_t rows = (size_t)b->n_rows;
    int32_t *h = m->host;
    memcpy(h + m->at.token, b->token, rows * sizeof(*h));
    memcpy(h + m->at.position, b->position, rows * sizeof(*h));
    memcpy(h + m->at.seq_start, b->seq_start, ((size_t)b->n_seqs + 1) * sizeof(*h));
    for (int32_t i = 0; i < b->n_picks; i++)
        h[m->at.pick_row + (size_t)i] = b->pick[i].row;
    for (int32_t i = 0; i < b->n_seqs; i++) {
        const int32_t *from = b->block_table + (size_t)i * (size_t)b->table_stride;
        int32_t *to = h + m->at.table + (size_t)i * (size_t)stride;
        size_t n = (size_t)blocks_for(b->position[b->seq_start[i + 1] - 1] + 1);
        memcpy(to, from, n * sizeof(*to));
        memset(to + n, 0, ((size_t)stride - n) * sizeof(*to));
        for (int32_t r = b->seq_start[i]; r < b->seq_start[i + 1]; r++)
            h[m->at.row_seq + (size_t)r] = i;
    }
    return m->at.table + (size_t)b->n_seqs * (size_t)stride;
}

static struct llama_step step_of(const struct model *m, const struct step_key *shape)
{
    struct llama_step s = {.token = m->device + m->at.token,
                           .pick_row = m->device + m->at.pick_row,
                           .n_picks = shape->picks};
    s.view = (struct step_view){.n_rows = shape->rows,
                                .position = m->device + m->at.position,
                                .row_seq = m->device + m->at.row_seq,
                                .seq_start = m->device + m->at.seq_start,
                                .block_table = m->device + m->at.table,
                                .table_stride = blocks_for(shape->context),
                                .kv_len_max = shape->context};
    return s;
}

void model_launch(struct model *m, const struct model_batch *b)
{
    check_batch(m, b);
    struct ops *o = m->ops;
    struct llama *l = &m->llama;
    bool recorded = worth_recording(m, b);
    struct step_key shape = {m, b->n_rows, b->n_picks, round_context(m, longest(b))};
    if (recorded)
        shape.rows = shape.picks = round_rows(m, b->n_rows);
    struct llama_step s = step_of(m, &shape);
    s.view.n_seqs = b->n_seqs + shape.rows - b->n_rows;
    size_t n = pack(m, b, s.view.table_stride);
    pack_padding(m, b, shape.rows);
    if (b->n_picks > 0)
        memcpy(m->pick, b->pick, (size_t)b->n_picks * sizeof(*m->pick));
    m->n_picks = b->n_picks;
    m->in_flight = true;

    o->upload(o, m->device, m->host, n * sizeof(*m->host));
    o->picks(o, m->drawn, m->pick, b->n_picks, l->config.info.vocab);
    if (o->step_begin(o, recorded ? &shape : NULL)) {
        do
            llama_forward(l, o, &s);
        while (!o->step_end(o));
    }
    if (b->n_picks > 0)
        o->sample(o, l->logits);
    o->step_launch(o);
}

enum status model_wait(struct model *m, struct picked *out)
{
    assert(m->in_flight);
    enum status s = m->ops->step_wait(m->ops);
    m->in_flight = false;
    m->failed = s != OK;
    if (s)
        return s;
    if (m->n_picks > 0)
        memcpy(out, m->drawn, (size_t)m->n_picks * sizeof(*out));
    return OK;
}

enum status model_logits(struct model *m, int32_t i, float *logits)
{
    size_t vocab = (size_t)m->llama.config.info.vocab;
    assert(!m->in_flight && i >= 0 && i < m->n_picks);
    if (m->failed)
        return E_DEVICE;
    m->ops->download(m->ops, logits, m->llama.logits + (size_t)i * vocab, vocab * sizeof(*logits));
    return OK;
}
