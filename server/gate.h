#ifndef SERVER_GATE_H
#define SERVER_GATE_H

#include "server/conn.h"

/* The gate in front of the HTTP parser. It parses nothing for others: it only refuses heads that
 * two careful readers could understand differently, so that what the parser accepts after it has
 * one meaning. It needs the whole head in one buffer, does no I/O and allocates nothing. */

/* What the gate understood on its way. The parser must come to the same. */
struct gate_facts {
    int32_t n_fields;
    int32_t minor; /* of HTTP/1.minor */
    bool has_length;
    uint64_t content_length;
    bool chunked;
    bool expect_continue;
    bool says_close;      /* Connection: close */
    bool says_keep_alive; /* Connection: keep-alive */
    int32_t n_hosts;
    bool has_expect;
    int code;         /* 0, or the code of the refusal */
    const char *text; /* a constant that says why */
};

/* head [n] ends with its empty line. false: refused, facts->code and ->text say how. */
bool gate_pass(const char *head, size_t n, const struct conn_limits *limits,
               struct gate_facts *facts);

/* Whether a request can begin with this byte: tells a TLS hello from a slow client. */
bool gate_can_start(char byte);

#endif
