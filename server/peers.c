/* A table of chains. The hash starts from a random number, so that nobody can choose addresses
 * that meet in one chain; an address is in the table exactly while it holds a connection. */
#include "server/peers.h"

#include "kernels/list.h"
#include "server/random.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 4096 };

/* As many bits of an address as are counted. */
struct network {
    uint64_t bits;
    bool six;
};

struct peer {
    struct link link; /* in its chain */
    struct network network;
    int32_t n;
};

struct peers {
    uint64_t seed;
    struct link chain[CHAINS];
};

enum status peers_open(struct peers **out)
{
    struct peers *p = calloc(1, sizeof(*p));
    if (!p)
        return E_NOMEM;
    p->seed = random_u64();
    for (size_t i = 0; i < CHAINS; i++)
        link_init(&p->chain[i]);
    *out = p;
    return OK;
}

void peers_close(struct peers *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < CHAINS; i++)
        assert(link_alone(&p->chain[i]));
    free(p);
}

static bool network_v4(uint32_t address, struct network *out)
{
    *out = (struct network){.bits = address};
    return address >> 24 != IN_LOOPBACKNET;
}

/* False: an address that is not counted. */
static bool network_of(const struct sockaddr *from, struct network *out)
{
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)from;
        return network_v4(ntohl(v4->sin_addr.s_addr), out);
    }
    if (from->sa_family != AF_INET6)
        return false;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(v6)) {
        uint32_t v4;
        memcpy(&v4, v6->s6_addr + 12, sizeof(v4));
        return network_v4(ntohl(v4), out);
    }
    *out = (struct network){.six = true};
    memcpy(&out->bits, v6->s6_addr, sizeof(out->bits));
    return !IN6_IS_ADDR_LOOPBACK(v6);
}

static struct link *chain_of(struct peers *p, const struct network *n)
{
    uint64_t h = (n->bits ^ p->seed ^ n->six) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    return &p->chain[(h >> 32) % CHAINS];
}

enum status peers_take(struct peers *p, const struct sockaddr *from, int32_t most,
                       struct peer **out)
{
    struct network network;
    *out = NULL;
    if (!network_of(from, &network))
        return OK;
    struct link *chain = chain_of(p, &network);
    for (struct link *l = chain->next; l != chain; l = l->next) {
        struct peer *peer = CONTAINER_OF(l, struct peer, link);
        if (peer->network.bits != network.bits || peer->network.six != network.six)
            continue;
        if (peer->n >= most)
            return E_AGAIN;
        peer->n++;
        *out = peer;
        return OK;
    }
    struct peer *peer = calloc(1, sizeof(*peer));
    if (!peer)
        return E_NOMEM;
    peer->network = network;
    peer->n = 1;
    link_before(chain, &peer->link);
    *out = peer;
    return OK;
}

void peers_drop(struct peer *peer)
{
    if (!peer || --peer->n > 0)
        return;
    link_remove(&peer->link);
    free(peer);
}
