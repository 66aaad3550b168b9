/* Bank conflicts of shared memory, counted as the hardware has them: 32 banks of 4 bytes, lanes
 * in phases of 128 bytes, a cycle for each word that the busiest bank of a phase is asked for.
 * The same word is sent once to all who want it.
 *
 * Kept per line of the kernels. With SIMT_BANKS=LIMIT the end of the process prints the table and
 * fails when a line takes more cycles per phase than that. */
#include "simt.h"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

enum { PLACES_MAX = 256, BANKS = 32, PHASE_BYTES = 128, WORD = 4 };

simt_banks simt_bank_count;

namespace
{
struct place {
    simt_at at;
    unsigned bytes;
    simt_access access;
    simt_banks count;
};

simt_list<place, PLACES_MAX> places;
const char *const limit = getenv("SIMT_BANKS");

void report()
{
    static const char *const names[] = {"ldmatrix", "read", "write"};
    double most = strtod(limit, nullptr);
    bool bad = false;
    for (int i = 0; i < places.n; i++) {
        const place &p = places.item[i];
        double cycles = (double)p.count.cycles / (double)p.count.phases;
        const char *name = strrchr(p.at.file, '/');
        printf("banks: %s:%d %s of %u bytes: %.2f cycles per phase of %llu\n",
               name ? name + 1 : p.at.file, p.at.line, names[p.access], p.bytes, cycles,
               (unsigned long long)p.count.phases);
        bad |= cycles > most;
    }
    (void)fflush(stdout);
    if (bad) {
        fprintf(stderr, "simt: bank conflicts: more than %s cycles per phase\n", limit);
        _exit(1);
    }
}

struct at_the_end {
    at_the_end()
    {
        if (limit)
            (void)atexit(report);
    }
};
const at_the_end reported;

place *find(unsigned bytes, simt_access access, simt_at at)
{
    for (int i = 0; i < places.n; i++) {
        place *p = &places.item[i];
        if (p->at.line == at.line && p->bytes == bytes && p->access == access &&
            strcmp(p->at.file, at.file) == 0)
            return p;
    }
    if (!places.push({at, bytes, access, {0, 0}}))
        simt_fail("more places that use shared memory than the emulator keeps", at);
    return &places.item[places.n - 1];
}

unsigned cycles_of(const uint32_t *address, unsigned lanes, unsigned words)
{
    uint32_t seen[BANKS][BANKS];
    unsigned n[BANKS] = {};
    unsigned most = 1;
    for (unsigned i = 0; i < lanes * words; i++) {
        uint32_t word = address[i / words] / WORD + i % words;
        unsigned bank = word % BANKS;
        bool again = false;
        for (unsigned j = 0; j < n[bank]; j++)
            again |= seen[bank][j] == word;
        if (!again)
            seen[bank][n[bank]++] = word;
        most = n[bank] > most ? n[bank] : most;
    }
    return most;
}
} // namespace

void simt_banks_here(simt_op op, uint32_t address, unsigned bytes, simt_access access, simt_at at)
{
    static struct access_here {
        unsigned bytes;
        simt_access access;
        simt_at at;
    } here;
    simt_warp *w = simt_warp_here();
    w->in[w->generation & 1][simt_lane_here()][4] = address;
    here = {bytes, access, at};
    simt_arrive(op, at, [](simt_warp *warp, int parity) {
        unsigned lanes = PHASE_BYTES / here.bytes;
        place *p = find(here.bytes, here.access, here.at);
        for (unsigned first = 0; first < SIMT_LANES; first += lanes) {
            uint32_t asked[SIMT_LANES];
            unsigned n = 0;
            for (unsigned i = first; i < first + lanes; i++)
                if (warp->live >> i & 1)
                    asked[n++] = warp->in[parity][i][4];
            unsigned cycles = cycles_of(asked, n, here.bytes / WORD);
            p->count.phases++;
            p->count.cycles += cycles;
            simt_bank_count.phases++;
            simt_bank_count.cycles += cycles;
        }
    });
}

void simt_shared_get(void *to, const void *shared, unsigned bytes, simt_at at)
{
    uint32_t address = simt_address(shared);
    unsigned char *p = simt_shared_at(address, bytes, bytes, at);
    RACE(__tsan_read_range(p, bytes));
    memcpy(to, p, bytes);
    simt_banks_here(SIMT_SHARED, address, bytes, SIMT_GET, at);
}

void simt_shared_put(void *shared, const void *from, unsigned bytes, simt_at at)
{
    uint32_t address = simt_address(shared);
    unsigned char *p = simt_shared_at(address, bytes, bytes, at);
    RACE(__tsan_write_range(p, bytes));
    memcpy(p, from, bytes);
    simt_banks_here(SIMT_SHARED, address, bytes, SIMT_PUT, at);
}
