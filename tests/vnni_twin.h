#ifndef KERNELS_CPU_VNNI_H
#define KERNELS_CPU_VNNI_H

/* In the place of kernels/cpu_vnni.h, whose guard it takes: the same instruction on the same
 * registers, in the encoding of AVX-512. */

#include <stdbool.h>

#define VPDPBUSD "%{evex%} vpdpbusd"

static inline bool vnni_granted(void)
{
    return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

#endif
