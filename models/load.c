#include "models/load.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Workers and one uploader. Every worker owns one slot: it takes the next piece of
 * rows under the lock, reads and converts it into the slot, and hands the slot over; the
 * calling thread uploads it and hands it back, because the backend belongs to that
 * thread alone. A slot is touched only by whom its state names. The first error stops
 * the handing out of pieces, and the run ends when no worker is left. */

enum slot_state { SLOT_WORKERS, SLOT_FULL };

struct slot {
    enum slot_state state;
    size_t item;
    int32_t row; /* first of the piece */
    int32_t rows;
    void *raw;    /* [LOAD_PIECE_BYTES] as in the file */
    float *wide;  /* [LOAD_PIECE_BYTES / 2] one value of 16 bits is the smallest */
    int8_t *q;    /* [LOAD_PIECE_BYTES / 2] */
    float *scale; /* [LOAD_PIECE_BYTES / 2] */
};

struct load {
    const struct load_item *item; /* [n_items] */
    size_t n_items;
    const struct weights *weights;
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

void quantize_row(int8_t *q, float *scale, const float *x, int32_t n)
{
    /* Adding 1.5 * 2^23 leaves the sum's last bit worth one, so the addition itself
     * rounds to nearest even, and the low byte is the number in two's complement. */
    const float magic = 12582912.0f;
    float most = 0;
    for (int32_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    if (most < absmax_min) {
        memset(q, 0, (size_t)n);
        *scale = 0;
        return;
    }
    float inverse = 127.0f / most;
    for (int32_t i = 0; i < n; i++) {
        union {
            float f;
            uint32_t u;
        } v = {.f = x[i] * inverse + magic};
        q[i] = (int8_t)(uint8_t)v.u;
    }
    *scale = most / 127.0f;
}

enum { F32_EXPONENT = 0x7f800000 };

union bits {
    uint32_t u;
    float f;
};

static bool widen_f32(float *out, const uint32_t *in, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        union bits v = {.u = in[i]};
        bad |= (v.u & F32_EXPONENT) == F32_EXPONENT;
        out[i] = v.f;
    }
    return !bad;
}

static bool widen_bf16(float *out, const uint16_t *in, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        union bits v = {.u = (uint32_t)in[i] << 16};
        bad |= (v.u & F32_EXPONENT) == F32_EXPONENT;
        out[i] = v.f;
    }
    return !bad;
}

static bool widen_f16(float *out, const uint16_t *in, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        /* Exponent and mantissa moved into place are the number times 2^-112, also
         * when it is subnormal; the product is exact. */
        union bits v = {.u = (uint32_t)(in[i] & 0x7fff) << 13};
        bad |= (in[i] & 0x7c00) == 0x7c00;
        v.f *= 0x1p112f;
        v.u |= (uint32_t)(in[i] & 0x8000) << 16;
        out[i] = v.f;
    }
    return !bad;
}

bool widen(float *out, const void *in, enum dtype d, size_t n)
{
    switch (d) {
    case DTYPE_F32:
        return widen_f32(out, in, n);
    case DTYPE_F16:
        return widen_f16(out, in, n);
    case DTYPE_BF16:
        return widen_bf16(out, in, n);
    case DTYPE_OTHER:
        break;
    }
    return false;
}

/* --- workers --- */

static size_t row_bytes(const struct load_item *it)
{
    return (size_t)it->into->k * dtype_bytes((enum dtype)it->tensor->dtype);
}

/* Under the lock: the next piece into the slot; false when none is left. */
static bool next_piece(struct load *l, struct slot *sl)
{
    if (l->status || l->next_item == l->n_items)
        return false;
    const struct load_item *it = &l->item[l->next_item];
    size_t fit = LOAD_PIECE_BYTES / row_bytes(it);
    int32_t left = it->rows - l->next_row;
    sl->item = l->next_item;
    sl->row = l->next_row;
    sl->rows = fit < (size_t)left ? (int32_t)fit : left;
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

static enum status fill(const struct load *l, struct slot *sl)
{
    const struct load_item *it = &l->item[sl->item];
    size_t cols = (size_t)it->into->k;
    size_t n = (size_t)sl->rows * cols;
    size_t bytes = (size_t)sl->rows * row_bytes(it);
    enum status s =
        weights_read(l->weights, it->tensor, (uint64_t)sl->row * row_bytes(it), sl->raw, bytes);
    if (s)
        return s;
    if (!widen(sl->wide, sl->raw, (enum dtype)it->tensor->dtype, n))
        return E_FORMAT;
    for (size_t r = 0; r < (size_t)sl->rows && it->into->kind == NUM_Q8; r++)
        quantize_row(sl->q + r * cols, &sl->scale[r], sl->wide + r * cols, it->into->k);
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
    /* Until the load is over, the backend's constants are not constant yet. */
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
        upload(l, ops, sl);
        done += (uint64_t)sl->rows * row_bytes(&l->item[sl->item]);
        if (report->progress)
            report->progress(report->arg, done, total);
        pthread_mutex_lock(&l->mutex);
        sl->state = SLOT_WORKERS;
        pthread_cond_broadcast(&l->emptied);
    }
    pthread_mutex_unlock(&l->mutex);
}

static bool slot_open(struct slot *sl)
{
    const size_t values = LOAD_PIECE_BYTES / 2;
    sl->raw = malloc(LOAD_PIECE_BYTES);
    sl->wide = malloc(values * sizeof(float));
    sl->q = malloc(values);
    sl->scale = malloc(values * sizeof(float));
    return sl->raw && sl->wide && sl->q && sl->scale;
}

static int32_t thread_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < LOAD_THREADS_MAX ? n : LOAD_THREADS_MAX;
}

/* Starts as many workers as it can; one is enough. */
static int32_t start(struct load *l, struct worker *worker, pthread_t *thread)
{
    int32_t want = thread_count();
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
    for (size_t i = 0; i < n; i++)
        assert(item[i].rows > 0 && row_bytes(&item[i]) > 0 &&
               row_bytes(&item[i]) <= LOAD_PIECE_BYTES);
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
