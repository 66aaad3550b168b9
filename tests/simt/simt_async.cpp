/* Copies that arrive later, and the barriers that tell of it.
 *
 * The destination of a copy is poisoned when it is issued and filled as late as the program
 * allows: cp.async at the wait of the thread that issued it, a bulk copy when no thread can go
 * on, in any order under SIMT_SEED. Who reads too early reads poison. */
#include "simt.h"

enum {
    COPIES_MAX = 128, /* cp.async under way per thread */
    GROUPS_MAX = 16,
    MBARRIERS_MAX = 64,
    BULK_MAX = 256,
    POISON = 0x5a,
};

namespace
{
struct small_copy {
    uint32_t to;
    unsigned bytes;
    unsigned char data[16];
};

struct thread_copies {
    simt_list<small_copy, COPIES_MAX> copy; /* oldest first */
    simt_list<int, GROUPS_MAX> group;       /* copies of each committed group */
    int open;                               /* copies not committed yet */
    simt_at at;
};

struct mbarrier {
    uint32_t address;
    int arrivals; /* of a phase */
    int pending;
    long bytes; /* expected and not yet here */
    unsigned phase;
    char order;
};

struct bulk_copy {
    uint32_t to;
    uint32_t bar;
    simt_tensor_map map;
    int x;
    int y;
};

struct mbarrier_wait {
    uint32_t bar;
    unsigned parity;
};

thread_copies copies[SIMT_THREADS_MAX];
simt_list<mbarrier, MBARRIERS_MAX> mbarriers;
simt_list<bulk_copy, BULK_MAX> bulk;
mbarrier_wait waits[SIMT_THREADS_MAX];

mbarrier *find(uint32_t address, simt_at at)
{
    (void)simt_shared_at(address, 8, 8, at);
    for (int i = 0; i < mbarriers.n; i++)
        if (mbarriers.item[i].address == address)
            return &mbarriers.item[i];
    simt_fail("an mbarrier that was not initialized", at);
}

void turn(mbarrier *b)
{
    if (b->pending == 0 && b->bytes == 0) {
        b->phase ^= 1;
        b->pending = b->arrivals;
    }
}

/* Rows of 128 bytes; 16-byte pieces lie permuted by the row, as the copy engine's 128-byte
 * swizzle has it: address bits 4-6 xor bits 7-9. What lies outside the matrix is zero. */
void deliver(const bulk_copy &c)
{
    for (uint32_t row = 0; row < c.map.box_rows; row++) {
        for (uint32_t byte = 0; byte < c.map.box_k; byte++) {
            uint32_t at = c.to + row * c.map.box_k + byte;
            at ^= at >> 3 & 0x70;
            long y = c.y + (long)row;
            long x = c.x + (long)byte;
            bool inside = y >= 0 && (uint64_t)y < c.map.rows && x >= 0 && (uint64_t)x < c.map.k;
            *simt_shared_at(at, 1, 1, simt_at("bulk copy", 0)) =
                inside ? (unsigned char)c.map.base[(uint64_t)y * c.map.k + (uint64_t)x] : 0;
        }
    }
}

/* For the race detector: what a copy of the box at x, y reads. */
void read_box(const simt_tensor_map &map, int x, int y)
{
    uint64_t left = (uint64_t)x < map.k ? map.k - (uint64_t)x : 0;
    uint64_t bytes = left < map.box_k ? left : map.box_k;
    for (uint64_t i = 0; bytes > 0 && i < map.box_rows && (uint64_t)y + i < map.rows; i++)
        RACE(__tsan_read_range(
            const_cast<int8_t *>(map.base + ((uint64_t)y + i) * map.k + (uint64_t)x), bytes));
}
} // namespace

void simt_async_reset()
{
    mbarriers.n = bulk.n = 0;
    for (thread_copies &t : copies) {
        t.copy.n = t.group.n = 0;
        t.open = 0;
    }
}

void simt_async_leave(unsigned thread)
{
    if (copies[thread].copy.n)
        simt_fail("a thread leaves with cp.async under way", copies[thread].at);
}

void simt_cp_async(uint32_t to, const void *from, unsigned bytes, bool real, simt_at at)
{
    thread_copies *t = &copies[simt_current];
    unsigned char *p = simt_shared_at(to, bytes, bytes, at);
    small_copy c = {to, bytes, {}};
    t->at = at;
    if ((uintptr_t)from % bytes)
        simt_fail(bytes == 16 ? "cp.async from an address that is not 16-byte aligned"
                              : "cp.async from an address that is not 4-byte aligned",
                  at);
    if (real) {
        RACE(__tsan_read_range(const_cast<void *>(from), bytes));
        memcpy(c.data, from, bytes);
    }
    RACE(__tsan_write_range(p, bytes));
    memset(p, POISON, bytes);
    if (!t->copy.push(c))
        simt_fail("more cp.async under way than the emulator keeps", at);
    t->open++;
}

void simt_cp_async_commit()
{
    thread_copies *t = &copies[simt_current];
    if (!t->group.push(t->open))
        simt_fail("more cp.async groups than the emulator keeps", t->at);
    t->open = 0;
}

void simt_cp_async_wait(int groups_left)
{
    thread_copies *t = &copies[simt_current];
    while (t->group.n > groups_left) {
        for (int i = 0; i < t->group.item[0]; i++) {
            const small_copy &c = t->copy.item[0];
            unsigned char *p = simt_shared_at(c.to, c.bytes, c.bytes, t->at);
            RACE(__tsan_write_range(p, c.bytes));
            memcpy(p, c.data, c.bytes);
            t->copy.erase(0);
        }
        t->group.erase(0);
    }
}

void simt_mbarrier_init(uint32_t bar, unsigned arrivals, simt_at at)
{
    (void)simt_shared_at(bar, 8, 8, at);
    mbarrier b = {bar, (int)arrivals, (int)arrivals, 0, 0, 0};
    if (!mbarriers.push(b))
        simt_fail("more mbarriers than the emulator keeps", at);
}

void simt_mbarrier_arrive(uint32_t bar, unsigned expect_bytes, simt_at at)
{
    mbarrier *b = find(bar, at);
    RACE(__tsan_release(&b->order));
    b->bytes += expect_bytes;
    if (--b->pending < 0)
        simt_fail("more arrivals than the mbarrier expects", at);
    turn(b);
}

bool simt_mbarrier_ready(unsigned thread)
{
    return find(waits[thread].bar, simt_at("mbarrier", 0))->phase != waits[thread].parity;
}

void simt_mbarrier_wait(uint32_t bar, unsigned parity, simt_at at)
{
    mbarrier *b = find(bar, at);
    simt_note(SIMT_SYNC_BLOCK, at);
    waits[simt_current] = {bar, parity};
    while (!simt_mbarrier_ready(simt_current))
        simt_wait(SIMT_IN_MBARRIER);
    RACE(__tsan_acquire(&b->order));
}

void simt_tma_load(uint32_t to, const simt_tensor_map *map, uint32_t bar, int x, int y, simt_at at)
{
    unsigned bytes = map->box_k * map->box_rows;
    unsigned char *p = simt_shared_at(to, bytes, 1024, at);
    mbarrier *b = find(bar, at);
    if (map->box_k != 128)
        simt_fail("the 128-byte swizzle needs rows of 128 bytes", at);
    if ((uintptr_t)map->base % 16 || map->k % 16)
        simt_fail("a tensor map needs 16-byte aligned rows", at);
    read_box(*map, x, y);
    RACE(__tsan_write_range(p, bytes));
    memset(p, POISON, bytes);
    RACE(__tsan_release(&b->order)); /* who waits for the bytes sees them */
    (void)b;
    bulk_copy c = {to, bar, *map, x, y};
    if (!bulk.push(c))
        simt_fail("more bulk copies than the emulator keeps", at);
}

bool simt_async_step(uint32_t random)
{
    if (!bulk.n)
        return false;
    int i = simt_shuffled ? (int)(random % (uint32_t)bulk.n) : 0;
    bulk_copy c = bulk.item[i];
    bulk.erase(i);
    deliver(c);
    mbarrier *b = find(c.bar, simt_at("bulk copy", 0));
    b->bytes -= (long)c.map.box_k * c.map.box_rows;
    turn(b);
    return true;
}
