/* Large pieces are cut one behind the other from regions of mapped memory, so that all but the
 * ends of a region lie in whole huge pages. Mapped each by itself, pieces begin and end inside
 * of one: a fifth of the weights of a 1.1 B model then lay in small pages, which cost a fault
 * each at load and a TLB miss each in every step.
 *
 * A region lives as long as a piece of it. What is given back before loses its pages, and its
 * place too when nothing was cut behind it. */

#include "kernels/cpu_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGN = 64,
    PAGE = 4096,           /* pieces are multiples of it */
    PIECE_LEAST = 1 << 20, /* less is malloc's */
    HUGE_PAGE = 2 << 20,
    REGION_BYTES = 256 << 20,
};

struct region {
    struct region *next;
    char *base; /* what was mapped, from the first huge page on */
    size_t bytes;
    size_t used;
    size_t n_live;
    char *mapped;
    size_t mapped_bytes;
};

/* In front of what is handed out. */
struct header {
    _Alignas(ALIGN) size_t bytes; /* with the header */
    struct region *region;        /* NULL: malloc's */
};

static bool round_up(size_t bytes, size_t grain, size_t *out)
{
    if (!size_add(bytes, grain - 1, out))
        return false;
    *out &= ~(grain - 1);
    return true;
}

static struct region *region_map(const struct nodes *nodes, size_t bytes)
{
    size_t all;
    if (!size_add(bytes, HUGE_PAGE, &all))
        return NULL;
    struct region *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    char *at = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        free(r);
        return NULL;
    }
    size_t skip = (size_t)(-(uintptr_t)at & (HUGE_PAGE - 1));
    *r = (struct region){.base = at + skip, .bytes = bytes, .mapped = at, .mapped_bytes = all};
    /* Fewer TLB misses while weights stream by; a refusal changes nothing else. */
    (void)madvise(r->base, bytes, MADV_HUGEPAGE);
    nodes_mix(nodes, r->base, bytes);
    return r;
}

/* A region with room for so much in front of the list. */
static struct region *region_for(struct cpu_memory *m, size_t bytes)
{
    struct region *r = m->regions;
    if (r && r->bytes - r->used >= bytes)
        return r;
    r = region_map(m->nodes, bytes > REGION_BYTES ? bytes : REGION_BYTES);
    if (!r && bytes < REGION_BYTES)
        r = region_map(m->nodes, bytes);
    if (!r)
        return NULL;
    r->next = m->regions;
    m->regions = r;
    return r;
}

static struct header *take_small(size_t bytes)
{
    struct header *h = aligned_alloc(ALIGN, bytes);
    if (!h)
        return NULL;
    memset(h, 0, bytes);
    return h;
}

static struct header *take_large(struct cpu_memory *m, size_t bytes)
{
    struct region *r = region_for(m, bytes);
    if (!r)
        return NULL;
    struct header *h = (struct header *)(void *)(r->base + r->used);
    r->used += bytes;
    r->n_live++;
    h->region = r;
    return h;
}

enum status cpu_memory_take(struct cpu_memory *m, size_t bytes, void **out)
{
    size_t all;
    if (!size_add(bytes, sizeof(struct header), &all))
        return E_NOMEM;
    bool large = all >= PIECE_LEAST;
    if (!round_up(all, large ? PAGE : ALIGN, &all))
        return E_NOMEM;
    struct header *h = large ? take_large(m, all) : take_small(all);
    if (!h)
        return E_NOMEM;
    h->bytes = all;
    *out = h + 1;
    return OK;
}

static void region_unmap(struct cpu_memory *m, struct region *r)
{
    struct region **at = &m->regions;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    (void)munmap(r->mapped, r->mapped_bytes);
    free(r);
}

void cpu_memory_give(struct cpu_memory *m, void *p)
{
    if (!p)
        return;
    struct header *h = (struct header *)p - 1;
    struct region *r = h->region;
    if (!r) {
        free(h);
        return;
    }
    if (--r->n_live == 0) {
        region_unmap(m, r);
        return;
    }
    size_t bytes = h->bytes;
    if ((char *)h + bytes == r->base + r->used)
        r->used -= bytes;
    /* Locked pages stay, so they are made zeros by hand. */
    if (madvise(h, bytes, MADV_DONTNEED))
        memset(h, 0, bytes);
}
