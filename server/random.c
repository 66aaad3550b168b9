/* The kernel's numbers, which need no state here. */
#include "server/random.h"

#include "kernels/base.h"

#include <sys/random.h>

uint64_t random_u64(void)
{
    uint64_t r = 0;
    /* Fails only before the kernel's pool is ready; the clock is then good enough for what
     * is no secret. */
    if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
        r = now_ns() * 0x9e3779b97f4a7c15u;
    return r;
}
