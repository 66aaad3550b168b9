#ifndef KERNELS_LIST_H
#define KERNELS_LIST_H

#include <stdbool.h>

/* A ring of links with the list itself as one member; a link alone is its own ring, so
 * removing it twice is harmless. CONTAINER_OF() finds whom a link is part of. */
struct link {
    struct link *prev;
    struct link *next;
};

static inline void link_init(struct link *l)
{
    l->prev = l;
    l->next = l;
}

/* Of a list: it is empty. */
static inline bool link_alone(const struct link *l)
{
    return l->next == l;
}

/* With a list as the place: at its end. */
static inline void link_before(struct link *place, struct link *l)
{
    l->prev = place->prev;
    l->next = place;
    place->prev->next = l;
    place->prev = l;
}

static inline void link_remove(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    link_init(l);
}

/* to becomes the list that from was, from is empty. */
static inline void link_move_all(struct link *from, struct link *to)
{
    link_before(from, to);
    link_remove(from);
}

#endif
