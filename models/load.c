#include "models/load.h"

#include "kernels/cpu_machine.h"
#include "models/config.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Workers and one uploader. Every worker owns one slot: it takes the next piece of
 * rows under the lock, reads and converts it, and hands the slot over; the calling thread
 * uploads and reports it and hands it back, because the backend belongs to that thread
 * alone. Where the backend's memory is the host's, the worker writes each row to its place
 * itself and there is nothing to upload. A slot is touched only by whom its state names. The
 * first error stops the handing out of pieces, and the run ends when no worker is left. */

enum slot_state { SLOT_WORKERS, SLOT_FULL };

struct slot {
    enum slot_state state;
    size_t item;
    int32_t row; /* first of the piece */
    int32_t rows;
    void *raw;    /* [LOAD_PIECE_BYTES] as in the file */
    float *wide;  /* [LOAD_PIECE_VALUES] */
    int8_t *q;    /* [LOAD_PIECE_VALUES] */
    float *scale; /* [LOAD_PIECE_VALUES] */
};

/* Where the rows of a piece go. */
struct target {
    int8_t *q;
    float *scale;
    float *f;
};

struct load {
    const struct load_item *item; /* [n_items] */
    size_t n_items;
    const struct weights *weights;
    bool in_place;              /* workers write to the backend's memory */
    struct complaint complaint; /* not yet about a file */
    pthread_mutex_t mutex;      /* the members below, and the states of the slots */
    pthread_cond_t full;
    pthread_cond_t emptied;
    size_t next_item;
    int32_t next_row;
    int32_t n_running;
    enum status status;
    struct slot slot[LOAD_THREADS_MAX];
};

struct worker {
    struct load *load;
    struct slot *slot;
};

/* Below this a row is zero: 127 / absmax must stay finite. */
static const float absmax_min = 1e-30f;

union bits {
    float f;
    int32_t i;
    uint32_t u;
};

/* Magnitudes are in order as integers too, of which the compiler takes a maximum in vectors. */
static float absmax(const float *x, int32_t n)
{
    union bits most = {.i = 0};
    for (int32_t i = 0; i < n; i++) {
        union bits v = {.f = x[i]};
        int32_t magnitude = v.i & 0x7fffffff;
        most.i = magnitude > most.i ? magnitude : most.i;
    }
    return most.f;
}

void quantize_row(int8_t *q, float *scale, const float *x, int32_t n)
{
    /* Adding 1.5 * 2^23 leaves the sum's last bit worth one, so the addition itself
     * rounds to nearest even, and the low byte is the number in two's complement. */
    const float magic = 12582912.0f;
    float most = absmax(x, n);
    if (most < absmax_min) {
        memset(q, 0, (size_t)n);
        *scale = 0;
        return;
    }
    float inverse = 127.0f / most;
    for (int32_t i = 0; i < n; i++) {
        union bits v = {.f = x[i] * inverse + magic};
        q[i] = (int8_t)(uint8_t)v.u;
    }
    *scale = most / 127.0f;
}

/* --- workers --- */

/* In the file. */
static size_t row_bytes(const struct load_item *it)
{
    uint64_t bytes = 0;
    bool read = dtype_bytes((enum dtype)it->tensor->dtype, (uint64_t)it->into->k, &bytes);
    assert(read && bytes > 0 && bytes <= LOAD_PIECE_BYTES);
    return (size_t)bytes;
}

static int32_t rows_each(const struct load_item *it)
{
    size_t by_bytes = LOAD_PIECE_BYTES / row_bytes(it);
    size_t by_values = LOAD_PIECE_VALUES / (size_t)it->into->k;
    return (int32_t)(by_bytes < by_values ? by_bytes : by_values);
}

/* Under the lock: the next piece into the slot; false when none is left. */
static bool next_piece(struct load *l, struct slot *sl)
{
    if (l->status || l->next_item == l->n_items)
        return false;
    const struct load_item *it = &l->item[l->next_item];
    sl->item = l->next_item;
    sl->row = l->next_row;
    sl->rows = min32(rows_each(it), it->rows - l->next_row);
    l->next_row += sl->rows;
    if (l->next_row == it->rows) {
        l->next_item++;
        l->next_row = 0;
    }
    return true;
}

/* Says what was wrong, once. */
static void give_up(struct load *l, const struct load_item *it, enum status s)
{
    const struct tensor *t = it->tensor;
    struct complaint c = l->complaint;
    c.file = weights_file(l->weights, t);
    if (l->status)
        return;
    l->status = complain(&c, s, "tensor \"%.*s\" %s", (int)t->name_bytes, t->name,
                         s == E_IO ? "cannot be read" : "holds a value that is not finite");
}

static struct target target_in(const struct load *l, const struct slot *sl)
{
    const struct load_item *it = &l->item[sl->item];
    const struct weight *w = it->into;
    size_t row = (size_t)it->row + (size_t)sl->row;
    size_t at = row * (size_t)w->k;
    if (!l->in_place)
        return (struct target){.q = sl->q, .scale = sl->scale, .f = sl->wide};
    /* Until the load is over, the backend's constants are not constant yet. */
    if (w->kind == NUM_F32)
        return (struct target){.scale = sl->scale, .f = (float *)w->f + at};
    return (struct target){
        .q = (int8_t *)w->q + at, .scale = (float *)w->scale + row, .f = sl->wide};
}

/* Where row lies in a tensor whose heads' halves alternate. */
static uint64_t stored_row(const struct tensor *t, uint64_t row)
{
    uint64_t half = t->head_rows / 2;
    uint64_t in_head = row % t->head_rows;
    return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

static enum status read_rows(const struct weights *w, const struct tensor *t, size_t each,
                             const struct slot *sl, void *to)
{
    uint64_t first = (uint64_t)sl->row;
    if (t->head_rows == 0)
        return weights_read(w, t, first * each, to, (size_t)sl->rows * each);
    enum status s = OK;
    for (size_t i = 0; i < (size_t)sl->rows && !s; i++)
        s = weights_read(w, t, stored_row(t, first + i) * each, (char *)to + i * each, each);
    return s;
}

/* The scales that came with the piece's rows. */
static enum status read_scales(const struct load *l, const struct slot *sl, float *to)
{
    const struct tensor *t = l->item[sl->item].scale;
    uint64_t each;
    if (!dtype_bytes((enum dtype)t->dtype, 1, &each))
        return E_FORMAT;
    enum status s = read_rows(l->weights, t, (size_t)each, sl, sl->raw);
    if (s)
        return s;
    bool finite = dtype_info((enum dtype)t->dtype)->widen(to, sl->raw, (size_t)sl->rows);
    return finite ? OK : E_FORMAT;
}

static void apply_scales(float *x, const float *scale, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < cols; i++)
            x[r * cols + i] *= scale[r];
    }
}

static enum status fill(const struct load *l, struct slot *sl)
{
    const struct load_item *it = &l->item[sl->item];
    const struct target to = target_in(l, sl);
    bool as_stored = it->scale && it->into->kind == NUM_Q8;
    size_t cols = (size_t)it->into->k;
    size_t rows = (size_t)sl->rows;
    enum status s = it->scale ? read_scales(l, sl, to.scale) : OK;
    if (!s)
        s = read_rows(l->weights, it->tensor, row_bytes(it), sl, as_stored ? to.q : sl->raw);
    if (s || as_stored)
        return s;
    if (!dtype_info((enum dtype)it->tensor->dtype)->widen(to.f, sl->raw, rows * cols))
        return E_FORMAT;
    if (it->scale)
        apply_scales(to.f, to.scale, rows, cols);
    for (size_t r = 0; r < rows && it->into->kind == NUM_Q8; r++)
        quantize_row(to.q + r * cols, &to.scale[r], to.f + r * cols, it->into->k);
    return OK;
}

static void *work(void *arg)
{
    struct load *l = ((struct worker *)arg)->load;
    struct slot *sl = ((struct worker *)arg)->slot;
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        while (sl->state == SLOT_FULL)
            pthread_cond_wait(&l->emptied, &l->mutex);
        if (!next_piece(l, sl))
            break;
        pthread_mutex_unlock(&l->mutex);
        enum status s = fill(l, sl);
        pthread_mutex_lock(&l->mutex);
        if (s)
            give_up(l, &l->item[sl->item], s);
        else
            sl->state = SLOT_FULL;
        pthread_cond_signal(&l->full);
    }
    l->n_running--;
    pthread_cond_signal(&l->full);
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* --- the calling thread --- */

static void upload(struct load *l, struct ops *ops, const struct slot *sl)
{
    const struct load_item *it = &l->item[sl->item];
    const struct weight *to = it->into;
    size_t row = (size_t)it->row + (size_t)sl->row;
    size_t at = row * (size_t)to->k;
    size_t n = (size_t)sl->rows * (size_t)to->k;
    if (to->kind == NUM_F32) {
        ops->upload(ops, (float *)to->f + at, sl->wide, n * sizeof(float));
        return;
    }
    ops->upload(ops, (int8_t *)to->q + at, sl->q, n);
    ops->upload(ops, (float *)to->scale + row, sl->scale, (size_t)sl->rows * sizeof(float));
}

static struct slot *full_slot(struct load *l)
{
    for (size_t i = 0; i < LOAD_THREADS_MAX; i++) {
        if (l->slot[i].state == SLOT_FULL)
            return &l->slot[i];
    }
    return NULL;
}

static void drain(struct load *l, struct ops *ops, const struct load_report *report)
{
    uint64_t total = 0;
    uint64_t done = 0;
    uint64_t uploading = 0; /* nanoseconds */
    for (size_t i = 0; i < l->n_items; i++)
        total += l->item[i].tensor->bytes;
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        struct slot *sl = full_slot(l);
        if (!sl && l->n_running == 0)
            break;
        if (!sl) {
            pthread_cond_wait(&l->full, &l->mutex);
            continue;
        }
        pthread_mutex_unlock(&l->mutex);
        uint64_t began = now_ns();
        if (ops && !l->in_place)
            upload(l, ops, sl);
        uploading += now_ns() - began;
        done += (uint64_t)sl->rows * row_bytes(&l->item[sl->item]);
        if (report->progress)
            report->progress(report->arg, done, total);
        pthread_mutex_lock(&l->mutex);
        sl->state = SLOT_WORKERS;
        pthread_cond_broadcast(&l->emptied);
    }
    pthread_mutex_unlock(&l->mutex);
    if (ops && !l->in_place)
        log_line(LOG_INFO, "start: handing weights to the backend took %.3f s of the next stage",
                 (double)uploading * 1e-9);
}

static bool slot_open(struct slot *sl)
{
    const size_t values = LOAD_PIECE_VALUES;
    sl->raw = malloc(LOAD_PIECE_BYTES);
    sl->wide = malloc(values * sizeof(float));
    sl->q = malloc(values);
    sl->scale = malloc(values * sizeof(float));
    return sl->raw && sl->wide && sl->q && sl->scale;
}

/* Starts as many workers as it can; one is enough. */
static int32_t start(struct load *l, struct worker *worker, pthread_t *thread)
{
    int32_t want = min32(machine_cores(), LOAD_THREADS_MAX);
    int32_t n = 0;
    while (n < want && slot_open(&l->slot[n])) {
        worker[n] = (struct worker){.load = l, .slot = &l->slot[n]};
        l->n_running++;
        if (pthread_create(&thread[n], NULL, work, &worker[n]) != 0) {
            l->n_running--;
            break;
        }
        n++;
    }
    return n;
}

static enum status load_all(struct load *l, struct ops *ops, const struct load_report *report)
{
    struct worker worker[LOAD_THREADS_MAX];
    pthread_t thread[LOAD_THREADS_MAX];
    /* Held, so that the first workers do not count down what is still counted up. */
    pthread_mutex_lock(&l->mutex);
    int32_t n = start(l, worker, thread);
    pthread_mutex_unlock(&l->mutex);
    if (n == 0)
        return complain(&l->complaint, E_NOMEM, "cannot start a single thread");
    drain(l, ops, report);
    for (int32_t i = 0; i < n; i++)
        (void)pthread_join(thread[i], NULL);
    return l->status;
}

enum status load_run(const struct load_item *item, size_t n, const struct weights *w,
                     struct ops *ops, const struct load_report *report, char *err, size_t err_size)
{
    struct load l = {.item = item, .n_items = n, .weights = w};
    l.complaint = complaint_in("load", err, err_size);
    l.in_place = ops && ops->host_memory;
    for (size_t i = 0; i < n; i++)
        assert(item[i].rows > 0 && rows_each(&item[i]) > 0);
    pthread_mutex_init(&l.mutex, NULL);
    pthread_cond_init(&l.full, NULL);
    pthread_cond_init(&l.emptied, NULL);
    enum status s = load_all(&l, ops, report);
    for (size_t i = 0; i < LOAD_THREADS_MAX; i++) {
        free(l.slot[i].raw);
        free(l.slot[i].wide);
        free(l.slot[i].q);
        free(l.slot[i].scale);
    }
    pthread_cond_destroy(&l.emptied);
    pthread_cond_destroy(&l.full);
    pthread_mutex_destroy(&l.mutex);
    return s;
}

static const char divisors_name[] = "rope_freqs.weight";

static enum status read_divisors(float *divisor, int32_t n, const struct weights *w,
                                 const struct tensor *t, const struct complaint *c)
{
    uint8_t raw[HEAD_DIM_MAX / 2 * sizeof(float)];
    enum dtype d = (enum dtype)t->dtype;
    uint64_t bytes = 0;
    assert(n <= HEAD_DIM_MAX / 2);
    if (t->rank != 1 || t->dim[0] != (uint64_t)n || !dtype_bytes(d, (uint64_t)n, &bytes))
        return complain(c, E_FORMAT, "tensor \"%s\" must hold %d numbers", divisors_name, n);
    if (weights_read(w, t, 0, raw, (size_t)bytes))
        return complain(c, E_IO, "tensor \"%s\" cannot be read", divisors_name);
    if (!dtype_info(d)->widen(divisor, raw, (size_t)n))
        return complain(c, E_FORMAT, "tensor \"%s\" holds a value that is not finite",
                        divisors_name);
    for (int32_t i = 0; i < n; i++) {
        if (divisor[i] <= 0)
            return complain(c, E_FORMAT, "tensor \"%s\" holds a divisor of %g", divisors_name,
                            (double)divisor[i]);
    }
    return OK;
}

enum status load_rope(float *freq, struct rope *r, int32_t head_dim, const struct weights *w,
                      const struct complaint *c)
{
    float divisor[HEAD_DIM_MAX / 2];
    const struct tensor *t = weights_find(w, divisors_name);
    struct complaint in_file = *c;
    in_file.file = weights_file(w, t);
    rope_frequencies(r, head_dim, freq);
    if (!t)
        return OK;
    enum status s = read_divisors(divisor, head_dim / 2, w, t, &in_file);
    if (s)
        return s;
    r->divided = !rope_of_divisors(r, divisor, head_dim);
    if (!r->divided)
        rope_frequencies(r, head_dim, freq);
    for (int32_t i = 0; r->divided && i < head_dim / 2; i++)
        freq[i] /= divisor[i];
    return OK;
}
