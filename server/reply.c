/* Errors that pass by themselves carry Retry-After, spread at random so that clients
 * refused together do not come back together. */
#include "server/reply.h"

#include "server/random.h"
#include "server/text.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_MS_UNKNOWN = 1000, RETRY_SPREAD_PERCENT = 60 };

int32_t padding_draw(bool wanted)
{
    return wanted ? 1 + (int32_t)(random_u64() % PADDING_MAX) : 0;
}

static void uuid_text(char out[UUID_BYTES])
{
    static const char digit[] = "0123456789abcdef";
    unsigned char r[16];
    size_t n = 0;
    memcpy(r, (const uint64_t[]){random_u64(), random_u64()}, sizeof(r));
    r[6] = (unsigned char)(0x40 | (r[6] & 0xf));
    r[8] = (unsigned char)(0x80 | (r[8] & 0x3f));
    for (size_t i = 0; i < sizeof(r); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out[n++] = '-';
        out[n++] = digit[r[i] >> 4];
        out[n++] = digit[r[i] & 0xf];
    }
    out[n] = '\0';
}

/* Goes back into a header line and into the log. */
static bool id_is_sane(const char *id)
{
    size_t n = id ? strnlen(id, REQUEST_ID_MAX + 1) : 0;
    return n > 0 && n <= REQUEST_ID_MAX && text_is_visible(id, n);
}

void exchange_open(struct exchange *x, struct metrics *metrics, const struct conn *c,
                   const struct http_request *r)
{
    const char *id = http_header(r, "x-request-id");
    memset(x, 0, sizeof(*x));
    x->metrics = metrics;
    x->cors = "";
    x->arrived_ns = now_ns();
    x->body_bytes = r->body_bytes;
    (void)snprintf(x->address, sizeof(x->address), "%s", conn_address(c));
    uuid_text(x->uuid);
    (void)snprintf(x->id, sizeof(x->id), "%s", id_is_sane(id) ? id : x->uuid);
}

static void headers_text(char out[REPLY_HEADERS_MAX], const struct exchange *x, const char *more)
{
    char second[REPLY_HEADERS_MAX / 4] = "";
    if (x->wire->id_header)
        (void)snprintf(second, sizeof(second), "%s: %s\r\n", x->wire->id_header, x->uuid);
    (void)snprintf(out, REPLY_HEADERS_MAX, "X-Request-Id: %s\r\n%s%s%s", x->id, second, x->cors,
                   more ? more : "");
}

void reply_whole(struct exchange *x, struct conn *c, int code, const char *type, const char *more,
                 const struct buf *body)
{
    char headers[REPLY_HEADERS_MAX];
    headers_text(headers, x, more);
    const struct http_reply reply = {.code = code, .type = type, .extra = headers};
    x->sent_bytes = body ? body->n : 0;
    conn_respond(c, &reply, body);
}

/* Up to 30 % less or more. */
static unsigned jittered(uint32_t ms)
{
    uint64_t spread = (uint64_t)ms * RETRY_SPREAD_PERCENT / 100 + 1;
    return (unsigned)(ms - spread / 2 + random_u64() % spread);
}

static const char *dropped_reason(const struct api_error *e)
{
    if (e->kind == API_NOT_READY)
        return "not-ready";
    return e->dropped ? e->dropped : "queue-full";
}

void reply_error(struct exchange *x, struct conn *c, const struct api_error *e, const char *more)
{
    char lines[REPLY_HEADERS_MAX / 2];
    char again[256] = "";
    struct buf body = {0};
    int code = x->wire->status(e);
    if (e->kind == API_BUSY || e->kind == API_NOT_READY) {
        unsigned ms = jittered(e->retry_ms ? e->retry_ms : RETRY_MS_UNKNOWN);
        (void)snprintf(again, sizeof(again),
                       "Retry-After: %u\r\nretry-after-ms: %u\r\nx-should-retry: true\r\n"
                       "x-llm-d-request-dropped-reason: %s\r\n",
                       (ms + 999) / 1000, ms, dropped_reason(e));
    } else if (e->kind == API_TIMEOUT) {
        /* Its time is up: another try would have none left either. */
        (void)snprintf(again, sizeof(again),
                       "x-should-retry: false\r\nx-llm-d-request-dropped-reason: deadline\r\n");
    }
    (void)snprintf(lines, sizeof(lines), "%s%s", again, more ? more : "");
    more = lines;
    x->wire->error(&body, e, x->uuid);
    x->metrics->refused[e->kind]++;
    reply_whole(x, c, code, x->wire->whole_type, more, &body);
    reply_log(x, code, 0, 0, 0);
    buf_free(&body);
}

void reply_stream(const struct exchange *x, struct conn *c, const char *type, const char *more,
                  const struct conn_source *source)
{
    char headers[REPLY_HEADERS_MAX];
    char lines[REPLY_HEADERS_MAX / 2];
    (void)snprintf(lines, sizeof(lines), "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n%s",
                   more ? more : "");
    headers_text(headers, x, lines);
    const struct http_reply reply = {.code = 200, .type = type, .extra = headers};
    conn_stream(c, &reply, source);
}

double since_ms(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) * 1e-6 : 0;
}

void reply_log(const struct exchange *x, int code, int32_t n_prompt, int32_t n_answer,
               uint64_t first_ns)
{
    const struct metric_http counted = {
        .handler = x->handler,
        .method = x->method,
        .code = code,
        .bytes_in = x->body_bytes,
        .bytes_out = x->sent_bytes,
        .seconds = since_ms(x->arrived_ns, now_ns()) * 1e-3,
    };
    metrics_http(x->metrics, &counted);
    if (!x->access)
        return;
    const struct access_entry entry = {
        .id = x->id,
        .address = x->address,
        .key = x->holder.name,
        .method = x->method,
        .route = x->handler,
        .code = code,
        .body_bytes = x->body_bytes,
        .n_prompt = n_prompt,
        .n_answer = n_answer,
        .first_ms = since_ms(x->arrived_ns, first_ns),
        .total_ms = since_ms(x->arrived_ns, now_ns()),
    };
    access_write(x->access, &entry);
}
