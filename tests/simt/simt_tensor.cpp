/* What a warp does together with matrices: ldmatrix, mma.sync, wgmma. The lane that arrives
 * last computes for all, from the fragment layouts of the PTX manual ("Matrix Fragments for
 * mma.m16n8k32", "... mma.m16n8k16", "ldmatrix", "wgmma ... Register Fragments", "Matrix
 * Descriptor"). tests/simt_test.cpp compares each with a scalar model of those pages.
 *
 * Sums of floats are taken in the order of k: a device takes another, so results of float
 * products agree within rounding only. */
#include "simt.h"

enum { WGMMA_OPEN = 16, WGMMA_GROUPS = 4, WGMMA_N_MAX = 256, WARPS_PER_GROUP = 4 };

namespace
{
struct wgmma {
    int *d[SIMT_LANES]; /* each lane's accumulators */
    int n;
    uint64_t a;
    uint64_t b;
};

struct wgmma_queue {
    simt_list<wgmma, WGMMA_OPEN> open;
    simt_list<simt_list<wgmma, WGMMA_OPEN>, WGMMA_GROUPS> group;
};

wgmma_queue queues[SIMT_THREADS_MAX / SIMT_LANES];

void multiply_s8(simt_warp *w, int parity)
{
    int8_t a[16][32];
    int8_t b[8][32]; /* [n][k] */
    for (int t = 0; t < SIMT_LANES; t++) {
        const uint32_t *in = w->in[parity][t];
        int row = t / 4;
        int at = 4 * (t % 4);
        memcpy(&a[row][at], &in[0], 4);
        memcpy(&a[row + 8][at], &in[1], 4);
        memcpy(&a[row][16 + at], &in[2], 4);
        memcpy(&a[row + 8][16 + at], &in[3], 4);
        memcpy(&b[row][at], &in[4], 4);
        memcpy(&b[row][16 + at], &in[5], 4);
    }
    for (int t = 0; t < SIMT_LANES; t++) {
        for (int i = 0; i < 4; i++) {
            const int8_t *x = a[t / 4 + 8 * (i / 2)];
            const int8_t *y = b[2 * (t % 4) + i % 2];
            uint32_t sum = w->in[parity][t][6 + i]; /* wraps, as the device does */
            for (int k = 0; k < 32; k++)
                sum += (uint32_t)(x[k] * y[k]);
            w->out[parity][t][i] = sum;
        }
    }
}

/* Most processors are told to convert halves one call at a time: a table is faster. */
struct half_table {
    float value[1 << 16];
    half_table()
    {
        for (uint32_t i = 0; i < 1 << 16; i++) {
            uint16_t bits = (uint16_t)i;
            _Float16 h;
            memcpy(&h, &bits, sizeof(h));
            value[i] = (float)h;
        }
    }
};
const half_table halves;

void multiply_f16(simt_warp *w, int parity)
{
    uint16_t a[16][16];
    uint16_t b[8][16];
    for (int t = 0; t < SIMT_LANES; t++) {
        const uint32_t *in = w->in[parity][t];
        int row = t / 4;
        int at = 2 * (t % 4);
        memcpy(&a[row][at], &in[0], 4);
        memcpy(&a[row + 8][at], &in[1], 4);
        memcpy(&a[row][8 + at], &in[2], 4);
        memcpy(&a[row + 8][8 + at], &in[3], 4);
        memcpy(&b[row][at], &in[4], 4);
        memcpy(&b[row][8 + at], &in[5], 4);
    }
    for (int t = 0; t < SIMT_LANES; t++) {
        for (int i = 0; i < 4; i++) {
            const uint16_t *x = a[t / 4 + 8 * (i / 2)];
            const uint16_t *y = b[2 * (t % 4) + i % 2];
            float sum;
            memcpy(&sum, &w->in[parity][t][6 + i], 4);
            for (int k = 0; k < 16; k++)
                sum += halves.value[x[k]] * halves.value[y[k]];
            memcpy(&w->out[parity][t][i], &sum, 4);
        }
    }
}

/* 32 bytes of one row of an operand behind a descriptor: K-major, 128-byte swizzle, groups of 8
 * rows `stride` bytes apart. */
void operand_row(uint64_t descriptor, int row, int8_t out[32], simt_at at)
{
    uint32_t base = (uint32_t)(descriptor & 0x3fff) << 4;
    uint32_t stride = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    for (int byte = 0; byte < 32; byte += 16) {
        uint32_t address = base + (uint32_t)(row / 8) * stride + (uint32_t)(row % 8) * 128;
        address += (uint32_t)byte;
        address ^= address >> 3 & 0x70;
        memcpy(out + byte, simt_shared_at(address, 16, 16, at), 16);
    }
}

/* The part of one warp: 16 of the 64 rows. */
void run_wgmma(const wgmma &g, unsigned warp, simt_at at)
{
    static int8_t a[16][32];
    static int8_t b[WGMMA_N_MAX][32];
    for (int r = 0; r < 16; r++)
        operand_row(g.a, 16 * (int)(warp % WARPS_PER_GROUP) + r, a[r], at);
    for (int r = 0; r < g.n; r++)
        operand_row(g.b, r, b[r], at);
    for (int t = 0; t < SIMT_LANES; t++) {
        for (int i = 0; i < g.n / 2; i++) {
            const int8_t *x = a[t / 4 + 8 * (i / 2 % 2)];
            const int8_t *y = b[8 * (i / 4) + 2 * (t % 4) + i % 2];
            int sum = g.d[t][i];
            for (int k = 0; k < 32; k++)
                sum += x[k] * y[k];
            g.d[t][i] = sum;
        }
    }
}
} // namespace

uint16_t simt_half_of_int8(uint32_t byte)
{
    static const struct table {
        uint16_t bits[256];
        table()
        {
            for (int i = 0; i < 256; i++) {
                _Float16 h = (_Float16)(float)(int8_t)i;
                memcpy(&bits[i], &h, sizeof(h));
            }
        }
    } t;
    return t.bits[byte & 0xff];
}

void simt_wgmma_reset()
{
    for (wgmma_queue &q : queues)
        q.open.n = q.group.n = 0;
}

/* Lane i brings the address of row i % 8 of matrix i / 8. */
void simt_ldmatrix_x4(uint32_t r[4], uint32_t row, bool transposed, simt_at at)
{
    simt_warp *w = simt_warp_here();
    unsigned lane = simt_lane_here();
    int parity = (int)(w->generation & 1);
    unsigned char *p = simt_shared_at(row, 16, 16, at);
    RACE(__tsan_read_range(p, 16));
    memcpy(w->in[parity][lane], p, 16);
    simt_banks_here(SIMT_LDMATRIX, row, 16, SIMT_ROWS, at);
    for (unsigned m = 0; m < 4; m++) {
        if (!transposed) {
            r[m] = w->in[parity][8 * m + lane / 4][lane % 4];
            continue;
        }
        uint16_t half[2]; /* elements [2 * (lane % 4)] and the next of column lane / 4 */
        for (unsigned i = 0; i < 2; i++)
            memcpy(&half[i],
                   (unsigned char *)w->in[parity][8 * m + 2 * (lane % 4) + i] + 2 * (lane / 4), 2);
        memcpy(&r[m], half, 4);
    }
}

static void multiply(void *c, const uint32_t a[4], uint32_t b0, uint32_t b1, simt_at at,
                     void (*last)(simt_warp *, int))
{
    simt_warp *w = simt_warp_here();
    unsigned lane = simt_lane_here();
    int parity = (int)(w->generation & 1);
    uint32_t *in = w->in[parity][lane];
    memcpy(in, a, 16);
    in[4] = b0;
    in[5] = b1;
    memcpy(in + 6, c, 16);
    simt_arrive(SIMT_MMA, at, last);
    memcpy(c, w->out[parity][lane], 16);
}

void simt_mma_s8_m16n8k32(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1, simt_at at)
{
    multiply(c, a, b0, b1, at, multiply_s8);
}

void simt_mma_f16_m16n8k16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1, simt_at at)
{
    multiply(c, a, b0, b1, at, multiply_f16);
}

/* Computed at the wait, from what shared memory holds then: a slot that was given back too early
 * shows. */
void simt_wgmma_s8(int *d, int n, uint64_t a, uint64_t b, simt_at at)
{
    wgmma_queue *q = &queues[simt_current / SIMT_LANES];
    unsigned lane = simt_lane_here();
    if ((a >> 62) != 1 || (b >> 62) != 1)
        simt_fail("a descriptor without the 128-byte swizzle", at);
    if (!q->open.n || q->open.item[q->open.n - 1].d[lane]) {
        wgmma g = {};
        g.n = n;
        g.a = a;
        g.b = b;
        if (!q->open.push(g))
            simt_fail("more wgmma in a group than the emulator keeps", at);
    }
    wgmma *g = &q->open.item[q->open.n - 1];
    if (g->a != a || g->b != b || g->n != n)
        simt_fail("descriptors differ over a warp", at);
    g->d[lane] = d;
    simt_arrive(SIMT_WGMMA, at, nullptr);
}

void simt_wgmma_commit(simt_at at)
{
    simt_arrive(SIMT_WGMMA_COMMIT, at, [](simt_warp *w, int) {
        wgmma_queue *q = &queues[w - simt_warps];
        if (!q->group.push(q->open))
            simt_fail("more wgmma groups than the emulator keeps", simt_at("", 0));
        q->open.n = 0;
    });
}

void simt_wgmma_wait(int groups_left, simt_at at)
{
    simt_warp *w = simt_warp_here();
    int parity = (int)(w->generation & 1);
    w->in[parity][simt_lane_here()][0] = (uint32_t)groups_left;
    simt_arrive(SIMT_WGMMA_WAIT, at, [](simt_warp *warp, int p) {
        unsigned index = (unsigned)(warp - simt_warps);
        wgmma_queue *q = &queues[index];
        uint32_t first = 0;
        while (!(warp->live >> first & 1))
            first++;
        int left = (int)warp->in[p][first][0];
        while (q->group.n > left) {
            for (int i = 0; i < q->group.item[0].n; i++)
                run_wgmma(q->group.item[0].item[i], index, simt_at("wgmma", 0));
            q->group.erase(0);
        }
    });
}
