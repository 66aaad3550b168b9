#include "models/load.h"

#include "kernels/cpu_machine.h"
#include "models/config.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Workers and one uploader. A worker takes a free slot and the next piece of rows under the lock,
 * reads and converts it, and hands the slot over; the calling thread sends and reports it, because
 * the backend belongs to that thread alone. A slot is memory that the backend sends from as it
 * lies there: the last one sent is on its way while the next is looked for, and is free again
 * when that one has been sent too; so there are two slots more than workers. Where the backend's
 * memory is the host's, the worker writes each row to its place itself and nothing is sent. A slot
 * is touched only by whom its state names. The first error stops the handing out of pieces, and the
 * run ends when no worker is left. */

enum { SLOTS_MAX = LOAD_THREADS_MAX + 2 };

enum slot_state { SLOT_FREE, SLOT_WORKERS, SLOT_FULL, SLOT_SENT };

struct slot {
    enum slot_state state;
    size_t item;
    int32_t row; /* first of the piece */
    int32_t rows;
    struct window window; /* what both lie in */
    union {
        int8_t *q; /* [LOAD_PIECE_VALUES] */
        float *f;  /* [LOAD_PIECE_VALUES] */
    };
    float *scale; /* [LOAD_PIECE_ROWS] */
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
    struct ops *ops;            /* NULL: the host's memory alone */
    bool in_place;              /* workers write to the backend's memory */
    bool sends;                 /* or their pieces are sent there */
    struct complaint complaint; /* not yet about a file */
    pthread_mutex_t mutex;      /* the members below, and the states of the slots */
    pthread_cond_t full;
    pthread_cond_t emptied;
    size_t next_item;
    int32_t next_row;
    int32_t n_running;
    enum status status;
    int32_t n_slots;
    struct slot slot[SLOTS_MAX];
};

struct worker {
    struct load *load;
    void *raw;   /* [LOAD_PIECE_BYTES] as in the file */
    float *wide; /* [LOAD_PIECE_VALUES] */
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
    size_t rows = by_bytes < by_values ? by_bytes : by_values;
    return (int32_t)(rows < LOAD_PIECE_ROWS ? rows : LOAD_PIECE_ROWS);
}

static bool pieces_left(const struct load *l)
{
    return !l->status && l->next_item < l->n_items;
}

/* Under the lock: the next piece into the slot. */
static void next_piece(struct load *l, struct slot *sl)
{
    const struct load_item *it = &l->item[l->next_item];
    sl->state = SLOT_WORKERS;
    sl->item = l->next_item;
    sl->row = l->next_row;
    sl->rows = min32(rows_each(it), it->rows - l->next_row);
    l->next_row += sl->rows;
    if (l->next_row == it->rows) {
        l->next_item++;
        l->next_row = 0;
    }
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

/* Int8 is made of floats, which stay with the worker. */
static struct target target_in(const struct worker *me, const struct slot *sl)
{
    const struct load *l = me->load;
    const struct load_item *it = &l->item[sl->item];
    const struct weight *w = it->into;
    size_t row = (size_t)it->row + (size_t)sl->row;
    size_t at = row * (size_t)w->k;
    /* Until the load is over, the backend's constants are not constant yet. */
    if (w->kind == NUM_F32)
        return (struct target){.scale = sl->scale, .f = l->in_place ? (float *)w->f + at : sl->f};
    if (!l->in_place)
        return (struct target){.q = sl->q, .scale = sl->scale, .f = me->wide};
    return (struct target){
        .q = (int8_t *)w->q + at, .scale = (float *)w->scale + row, .f = me->wide};
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
static enum status read_scales(const struct worker *me, const struct slot *sl, float *to)
{
    const struct load *l = me->load;
    const struct tensor *t = l->item[sl->item].scale;
    uint64_t each;
    if (!dtype_bytes((enum dtype)t->dtype, 1, &each))
        return E_FORMAT;
    enum status s = read_rows(l->weights, t, (size_t)each, sl, me->raw);
    if (s)
        return s;
    bool finite = dtype_info((enum dtype)t->dtype)->widen(to, me->raw, (size_t)sl->rows);
    return finite ? OK : E_FORMAT;
}

static void apply_scales(float *x, const float *scale, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < cols; i++)
            x[r * cols + i] *= scale[r];
    }
}

static enum status fill_rows(const struct worker *me, const struct slot *sl)
{
    const struct load *l = me->load;
    const struct load_item *it = &l->item[sl->item];
    const struct target to = target_in(me, sl);
    bool as_stored = it->scale && it->into->kind == NUM_Q8;
    size_t cols = (size_t)it->into->k;
    size_t rows = (size_t)sl->rows;
    enum status s = it->scale ? read_scales(me, sl, to.scale) : OK;
    if (!s)
        s = read_rows(l->weights, it->tensor, row_bytes(it), sl, as_stored ? to.q : me->raw);
    if (s || as_stored)
        return s;
    if (!dtype_info((enum dtype)it->tensor->dtype)->widen(to.f, me->raw, rows * cols))
        return E_FORMAT;
    if (it->scale)
        apply_scales(to.f, to.scale, rows, cols);
    for (size_t r = 0; r < rows && it->into->kind == NUM_Q8; r++)
        quantize_row(to.q + r * cols, &to.scale[r], to.f + r * cols, it->into->k);
    return OK;
}

/* What a backend in host memory wants to know of rows of int8, while they are in a cache. */
static void sum_rows(const struct load_item *it, const struct slot *sl)
{
    const struct weight *w = it->into;
    for (int32_t r = it->row + sl->row; r < it->row + sl->row + sl->rows; r++) {
        const int8_t *q = w->q + (size_t)r * (size_t)w->k;
        int32_t sum = 0;
        for (int32_t i = 0; i < w->k; i++)
            sum += q[i];
        ((int32_t *)w->sum)[r] = sum;
    }
}

static enum status fill(const struct worker *me, const struct slot *sl)
{
    const struct load *l = me->load;
    const struct load_item *it = &l->item[sl->item];
    enum status s = fill_rows(me, sl);
    if (!s && l->in_place && it->into->kind == NUM_Q8)
        sum_rows(it, sl);
    return s;
}

static struct slot *slot_that_is(struct load *l, enum slot_state state)
{
    for (int32_t i = 0; i < l->n_slots; i++) {
        if (l->slot[i].state == state)
            return &l->slot[i];
    }
    return NULL;
}

static void *work(void *arg)
{
    const struct worker *me = arg;
    struct load *l = me->load;
    pthread_mutex_lock(&l->mutex);
    while (pieces_left(l)) {
        struct slot *sl = slot_that_is(l, SLOT_FREE);
        if (!sl) {
            pthread_cond_wait(&l->emptied, &l->mutex);
            continue;
        }
        next_piece(l, sl);
        pthread_mutex_unlock(&l->mutex);
        enum status s = fill(me, sl);
        pthread_mutex_lock(&l->mutex);
        sl->state = s ? SLOT_FREE : SLOT_FULL;
        if (s)
            give_up(l, &l->item[sl->item], s);
        if (s)
            pthread_cond_broadcast(&l->emptied);
        pthread_cond_signal(&l->full);
    }
    l->n_running--;
    pthread_cond_signal(&l->full);
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* --- the calling thread --- */

static void send(struct load *l, struct slot *sl)
{
    const struct load_item *it = &l->item[sl->item];
    const struct weight *to = it->into;
    struct ops *o = l->ops;
    size_t row = (size_t)it->row + (size_t)sl->row;
    size_t at = row * (size_t)to->k;
    size_t n = (size_t)sl->rows * (size_t)to->k;
    if (to->kind == NUM_F32) {
        o->window_send(o, &sl->window, (float *)to->f + at, sl->f, n * sizeof(float));
        return;
    }
    o->window_send(o, &sl->window, (int8_t *)to->q + at, sl->q, n);
    o->window_send(o, &sl->window, (float *)to->scale + row, sl->scale,
                   (size_t)sl->rows * sizeof(float));
}

/* What goes from slot to slot while the workers work. */
struct drain {
    const struct load_report *report;
    struct slot *sent; /* the last one, perhaps still on its way */
    uint64_t total;
    uint64_t done;
    uint64_t sending; /* nanoseconds */
};

/* Sends a slot, which may be NULL, and waits for the one before, which may be too. */
static void pass(struct load *l, struct drain *d, struct slot *next)
{
    uint64_t began = now_ns();
    if (next && l->sends)
        send(l, next);
    if (d->sent && l->sends)
        l->ops->window_wait(l->ops, &d->sent->window);
    d->sending += now_ns() - began;
    if (!next)
        return;
    d->done += (uint64_t)next->rows * row_bytes(&l->item[next->item]);
    if (d->report->progress)
        d->report->progress(d->report->arg, d->done, d->total);
}

static void drain(struct load *l, const struct load_report *report)
{
    struct drain d = {.report = report};
    for (size_t i = 0; i < l->n_items; i++)
        d.total += l->item[i].tensor->bytes;
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        struct slot *next = slot_that_is(l, SLOT_FULL);
        if (!next && !d.sent && l->n_running == 0)
            break;
        if (!next && !d.sent) {
            pthread_cond_wait(&l->full, &l->mutex);
            continue;
        }
        pthread_mutex_unlock(&l->mutex);
        pass(l, &d, next);
        pthread_mutex_lock(&l->mutex);
        if (d.sent)
            d.sent->state = SLOT_FREE;
        if (next)
            next->state = SLOT_SENT;
        d.sent = next;
        pthread_cond_broadcast(&l->emptied);
    }
    pthread_mutex_unlock(&l->mutex);
    if (l->sends)
        log_line(LOG_INFO, "start: handing weights to the backend took %.3f s of the next stage",
                 (double)d.sending * 1e-9);
}

static enum status slot_open(struct load *l, struct slot *sl)
{
    const size_t values = LOAD_PIECE_VALUES * sizeof(float);
    const size_t bytes = values + LOAD_PIECE_ROWS * sizeof(float);
    enum status s = OK;
    if (l->sends)
        s = l->ops->window_open(l->ops, &sl->window, bytes);
    else
        sl->window.at = malloc(bytes);
    if (s || !sl->window.at)
        return s ? s : E_NOMEM;
    sl->f = sl->window.at;
    sl->scale = sl->f + LOAD_PIECE_VALUES;
    return OK;
}

static void slots_close(struct load *l)
{
    for (int32_t i = 0; i < l->n_slots; i++) {
        if (l->sends)
            l->ops->window_close(l->ops, &l->slot[i].window);
        else
            free(l->slot[i].window.at);
    }
}

static enum status slots_open(struct load *l, int32_t n)
{
    enum status s = OK;
    while (l->n_slots < n && !s)
        s = slot_open(l, &l->slot[l->n_slots++]);
    return s;
}

static bool worker_open(struct worker *w, struct load *l)
{
    w->load = l;
    w->raw = malloc(LOAD_PIECE_BYTES);
    w->wide = malloc(LOAD_PIECE_VALUES * sizeof(float));
    return w->raw && w->wide;
}

/* Starts as many workers as it can; one is enough. */
static int32_t start(struct load *l, struct worker *worker, pthread_t *thread, int32_t want)
{
    int32_t n = 0;
    while (n < want && worker_open(&worker[n], l)) {
        l->n_running++;
        if (pthread_create(&thread[n], NULL, work, &worker[n]) != 0) {
            l->n_running--;
            break;
        }
        n++;
    }
    return n;
}

static enum status work_all(struct load *l, const struct load_report *report, int32_t want)
{
    struct worker worker[LOAD_THREADS_MAX] = {0};
    pthread_t thread[LOAD_THREADS_MAX];
    /* Held, so that the first workers do not count down what is still counted up. */
    pthread_mutex_lock(&l->mutex);
    int32_t n = start(l, worker, thread, want);
    pthread_mutex_unlock(&l->mutex);
    if (n == 0)
        l->status = complain(&l->complaint, E_NOMEM, "cannot start a single thread");
    else
        drain(l, report);
    for (int32_t i = 0; i < n; i++)
        (void)pthread_join(thread[i], NULL);
    for (int32_t i = 0; i < want; i++) {
        free(worker[i].raw);
        free(worker[i].wide);
    }
    return l->status;
}

enum status load_run(const struct load_item *item, size_t n, const struct weights *w,
                     struct ops *ops, const struct load_report *report, char *err, size_t err_size)
{
    struct load l = {.item = item, .n_items = n, .weights = w, .ops = ops};
    int32_t want = min32(machine_cores(), LOAD_THREADS_MAX);
    l.complaint = complaint_in("load", err, err_size);
    l.in_place = ops && ops->host_memory;
    l.sends = ops && !ops->host_memory;
    for (size_t i = 0; i < n; i++)
        assert(item[i].rows > 0 && rows_each(&item[i]) > 0);
    pthread_mutex_init(&l.mutex, NULL);
    pthread_cond_init(&l.full, NULL);
    pthread_cond_init(&l.emptied, NULL);
    enum status s = slots_open(&l, want + SLOTS_MAX - LOAD_THREADS_MAX);
    if (s)
        s = complain(&l.complaint, s, "no memory to read weights into");
    else
        s = work_all(&l, report, want);
    slots_close(&l);
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
