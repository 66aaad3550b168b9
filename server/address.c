/* An address is judged by its letters alone: nothing here asks a resolver, so a name other than
 * localhost is no address. */
#include "server/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_MAX = 65535, PORT_DIGITS_MAX = 5 };

static bool parse_port(const char *text, uint16_t *out)
{
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > PORT_DIGITS_MAX || text[n])
        return false;
    unsigned long port = strtoul(text, NULL, 10);
    *out = htons((uint16_t)port);
    return port <= PORT_MAX;
}

static bool parse_host(struct address *a, const char *host, uint16_t port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a->at;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->at;
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = port;
        a->local = ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
        return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    a->local = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    return true;
}

static bool parse_unix(struct address *a, const char *path)
{
    if (!path[0] || strlen(path) >= sizeof(a->path))
        return false;
    memcpy(a->path, path, strlen(path) + 1);
    a->local = true;
    return true;
}

bool address_parse(struct address *out, const char *text)
{
    char host[INET6_ADDRSTRLEN + 1];
    uint16_t port;
    memset(out, 0, sizeof(*out));
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(out, text + 5);
    const char *colon = strrchr(text, ':');
    if (!colon || !parse_port(colon + 1, &port))
        return false;
    size_t n = (size_t)(colon - text);
    bool framed = n >= 2 && text[0] == '[' && colon[-1] == ']';
    if (framed) {
        text++;
        n -= 2;
    } else if (memchr(text, ':', n)) {
        return false;
    }
    if (n >= sizeof(host))
        return false;
    memcpy(host, text, n);
    host[n] = '\0';
    return parse_host(out, host, port);
}

void address_join(char out[ADDRESS_TEXT_MAX], const char *host, int port)
{
    (void)snprintf(out, ADDRESS_TEXT_MAX, strchr(host, ':') ? "[%.64s]:%d" : "%.64s:%d", host,
                   port);
}

void address_print(char out[ADDRESS_TEXT_MAX], const struct sockaddr_storage *at)
{
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)at;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;
    bool six = at->ss_family == AF_INET6;
    (void)inet_ntop(at->ss_family, six ? (const void *)&v6->sin6_addr : (const void *)&v4->sin_addr,
                    host, sizeof(host));
    address_join(out, host, ntohs(six ? v6->sin6_port : v4->sin_port));
}
