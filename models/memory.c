#include "models/memory.h"

#include <stdlib.h>

/* The list of what was taken grows ahead of each allocation, so nothing that the
 * backend gave is ever without an entry in it. */

enum { GRAIN_BYTES = 512 };

static bool grow(struct memory *m)
{
    if (m->n < m->room)
        return true;
    size_t room = m->room ? 2 * m->room : 64;
    void **taken = realloc(m->taken, room * sizeof(*taken));
    if (!taken)
        return false;
    m->taken = taken;
    m->room = room;
    return true;
}

void *memory_take(struct memory *m, size_t a, size_t b, size_t element)
{
    size_t bytes;
    size_t rounded;
    void *p = NULL;
    if (m->status)
        return NULL;
    if (!size_mul(a, b, &bytes) || !size_mul(bytes, element, &bytes) ||
        !size_add(bytes, GRAIN_BYTES - 1, &rounded) ||
        !size_add(m->bytes, rounded / GRAIN_BYTES * GRAIN_BYTES, &m->bytes)) {
        m->status = E_NOMEM;
        return NULL;
    }
    if (!m->ops)
        return NULL;
    if (!grow(m)) {
        m->status = E_NOMEM;
        return NULL;
    }
    m->status = m->ops->alloc(m->ops, bytes, &p);
    if (m->status)
        return NULL;
    m->taken[m->n++] = p;
    return p;
}

void *memory_take_rows(struct memory *m, size_t rows, size_t row, size_t element)
{
    void *p = memory_take(m, rows, row, element);
    if (p)
        m->ops->place_rows(m->ops, p, rows * row * element);
    return p;
}

void memory_release(struct memory *m)
{
    while (m->n > 0)
        m->ops->release(m->ops, m->taken[--m->n]);
    free(m->taken);
    *m = (struct memory){.ops = m->ops};
}
