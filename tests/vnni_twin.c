/* kernels/cpu_avxvnni.c with its one instruction encoded for AVX-512: linked in front of the real
 * one, it makes its table one of a machine that has AVX-512 with VNNI, and every test of the
 * tables runs it. */

#include "tests/vnni_twin.h"

#include "kernels/cpu_avxvnni.c"
