#ifndef BENCH_SERVE_SCHEDULE_H
#define BENCH_SERVE_SCHEDULE_H

#include "bench/serve_options.h"

/* When requests should be sent: fixed before a run starts, so that a slow server cannot slow the
 * clock down. A pure function of the options and the seed. */
struct schedule {
    uint64_t *due_ns; /* [n], ascending, since the start of the run; NULL: whenever there is room */
    int64_t n;        /* INT64_MAX: until the duration is over */
};

enum { SCHEDULE_MAX = 100000000 };

/* rate stands for the option's. E_NOMEM; E_INVALID: more than SCHEDULE_MAX. */
enum status schedule_make(struct schedule *out, const struct serve_options *o,
                          double rate) MUST_CHECK;
void schedule_free(struct schedule *s);

/* Of request i of n. */
double schedule_rate(const struct serve_options *o, double rate, int64_t i, int64_t n);

#endif
