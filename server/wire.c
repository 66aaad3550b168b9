/* What belongs to no single format. Invariant: a freed request is all zero, so freeing
 * twice or freeing one whose parse has failed does nothing. */
#include "server/wire.h"

#include "server/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a model's name that comes back in an error. */
enum { MODEL_ECHO_MAX = 128 };

void gen_request_free(struct gen_request *r)
{
    json_free(r->tree);
    json_free(r->made);
    for (int32_t i = 0; i < r->n_prompts; i++)
        free(r->prompt[i].ids);
    free(r->prompt);
    free(r->stop_tokens.id);
    free(r->allowed.id);
    free(r->bias);
    memset(r, 0, sizeof(*r));
}

void api_error_set(struct api_error *e, enum api_error_kind kind, const char *param,
                   const char *text)
{
    e->kind = kind;
    e->retry_ms = 0;
    e->dropped = NULL;
    snprintf(e->param, sizeof(e->param), "%s", param ? param : "");
    snprintf(e->text, sizeof(e->text), "%s", text ? text : "");
}

/* Longest prefix of whole, valid characters within max bytes. */
static size_t cut(const char *text, size_t max)
{
    size_t bytes = strnlen(text, max);
    size_t n = 0;
    for (size_t k = json_utf8(text, bytes); k > 0; k = json_utf8(text + n, bytes - n))
        n += k;
    return n;
}

void api_error_no_model(struct api_error *e, const struct wire *w, const char *model)
{
    size_t n = model ? cut(model, MODEL_ECHO_MAX) : 0;
    api_error_set(e, API_NO_MODEL, "model", NULL);
    snprintf(e->text, sizeof(e->text), "%s%.*s%s", w->no_model[0], (int)n, model ? model : "",
             w->no_model[1]);
}

void api_error_too_long(struct api_error *e, const struct wire *w, int64_t tokens, int64_t context)
{
    api_error_set(e, API_TOO_LONG, NULL, NULL);
    snprintf(e->text, sizeof(e->text), "%s%lld%s%lld%s", w->too_long[0], (long long)tokens,
             w->too_long[1], (long long)context, w->too_long[2]);
}

int api_error_status(enum api_error_kind kind)
{
    switch (kind) {
    case API_NO_MODEL:
    case API_NO_ROUTE:
    case API_BAD_NAME:
        return 404;
    case API_BAD_METHOD:
    case API_OLD_SDK:
        return 405;
    case API_TOO_LARGE:
        return 413;
    case API_TIMEOUT:
        return 408;
    case API_UNAUTHORIZED:
    case API_NO_KEY:
        return 401;
    case API_BUSY:
        return 429;
    case API_NOT_READY:
        return 503;
    case API_ENGINE:
        return 500;
    case API_BAD_HTTP:
    case API_BAD_JSON:
    case API_BAD_FIELD:
    case API_MISSING:
    case API_TOO_LONG:
    case API_UNSUPPORTED:
        break;
    }
    return 400;
}
