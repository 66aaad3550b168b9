#ifndef KERNELS_CPU_VNNI_H
#define KERNELS_CPU_VNNI_H

#include <stdbool.h>

/* vpdpbusd of AVX-VNNI, for processors that have it without AVX-512. tests/vnni_twin.h has the
 * same instruction as AVX-512 encodes it, so that cpu_avxvnni.c is tested where only that is. */

#if defined(__x86_64__)

#include <cpuid.h>

#define VPDPBUSD "%{vex%} vpdpbusd"

static inline bool vnni_granted(void)
{
    enum { AVX_VNNI = 1 << 4 };
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI) != 0;
}

#endif

#endif
