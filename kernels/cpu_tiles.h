#ifndef KERNELS_CPU_TILES_H
#define KERNELS_CPU_TILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The tile registers of AMX: eight of sixteen rows of 64 bytes. tests/amx_model.h has the same
 * operations as a model in C, so that cpu_amx.c is tested where there are no such registers.
 *
 * Registers are part of an instruction: their numbers are constants. */

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILES = 8 };

/* What ldtilecfg reads. */
struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel keeps the tiles of a process that has asked for them. */
static inline bool tiles_granted(void)
{
    enum { AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25, ASK_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    if (!(d & AMX_TILE) || !(d & AMX_INT8))
        return false;
    return syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) == 0;
}

/* Operands in the assembler's words: gcc 12 believes that _tile_loadconfig reads eight bytes. */
static inline void tiles_configure(const struct tile_config *config)
{
    __asm__ volatile("ldtilecfg %0" : : "m"(*config));
}

static inline void tiles_release(void)
{
    __asm__ volatile("tilerelease");
}

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)

#define TILE_LOAD(t, from, stride)                                                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t                                               \
                     :                                                                             \
                     : "r"(from), "r"((size_t)(stride))                                            \
                     : "memory")

#define TILE_STORE(t, to, stride)                                                                  \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)"                                           \
                     :                                                                             \
                     : "r"(to), "r"((size_t)(stride))                                              \
                     : "memory")

/* sum += rows of a times columns of b, int8 by int8 in fours. */
#define TILE_DOT(sum, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sum : :)

#else

static inline bool tiles_granted(void)
{
    return false;
}

#endif

#endif
