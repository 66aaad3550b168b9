/* Aim: the emulator against the PTX manual. Each wrapper of kernels/ptx.cuh against a scalar
 * model written from the manual's own formulas (an element's row and column as functions of the
 * lane), with matrices of random numbers; late copies that are late, barriers that hold.
 * Negative space: what a kernel must not do, each in a child process that has to end with the
 * emulator's report: planted bugs in the real kernels are in plants.py. */
#include "kernels/ptx.cuh"

#include "simt.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
}

static uint64_t seed = 1;

static int random_below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)(seed >> 33) % n;
}

static void run(unsigned threads, size_t shared_bytes, const std::function<void()> &kernel)
{
    cudaLaunchConfig_t config = {};
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    assert_int_equal(simt_launch(&config, kernel), cudaSuccess);
}

/* ---- matrix fragments ---------------------------------------------------------------- */

/* PTX ISA, mma.m16n8k32, .s8: groupID = lane >> 2, threadID_in_group = lane % 4.
 * A, element i of 16: row = groupID for 0 <= i < 4 and 8 <= i < 12, else groupID + 8;
 *   col = threadID_in_group * 4 + (i & 3) for i < 8, + 16 for i >= 8.
 * B, element i of 8: row (k) = threadID_in_group * 4 + (i & 3) for i < 4, + 16 for i >= 4;
 *   col (n) = groupID.
 * C, element i of 4: row = groupID for i < 2, groupID + 8 else;
 *   col = threadID_in_group * 2 + (i & 1). */
static void test_mma_s8(void **)
{
    static int8_t a[16][32];
    static int8_t b[32][8];
    static int c[16][8];
    static int got[16][8];
    for (int8_t &v : *(int8_t(*)[16 * 32]) a)
        v = (int8_t)(random_below(256) - 128);
    for (int8_t &v : *(int8_t(*)[32 * 8]) b)
        v = (int8_t)(random_below(256) - 128);
    for (int &v : *(int(*)[16 * 8]) c)
        v = random_below(1 << 30) - (1 << 29);
    run(32, 0, [] {
        int group = (int)simt_lane() >> 2;
        int thread = (int)simt_lane() % 4;
        int8_t fa[16];
        int8_t fb[8];
        int fc[4];
        for (int i = 0; i < 16; i++)
            fa[i] = a[i < 4 || (i >= 8 && i < 12) ? group : group + 8]
                     [thread * 4 + (i & 3) + (i < 8 ? 0 : 16)];
        for (int i = 0; i < 8; i++)
            fb[i] = b[thread * 4 + (i & 3) + (i < 4 ? 0 : 16)][group];
        for (int i = 0; i < 4; i++)
            fc[i] = c[i < 2 ? group : group + 8][thread * 2 + (i & 1)];
        uint32_t wa[4];
        uint32_t wb[2];
        memcpy(wa, fa, sizeof(fa));
        memcpy(wb, fb, sizeof(fb));
        mma_s8(fc, wa, wb[0], wb[1]);
        for (int i = 0; i < 4; i++)
            got[i < 2 ? group : group + 8][thread * 2 + (i & 1)] = fc[i];
    });
    for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 8; n++) {
            int want = c[m][n];
            for (int k = 0; k < 32; k++)
                want += a[m][k] * b[k][n];
            assert_int_equal(got[m][n], want);
        }
    }
}

/* PTX ISA, mma.m16n8k16, .f16:
 * A, element i of 8: row = groupID for 0 <= i < 2 and 4 <= i < 6, else groupID + 8;
 *   col = threadID_in_group * 2 + (i & 1) for i < 4, + 8 for i >= 4.
 * B, element i of 4: row (k) = threadID_in_group * 2 + (i & 1) for i < 2, + 8 for i >= 2;
 *   col (n) = groupID. C as above. */
static void test_mma_f16(void **)
{
    static half_t a[16][16];
    static half_t b[16][8];
    static float got[16][8];
    for (half_t &v : *(half_t(*)[16 * 16]) a)
        v = (half_t)((float)(random_below(64) - 32) / 8);
    for (half_t &v : *(half_t(*)[16 * 8]) b)
        v = (half_t)((float)(random_below(64) - 32) / 8);
    run(32, 0, [] {
        int group = (int)simt_lane() >> 2;
        int thread = (int)simt_lane() % 4;
        half_t fa[8];
        half_t fb[4];
        float fc[4] = {1, 1, 1, 1};
        for (int i = 0; i < 8; i++)
            fa[i] = a[i < 2 || (i >= 4 && i < 6) ? group : group + 8]
                     [thread * 2 + (i & 1) + (i < 4 ? 0 : 8)];
        for (int i = 0; i < 4; i++)
            fb[i] = b[thread * 2 + (i & 1) + (i < 2 ? 0 : 8)][group];
        uint32_t wa[4];
        uint32_t wb[2];
        memcpy(wa, fa, sizeof(fa));
        memcpy(wb, fb, sizeof(fb));
        mma_f16(fc, wa, wb[0], wb[1]);
        for (int i = 0; i < 4; i++)
            got[i < 2 ? group : group + 8][thread * 2 + (i & 1)] = fc[i];
    });
    for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 8; n++) {
            float want = 1; /* multiples of 1/64 of a few bits: any order gives this */
            for (int k = 0; k < 16; k++)
                want += (float)a[m][k] * (float)b[k][n];
            assert_true(got[m][n] == want);
        }
    }
}

/* PTX ISA, ldmatrix .m8n8 .x4: lanes 8m .. 8m + 7 name the rows of matrix m; thread t gets of
 * each the row t / 4, elements 2 (t % 4) and the next; .trans: of the transpose. */
static void test_ldmatrix(void **)
{
    static uint16_t got[2][4][8][8];
    run(32, 1024, [] {
        uint16_t *sm = (uint16_t *)simt_shared(1024);
        int lane = (int)simt_lane();
        for (int i = lane; i < 512; i += 32)
            sm[i] = (uint16_t)i;
        __syncwarp();
        /* Matrix m, row r lies at 64 * m + 8 * (7 - r): rows may lie anywhere. */
        shared_address row = address_of(sm + 64 * (lane / 8) + 8 * (7 - lane % 8));
        uint32_t plain[4];
        uint32_t transposed[4];
        ldmatrix_x4(plain, row);
        ldmatrix_x4_transposed(transposed, row);
        for (int m = 0; m < 4; m++) {
            memcpy(&got[0][m][lane / 4][2 * (lane % 4)], &plain[m], 4);
            memcpy(&got[1][m][lane / 4][2 * (lane % 4)], &transposed[m], 4);
        }
    });
    for (int m = 0; m < 4; m++) {
        for (int r = 0; r < 8; r++) {
            for (int c = 0; c < 8; c++) {
                assert_int_equal(got[0][m][r][c], 64 * m + 8 * (7 - r) + c);
                assert_int_equal(got[1][m][r][c], 64 * m + 8 * (7 - c) + r);
            }
        }
    }
}

/* ---- copies and barriers ------------------------------------------------------------- */

static void test_cp_async(void **)
{
    alignas(16) static unsigned char from[64];
    static unsigned char before, after, zero;
    for (int i = 0; i < 64; i++)
        from[i] = (unsigned char)(i + 1);
    run(32, 256, [] {
        unsigned char *sm = (unsigned char *)simt_shared(256);
        if (simt_lane() == 0) {
            cp_async16(address_of(sm), from, true);
            cp_async16(address_of(sm + 16), from, false);
            cp_async_commit();
            cp_async16(address_of(sm + 32), from + 16, true);
            cp_async4(address_of(sm + 48), from + 4, true);
            cp_async4(address_of(sm + 52), from + 8, false);
            cp_async_commit();
            before = sm[0];
            cp_async_wait<1>();
            after = sm[3];
            zero = sm[16];
            assert_int_not_equal(sm[32], 17); /* the later group is still under way */
            cp_async_wait<0>();
            assert_int_equal(sm[32], 17);
            assert_true(sm[48] == 5 && sm[51] == 8);
            assert_true(sm[52] == 0 && sm[55] == 0);
        }
        __syncwarp();
    });
    assert_int_equal(before, 0x5a);
    assert_int_equal(after, 4);
    assert_int_equal(zero, 0);
}

/* A box of 128 x 16 over the corner of a matrix: swizzled, zero outside, told by the barrier. */
static void test_bulk_copy(void **)
{
    alignas(16) static int8_t matrix[10][160];
    static bool right[16];
    for (int8_t &v : *(int8_t(*)[10 * 160]) matrix)
        v = (int8_t)(random_below(255) + 1);
    tensor_map map;
    assert_int_equal(tensor_map_of(&map, &matrix[0][0], 160, 10, 128, 16), 0);
    run(64, 1024 * 2 + 64, [=] {
        unsigned char *sm = (unsigned char *)simt_shared(2048);
        shared_address bar = address_of(sm + 2048);
        if (threadIdx.x == 0)
            mbarrier_init(bar, 1);
        __syncthreads();
        if (threadIdx.x == 0) {
            mbarrier_expect(bar, 2048);
            tma_load(address_of(sm), &map, bar, 64, 3);
        }
        mbarrier_wait(bar, 0);
        for (int r = (int)threadIdx.x; r < 16; r += 64) {
            right[r] = true;
            for (int c = 0; c < 128; c++) {
                /* 128-byte swizzle: 16-byte piece p of row r lies at piece p xor r mod 8. */
                int8_t v = (int8_t)sm[128 * r + 16 * ((c / 16) ^ (r % 8)) + c % 16];
                int8_t want = r + 3 < 10 && c + 64 < 160 ? matrix[r + 3][c + 64] : 0;
                right[r] = right[r] && v == want;
            }
        }
    });
    for (bool r : right)
        assert_true(r);
}

/* PTX ISA, wgmma D fragment of m64nN: element i of N / 2: row = 16 * (warp % 4) + lane / 4 +
 * 8 * (i / 2 % 2), col = 8 * (i / 4) + 2 * (lane % 4) + i % 2. Operands through the copy engine,
 * since that is who writes the swizzle. */
template <int N> static void wgmma_case()
{
    enum { A_BYTES = 64 * 128, B_BYTES = N * 128 };
    alignas(16) static int8_t a[64][128];
    alignas(16) static int8_t b[N][128];
    static int got[64][N];
    for (int8_t &v : *(int8_t(*)[A_BYTES])a)
        v = (int8_t)(random_below(256) - 128);
    for (int8_t &v : *(int8_t(*)[B_BYTES])b)
        v = (int8_t)(random_below(256) - 128);
    tensor_map ma;
    tensor_map mb;
    assert_int_equal(tensor_map_of(&ma, &a[0][0], 128, 64, 128, 64), 0);
    assert_int_equal(tensor_map_of(&mb, &b[0][0], 128, N, 128, N), 0);
    run(128, A_BYTES + B_BYTES + 16, [=] {
        unsigned char *sm = (unsigned char *)simt_shared(A_BYTES + B_BYTES + 16);
        shared_address sa = address_of(sm);
        shared_address sb = sa + A_BYTES;
        shared_address bar = sb + B_BYTES;
        int d[N / 2] = {};
        if (threadIdx.x == 0) {
            mbarrier_init(bar, 1);
            mbarrier_init_done();
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            mbarrier_expect(bar, A_BYTES + B_BYTES);
            tma_load(sa, &ma, bar, 0, 0);
            tma_load(sb, &mb, bar, 0, 0);
        }
        mbarrier_wait(bar, 0);
        wgmma_fence();
        for (shared_address k = 0; k < 128; k += 32)
            wgmma_s8<N>(d, wgmma_descriptor(sa + k), wgmma_descriptor(sb + k));
        wgmma_commit();
        assert_int_equal(d[0], 0); /* nothing is there before the wait */
        wgmma_wait<0>();
        int lane = (int)threadIdx.x % 32;
        int warp = (int)threadIdx.x / 32;
        for (int i = 0; i < N / 2; i++)
            got[16 * warp + lane / 4 + 8 * (i / 2 % 2)][8 * (i / 4) + 2 * (lane % 4) + i % 2] =
                d[i];
    });
    for (int m = 0; m < 64; m++) {
        for (int n = 0; n < N; n++) {
            int want = 0;
            for (int k = 0; k < 128; k++)
                want += a[m][k] * b[n][k];
            assert_int_equal(got[m][n], want);
        }
    }
}

static void test_wgmma(void **)
{
    wgmma_case<16>();
    wgmma_case<32>();
    wgmma_case<64>();
    wgmma_case<128>();
    wgmma_case<192>();
    wgmma_case<256>();
}

static void test_half_of_int8(void **)
{
    for (int v = -128; v < 128; v++) {
        uint32_t low;
        uint32_t high;
        half_t h[4];
        half_of_int8((uint32_t)(uint8_t)v | (uint32_t)(uint8_t)(v + 1) << 8 |
                         (uint32_t)(uint8_t)(v + 2) << 16 | (uint32_t)(uint8_t)(v + 3) << 24,
                     &low, &high);
        memcpy(h, &low, 4);
        memcpy(h + 2, &high, 4);
        for (int i = 0; i < 4; i++)
            assert_true((float)h[i] == (float)(int8_t)(v + i));
    }
}

/* Lanes `apart` bytes from each other: a phase of 128 bytes takes as many cycles as the busiest
 * of 32 banks has words to send. */
struct bank_case {
    unsigned bytes;
    unsigned apart;
    uint64_t phases; /* of a warp */
    uint64_t cycles; /* of a phase */
};

static const struct bank_case bank_cases[] = {
    {16, 16, 4, 1}, {16, 128, 4, 8}, {16, 144, 4, 1}, {16, 64, 4, 4},
    {16, 80, 4, 1}, {16, 0, 4, 1},   {8, 8, 2, 1},    {8, 128, 2, 16},
    {8, 16, 2, 2},  {8, 24, 2, 1},   {4, 4, 1, 1},    {4, 128, 1, 32},
    {4, 132, 1, 1}, {4, 8, 1, 2},    {4, 0, 1, 1},    {4, 12, 1, 1},
};

template <typename T> static void touch(const struct bank_case &c, bool put)
{
    run(32, 8192, [=] {
        T *at = (T *)((unsigned char *)simt_shared(8192) + c.apart * simt_lane());
        if (put)
            shared_put(at, T{});
        else
            (void)shared_get(at);
    });
}

static void test_banks(void **)
{
    for (const struct bank_case &c : bank_cases) {
        /* One place is for all lanes to read, and for one of them to write. */
        for (int put = 0; put < (c.apart > 0 ? 2 : 1); put++) {
            simt_bank_count = {0, 0};
            if (c.bytes == 16)
                touch<uint4>(c, put);
            else if (c.bytes == 8)
                touch<uint2>(c, put);
            else
                touch<unsigned>(c, put);
            assert_int_equal(simt_bank_count.phases, c.phases);
            assert_int_equal(simt_bank_count.cycles, c.phases * c.cycles);
        }
        simt_bank_count = {0, 0};
        run(32, 8192, [=] {
            uint32_t r[4];
            if (c.bytes == 16)
                ldmatrix_x4(r, address_of(simt_shared(8192)) + c.apart * simt_lane());
        });
        assert_int_equal(simt_bank_count.cycles, c.bytes == 16 ? c.phases * c.cycles : 0);
    }
}

/* What was put is there for others behind a barrier. */
static void test_shared(void **)
{
    static unsigned got[32];
    run(32, 256, [] {
        uint2 *sm = (uint2 *)simt_shared(256);
        shared_put(&sm[simt_lane()], uint2{simt_lane(), 100 + simt_lane()});
        __syncwarp();
        got[simt_lane()] = shared_get(&sm[31 - simt_lane()]).y;
    });
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(got[i], 131 - i);
}

/* ---- what must not pass -------------------------------------------------------------- */

#define ONE_LANE if (simt_lane() == 0)

static void exits_past_barrier()
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
}

static void barrier_in_a_branch()
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        mbarrier_wait(address_of((char *)simt_shared(64) + 8), 0);
}

static void diverging_collectives()
{
    if (simt_lane() % 2)
        (void)__shfl_xor_sync(0xffffffffu, 1, 1);
    else
        (void)__shfl_xor_sync(0xffffffffu, 2, 1);
}

static void leaves_with_copies()
{
    alignas(16) static char from[16];
    cp_async16(address_of(simt_shared(4096)) + 16 * threadIdx.x, from, true);
}

static void copies_from_odd_addresses()
{
    alignas(16) static char from[32];
    cp_async16(address_of(simt_shared(64)), from + 4, true);
}

static void copies_from_odd_words()
{
    alignas(16) static char from[32];
    cp_async4(address_of(simt_shared(64)), from + 2, true);
}

static void writes_beyond_shared()
{
    uint32_t r[4];
    ldmatrix_x4(r, address_of(simt_shared(64)) + 4096);
}

static void uses_a_barrier_unborn()
{
    mbarrier_arrive(address_of(simt_shared(64)));
}

static void arrives_too_often()
{
    shared_address bar = address_of(simt_shared(64));
    ONE_LANE
    {
        mbarrier_init(bar, 1);
        mbarrier_expect(bar, 16);
        mbarrier_arrive(bar);
    }
}

static void waits_for_a_phase_that_never_ends()
{
    shared_address bar = address_of(simt_shared(64));
    if (threadIdx.x == 0)
        mbarrier_init(bar, 2);
    __syncthreads();
    if (threadIdx.x == 0)
        mbarrier_arrive(bar);
    mbarrier_wait(bar, 0);
}

static void descriptor_without_swizzle()
{
    int d[64] = {};
    wgmma_s8<128>(d, 64, 64);
}

static void partial_mask()
{
    (void)__shfl_xor_sync(0x0000ffffu, 1, 1);
}

struct misuse {
    const char *report;
    void (*kernel)();
};

static const struct misuse misuses[] = {
    {"some lanes of a warp left", exits_past_barrier},
    {"mbarrier that was not initialized", barrier_in_a_branch},
    {"different collectives", diverging_collectives},
    {"leaves with cp.async under way", leaves_with_copies},
    {"not 16-byte aligned", copies_from_odd_addresses},
    {"not 4-byte aligned", copies_from_odd_words},
    {"shared address out of range", writes_beyond_shared},
    {"mbarrier that was not initialized", uses_a_barrier_unborn},
    {"more arrivals", arrives_too_often},
    {"deadlock", waits_for_a_phase_that_never_ends},
    {"without the 128-byte swizzle", descriptor_without_swizzle},
    {"mask that leaves lanes out", partial_mask},
};

static void test_misuse(void **)
{
    for (const struct misuse &m : misuses) {
        int pipe_fd[2];
        char text[4096] = "";
        size_t used = 0;
        assert_int_equal(pipe(pipe_fd), 0);
        pid_t child = fork();
        if (child == 0) {
            dup2(pipe_fd[1], STDERR_FILENO);
            signal(SIGABRT, SIG_DFL);
            run(64, 4096, m.kernel);
            _exit(0);
        }
        close(pipe_fd[1]);
        for (ssize_t n = 1; n > 0 && used<sizeof(text) - 1; used += n> 0 ? (size_t)n : 0)
            n = read(pipe_fd[0], text + used, sizeof(text) - 1 - used);
        close(pipe_fd[0]);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (status == 0 || !strstr(text, m.report))
            fail_msg("expected \"%s\", status %d, got: %s", m.report, status, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mma_s8),    cmocka_unit_test(test_mma_f16),
        cmocka_unit_test(test_ldmatrix),  cmocka_unit_test(test_cp_async),
        cmocka_unit_test(test_bulk_copy), cmocka_unit_test(test_wgmma),
        cmocka_unit_test(test_banks),     cmocka_unit_test(test_half_of_int8),
        cmocka_unit_test(test_shared),    cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
