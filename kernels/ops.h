#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "kernels/base.h"
#include "kernels/sampling.h"
#include "kernels/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* SEAM between models/ and kernels/: a backend is the nine operations a Llama forward pass
 * is made of. "cpu" is the definition of right; "cuda" must agree with it: to the bit where
 * the sums are integers, within a stated bound elsewhere (tests/ops_test.c).
 *
 * Compute calls return nothing. The first failure of a step is kept inside the backend, the
 * calls after it do nothing, and step_wait() reports it; so the forward pass is a straight line.
 *
 * Batch invariance is part of the contract of every operation: what is computed for a row depends
 * on that row (and, in attention, on the keys and values it sees), never on the number of rows,
 * the thread count or the chunking.
 *
 * Pointers are backend memory from alloc(), except where it says "host". One thread at a time. */

enum number {
    NUM_Q8,  /* int8 and a float scale: value = q * scale */
    NUM_F32, /* plain; inside a product with int8 it may be rounded to 16 bit */
    NUM_F16, /* of keys and values alone: rounded to nearest even, at most 65504 (half.h) */
};

/* Activations [rows][dim]. */
struct act {
    enum number kind;
    int8_t *q;    /* NUM_Q8: [rows][dim], scale = absmax / 127, round to nearest even */
    float *scale; /* NUM_Q8: [rows]; 0 for a row of zeros */
    float *f;     /* NUM_F32: [rows][dim] */
};

/* [n][k] row-major, one copy for every kernel; y = x W^T. */
struct weight {
    enum number kind; /* as stored */
    enum number act;  /* how its input enters: NUM_Q8 is W8A8, NUM_F32 is W8A16 or f32 */
    const int8_t *q;
    const float *scale; /* [n] NUM_Q8: one per output channel */
    const int32_t *sum; /* [n] of each row of q, for a backend in host memory; NULL: not known */
    const float *f;     /* NUM_F32 */
    const float *bias;  /* [n] NULL: none */
    int32_t n;
    int32_t k;
};

/* One layer of the paged cache: where its arrays begin in block 0; paged.h has the rest. */
struct kv_layer {
    enum number kind;
    size_t block_bytes; /* of all layers: from what is of one block to what is of the next */
    void *key;          /* [kv_heads][block_tokens][head_dim] int8_t, float or halves */
    void *value;
    float *key_scale; /* [kv_heads][block_tokens] with NUM_Q8, else NULL */
    float *value_scale;
};

/* Host memory that goes up as it lies there: any thread may fill it. */
struct window {
    void *at;   /* [bytes] */
    void *sent; /* the backend's: what went up last */
};

struct ops {
    const char *name;
    bool host_memory; /* alloc() gives the host's: a loader may fill it, from any thread */
    bool records;     /* a step of a known key is cheaper: worth rounding its shape up */
    void (*close)(struct ops *o);

    /* 64-byte aligned, zeroed. E_NOMEM. */
    enum status (*alloc)(struct ops *o, size_t bytes, void **out) MUST_CHECK;
    void (*release)(struct ops *o, void *p);
    /* p [bytes], fresh from alloc(), is for rows of a weight: they should be near to who will
     * multiply them. Changes nothing but speed. */
    void (*place_rows)(struct ops *o, void *p, size_t bytes);
    size_t (*bytes_free)(struct ops *o);
    size_t (*bytes_total)(struct ops *o);
    /* src of upload and dst of download are host memory. Ordered with the compute
     * calls. A download has landed when step_wait() returns, or on return when
     * made outside a step. */
    void (*upload)(struct ops *o, void *dst, const void *src, size_t bytes);
    void (*download)(struct ops *o, void *dst, const void *src, size_t bytes);
    /* An upload without a copy by the processor; not there with host_memory. src lies in the
     * window, which may be filled again after window_wait(). E_NOMEM, E_DEVICE. */
    enum status (*window_open)(struct ops *o, struct window *w, size_t bytes) MUST_CHECK;
    void (*window_send)(struct ops *o, struct window *w, void *dst, const void *src, size_t bytes);
    void (*window_wait)(struct ops *o, struct window *w);
    void (*window_close)(struct ops *o, struct window *w);

    /* What the step to come draws, told before step_begin(): every step has its own. Both are
     * host memory that stays valid until step_wait(), when out [n_picks] is filled. */
    void (*picks)(struct ops *o, struct picked *out, const struct pick *pick, int32_t n_picks,
                  int32_t vocab);
    /* A step: uploads, picks(), step_begin(), operations, step_end(), sample(), step_launch(),
     * step_wait(). step_begin() is false when all up to step_end() was replayed as it was
     * recorded for this key: arguments are as then, what lies in memory is read anew. key NULL:
     * not worth it. step_end() is false when a recording failed: nothing ran, issue it again.
     * release() forgets recordings. On the cpu the calls themselves do the work. */
    bool (*step_begin)(struct ops *o, const struct step_key *key);
    bool (*step_end)(struct ops *o);
    void (*step_launch)(struct ops *o);
    enum status (*step_wait)(struct ops *o) MUST_CHECK;

    /* x [rows][k] = table row of each id. A negative id means: the token that
     * sample() drew for pick ~id of the step before, read on the device. */
    void (*embed)(struct ops *o, float *x, const struct weight *table, const int32_t *ids,
                  int32_t rows);
    /* RMSNorm: y = x / sqrt(mean(x^2) + eps) * gain, written as y->kind. */
    void (*norm)(struct ops *o, const struct act *y, const float *x, const float *gain, float eps,
                 int32_t rows, int32_t dim);
    /* y [rows][n] = x W^T + bias, or y += with accumulate. W8A8: exact int32 sums, then
     * (float)sum * x.scale * w.scale + bias in this order. x->kind equals w->act. */
    void (*linear)(struct ops *o, float *y, const struct act *x, const struct weight *w,
                   int32_t rows, bool accumulate);
    /* qkv [rows][(n_heads + 2 * n_kv_heads) * head_dim]: norms and rotates q in place,
     * norms and rotates k, stores k and v in their blocks. */
    void (*rope_store)(struct ops *o, float *qkv, const struct kv_layer *kv,
                       const struct step_view *step, const struct head_shape *shape);
    /* y [rows][n_heads * head_dim]: causal, within the window; keys and values as stored. */
    void (*attention)(struct ops *o, float *y, const float *qkv, const struct kv_layer *kv,
                      const struct step_view *step, const struct head_shape *shape);
    /* y = x, written as y->kind. */
    void (*convert)(struct ops *o, const struct act *y, const float *x, int32_t rows, int32_t dim);
    /* gate_up [rows][2 * hidden], gate first: y = silu(gate) * up, as y->kind. */
    void (*swiglu)(struct ops *o, const struct act *y, const float *gate_up, int32_t rows,
                   int32_t hidden);
    /* y [rows][dim] = x[index[row]] */
    void (*gather)(struct ops *o, float *y, const float *x, const int32_t *index, int32_t rows,
                   int32_t dim);
    /* One token per row of logits [n_picks][vocab], as told; they are afterwards as before. */
    void (*sample)(struct ops *o, float *logits);
};

struct ops_options {
    const char *backend; /* "cpu", "cuda", "auto": cuda where there is a device, else cpu */
    int32_t threads;     /* cpu: 0 means every core this process may use */
};

/* What a backend of this name takes for itself at opening, of its memory and of the host's where
 * that is another; for who plans without one. */
struct own_bytes {
    size_t device;
    size_t host;
};
struct own_bytes ops_own_bytes(const char *backend);

/* E_UNSUPPORTED when the build or the machine lacks the backend; err says why. */
enum status ops_open(struct ops **out, const struct ops_options *opt, char *err,
                     size_t err_size) MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
