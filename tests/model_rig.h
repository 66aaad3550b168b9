#ifndef TESTS_MODEL_RIG_H
#define TESTS_MODEL_RIG_H

#include "kernels/ops.h"
#include "models/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What the tests of models share: a backend with a model on it, and one step under
 * construction. FIRSTLIGHT_BACKEND names another backend than the cpu. */

enum {
    SEQ_MAX = 512,
    ROWS = 96,
    SEQS = 40, /* and picks: all positions of a prompt of 32 in one step */
    STRIDE = SEQ_MAX / 16,
};

struct setup {
    const char *path;
    int32_t threads;
    int32_t context;
    bool f32;
    enum model_kv kv;
    size_t kv_bytes;
    enum model_acts acts;
};

/* A batch under construction. */
struct step {
    int32_t token[ROWS];
    int32_t position[ROWS];
    int32_t seq_start[SEQS + 1];
    int32_t table[SEQS * STRIDE];
    struct pick pick[SEQS];
    int32_t n_seqs;
    int32_t n_picks;
};

struct rig {
    struct ops *ops;
    struct model *m;
    const struct model_info *info;
    struct step s; /* of the step to come */
    struct picked out[SEQS];
};

static inline const char *backend(void)
{
    const char *name = getenv("FIRSTLIGHT_BACKEND");
    return name && *name ? name : "cpu";
}

static inline enum status rig_try(struct rig **out, const struct setup *s, char *err,
                                  size_t err_size)
{
    const struct ops_options how = {.backend = backend(), .threads = s->threads};
    const struct model_options opt = {.path = s->path,
                                      .step_rows_max = ROWS,
                                      .step_seqs_max = SEQS,
                                      .context_max = s->context,
                                      .kv_bytes = s->kv_bytes,
                                      .weights_f32 = s->f32,
                                      .kv = s->kv,
                                      .acts = s->acts};
    struct rig *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    if (ops_open(&r->ops, &how, err, err_size))
        fail_msg("%s: %s", how.backend, err);
    enum status status = model_open(&r->m, &opt, r->ops, err, err_size);
    if (status) {
        r->ops->close(r->ops);
        free(r);
        return status;
    }
    r->info = model_info(r->m);
    *out = r;
    return OK;
}

static inline struct rig *rig_open(const struct setup *s)
{
    struct rig *r = NULL;
    char err[512] = "";
    if (rig_try(&r, s, err, sizeof(err)))
        fail_msg("%s", err);
    return r;
}

static inline void rig_close(struct rig *r)
{
    model_close(r->m);
    r->ops->close(r->ops);
    free(r);
}

static inline struct pick greedy(int32_t row, int32_t position)
{
    struct pick p = {.row = row, .position = (uint64_t)position};
    p.how.top_p = 1;
    p.how.repetition = 1;
    p.how.n_logprobs = -1;
    return p;
}

enum picks { PICK_NONE, PICK_LAST, PICK_ALL };

/* One more sequence: n tokens that begin at position. */
static inline void add(struct rig *r, const int32_t *tokens, int32_t position, int32_t n,
                       const int32_t *table, enum picks which)
{
    struct step *s = &r->s;
    int32_t row = s->seq_start[s->n_seqs];
    assert_true(row + n <= ROWS && s->n_seqs < SEQS);
    for (int32_t i = 0; i < n; i++, row++) {
        s->token[row] = tokens[i];
        s->position[row] = position + i;
        if (which == PICK_ALL || (which == PICK_LAST && i + 1 == n)) {
            assert_true(s->n_picks < SEQS);
            s->pick[s->n_picks++] = greedy(row, position + i + 1);
        }
    }
    memcpy(s->table + s->n_seqs * STRIDE, table, STRIDE * sizeof(*table));
    s->seq_start[++s->n_seqs] = row;
}

static inline struct model_batch batch_of(const struct step *s)
{
    return (struct model_batch){.n_rows = s->seq_start[s->n_seqs],
                                .n_seqs = s->n_seqs,
                                .n_picks = s->n_picks,
                                .table_stride = STRIDE,
                                .token = s->token,
                                .position = s->position,
                                .seq_start = s->seq_start,
                                .block_table = s->table,
                                .pick = s->pick};
}

static inline void run(struct rig *r)
{
    const struct model_batch b = batch_of(&r->s);
    model_launch(r->m, &b);
    /* Everything was copied, so this must not matter. */
    memset(&r->s, 0xff, sizeof(r->s));
    assert_int_equal(model_wait(r->m, r->out), OK);
    memset(&r->s, 0, sizeof(r->s));
}

/* Runs ids[from..to] in steps of at most chunk rows; the logits of the last position. */
static inline void feed(struct rig *r, const int32_t *ids, int32_t from, int32_t to, int32_t chunk,
                        const int32_t *table, float *logits)
{
    while (from < to) {
        int32_t n = chunk < to - from ? chunk : to - from;
        add(r, ids + from, from, n, table, from + n == to ? PICK_LAST : PICK_NONE);
        run(r);
        from += n;
    }
    assert_int_equal(model_logits(r->m, 0, logits), OK);
}

static inline void table_up(int32_t *table, int32_t first)
{
    for (int32_t i = 0; i < STRIDE; i++)
        table[i] = first + i;
}

static inline double worst(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

static inline int32_t argmax(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

#endif
