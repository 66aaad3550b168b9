/* The header lines of every allowed origin are made when the server starts: an answer only picks
 * them. */
#include "server/cors.h"

#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 512, ORIGIN_BYTES_MAX = 256 };

#define EXPOSED                                                                                    \
    "Access-Control-Expose-Headers: X-Request-Id, cf-ai-req-id, Retry-After, retry-after-ms, "     \
    "Server-Timing\r\n"

struct cors {
    bool any;
    int32_t n;
    const char *origin[TEXT_LIST_MAX]; /* [n], of the options */
    char lines[TEXT_LIST_MAX][LINES_MAX];
};

/* "scheme://host" or "scheme://host:port", as a browser sends it: nothing after it. */
static bool origin_is_sane(const char *o)
{
    const char *host = strstr(o, "://");
    if (!host || host == o || strlen(o) > ORIGIN_BYTES_MAX)
        return false;
    host += 3;
    for (const char *p = o; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '"' || *p == ',')
            return false;
    return host[0] && !strchr(host, '/') && !strchr(host, '*');
}

enum status cors_open(struct cors **out, const struct text_list *origins, char *err,
                      size_t err_size)
{
    struct cors *c = calloc(1, sizeof(*c));
    if (!c) {
        (void)snprintf(err, err_size, "CORS: %s", status_text(E_NOMEM));
        return E_NOMEM;
    }
    for (int32_t i = 0; i < origins->n; i++) {
        const char *o = origins->item[i];
        c->any |= strcmp(o, "*") == 0;
        if (strcmp(o, "*") != 0 && !origin_is_sane(o)) {
            (void)snprintf(err, err_size,
                           "--cors-origin wants * or an origin like https://site.example, not "
                           "'%.80s'",
                           o);
            free(c);
            return E_INVALID;
        }
        (void)snprintf(c->lines[c->n], LINES_MAX,
                       "Access-Control-Allow-Origin: %s\r\n" EXPOSED "Vary: Origin\r\n", o);
        c->origin[c->n++] = o;
    }
    *out = c;
    return OK;
}

void cors_close(struct cors *c)
{
    free(c);
}

bool cors_is_on(const struct cors *c)
{
    return c->n > 0;
}

static int32_t find(const struct cors *c, const char *origin)
{
    for (int32_t i = 0; origin && i < c->n; i++)
        if (strcmp(c->origin[i], origin) == 0)
            return i;
    return -1;
}

bool cors_allows(const struct cors *c, const char *origin)
{
    return c->any || find(c, origin) >= 0;
}

const char *cors_lines(const struct cors *c, const char *origin)
{
    if (c->n == 0)
        return "";
    /* The same for everybody, so a cache between may keep one answer for all. */
    if (c->any)
        return "Access-Control-Allow-Origin: *\r\n" EXPOSED;
    int32_t i = find(c, origin);
    return i < 0 ? "Vary: Origin\r\n" : c->lines[i];
}
