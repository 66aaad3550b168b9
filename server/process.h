#ifndef SERVER_PROCESS_H
#define SERVER_PROCESS_H

#include <stdint.h>

/* Takes all the open files this process may have. Returns how many of `wanted` connections there is
 * room for among them. */
int32_t process_make_room(int32_t wanted);

/* Asks for a short time slice for the calling thread. */
void process_wakes_early(void);

#endif
