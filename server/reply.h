#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include "server/access.h"
#include "server/conn.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/wire.h"

/* One request and its answer as the world sees them: ids, header lines, error objects,
 * the count in the metrics and the line in the log. Every answer leaves through here. */

enum { REQUEST_ID_MAX = 128, UUID_BYTES = 37, REPLY_HEADERS_MAX = 1536 };

/* From the headers of a request; wishes.h says what they mean. */
enum load_format { LOAD_NONE, LOAD_TEXT, LOAD_JSON };
struct wishes {
    uint64_t budget_ns;   /* for the whole answer; 0: none named */
    uint64_t patience_ns; /* to the answer's first byte, likewise */
    uint64_t ttft_slo_ns; /* to the first token; 0: no wish */
    uint64_t group;       /* whom it counts for; 0: nobody named */
    enum load_format load;
};

struct exchange {
    struct metrics *metrics;
    struct access_log *access; /* NULL: none */
    const char *cors;          /* header lines for a browser, "" none; a constant */
    const struct wire *wire;   /* whose error objects are spoken */
    const char *handler;       /* route pattern, a constant */
    const char *method;        /* of the route, a constant */
    uint64_t arrived_ns;
    size_t body_bytes;
    size_t sent_bytes;              /* of the answer's body so far */
    char address[CONN_ADDRESS_MAX]; /* of the client */
    struct key_holder holder;       /* whose key it was; id 0: no key was asked for */
    struct wishes wish;
    char id[REQUEST_ID_MAX + 1]; /* X-Request-Id: the client's if it is sane */
    char uuid[UUID_BYTES];       /* our own */
};

/* Ids for a request that has just arrived; the other members are the router's. */
void exchange_open(struct exchange *x, struct metrics *metrics, const struct conn *c,
                   const struct http_request *r);

/* more: further header lines, or NULL. */
void reply_whole(struct exchange *x, struct conn *c, int code, const char *type, const char *more,
                 const struct buf *body);
void reply_error(struct exchange *x, struct conn *c, const struct api_error *e, const char *more);
/* Begins a stream of events. */
void reply_stream(const struct exchange *x, struct conn *c, const char *type, const char *more,
                  const struct conn_source *source);

/* The end of every exchange: it is counted, and told in a line of the access log without its
 * contents. */
void reply_log(const struct exchange *x, int code, int32_t n_prompt, int32_t n_answer,
               uint64_t first_ns);

/* 0 where the end does not come after the beginning. */
double since_ms(uint64_t from_ns, uint64_t to_ns);
/* Letters by which the next event is longer than it need be; 0 where nobody wants them. */
enum { PADDING_MAX = 32 };
int32_t padding_draw(bool wanted);

#endif
