#ifndef SERVER_RANDOM_H
#define SERVER_RANDOM_H

#include <stdint.h>

/* For ids, seeds, delays and hashes; not for secrets. */
uint64_t random_u64(void);

#endif
