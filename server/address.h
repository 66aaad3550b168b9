#ifndef SERVER_ADDRESS_H
#define SERVER_ADDRESS_H

#include "kernels/base.h"

#include <sys/socket.h>
#include <sys/un.h>

/* Where to listen, as a user writes it: "127.0.0.1:8080", "[::1]:8080", "localhost:0" or
 * "unix:/run/firstlight.sock". Names are never looked up. */

enum { ADDRESS_TEXT_MAX = 160 };

struct address {
    struct sockaddr_storage at; /* family 0: a Unix socket */
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    bool local; /* only this machine can reach it */
};

bool address_parse(struct address *out, const char *text);
/* The form above, of a host and a port apart. */
void address_join(char out[ADDRESS_TEXT_MAX], const char *host, int port);
/* The form above, of a TCP address. */
void address_print(char out[ADDRESS_TEXT_MAX], const struct sockaddr_storage *at);

#endif
