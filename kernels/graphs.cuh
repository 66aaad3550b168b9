#ifndef KERNELS_GRAPHS_CUH
#define KERNELS_GRAPHS_CUH

#include <cuda_runtime.h>

#include "kernels/ops_cuda.h"

/* Steps recorded as CUDA graphs, the least recently used dropped when there are too many.
 *
 * A key's first step runs kernel by kernel: that loads its kernels, which cannot be done while a
 * recording goes on, and a shape that is seen once is not worth one. The second is recorded, and
 * then launched like all behind it. Whatever goes wrong with graphs costs speed alone: one line
 * in the log, and steps are launched kernel by kernel from then on; an error of the device itself
 * shows there. */
struct graph {
    struct step_key key;
    cudaGraphExec_t exec; /* NULL: seen once, not recorded yet */
    uint64_t used;        /* when last */
};

struct graphs {
    cudaStream_t stream;
    struct graph kept[CUDA_GRAPHS_MAX];
    int n;
    uint64_t clock;
    struct graph *recording; /* NULL: none is under way */
    bool off;
};

/* True when the key's graph was launched. Otherwise the caller launches the step, and it may be
 * recorded until graphs_end(). */
bool graphs_begin(struct graphs *g, const struct step_key *key);
/* An error while recording: the step will have to be issued again. */
void graphs_spoil(struct graphs *g, int error, const char *what);
/* False: what was recorded is lost. */
bool graphs_end(struct graphs *g);
void graphs_forget(struct graphs *g);

#endif
