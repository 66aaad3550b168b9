#ifndef BENCH_ROOF_H
#define BENCH_ROOF_H

#include "kernels/base.h"

/* What the host could do at best, each found by a loop that does nothing else, with as many
 * threads as the products beside which it is shown. One sample takes some tens of
 * milliseconds: take it before and after, and keep the best. */

struct roof;

/* E_NOMEM, E_AGAIN: no threads. */
enum status roof_open(struct roof **out, int32_t threads) MUST_CHECK;
void roof_close(struct roof *r);

/* Gigabytes a second of a streaming read that no cache can help: the best of several numbers
 * of streams and distances of prefetching. */
double roof_read_gbps(struct roof *r);

/* Int8 products with all operands in registers, 1e9 operations a second (a product and its sum
 * are two). Instruction i of those this machine has, slowest first; name is NULL beyond. */
struct roof_products {
    const char *name;
    double gops;
};
struct roof_products roof_products_at(struct roof *r, size_t i);

/* The same of single floats, by the widest instruction; 0 where none is known. */
double roof_float_gops(struct roof *r);

#endif
