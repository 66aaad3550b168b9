/* A route is a row: method, pattern, handler, the wire format whose errors it speaks, and
 * whether it is open to those without a key. The pattern is also its name in the
 * metrics, so what a client types never becomes a label. */
#include "server/api.h"

#include "server/models_list.h"
#include "server/openapi.h"
#include "server/query.h"
#include "server/target.h"
#include "server/wishes.h"
#include "server/workers.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct call {
    struct api *api;
    struct conn *conn;
    const struct http_request *r;
    const char *query;
    const char *tail; /* what "**" stands for, or NULL */
    bool forwarded;   /* header fields stand behind "MF-Header-" */
    struct exchange x;
};

typedef void (*route_fn)(struct call *k);

struct route {
    const char *method;
    const char *pattern;
    route_fn handle;
    const struct wire *wire;
    bool open;
};

enum { FORWARD_MAX = 2048, PREFLIGHT_FIELDS_MAX = 512, FIELD_NAME_MAX = 64 };

/* As http_header(). A request that Miniflare has passed on carries the fields of the one that it
 * stands for under names of their own. */
static const char *header(const struct call *k, const char *name)
{
    char passed[FIELD_NAME_MAX];
    (void)snprintf(passed, sizeof(passed), "mf-header-%s", name);
    const char *value = k->forwarded ? http_header(k->r, passed) : NULL;
    return value ? value : http_header(k->r, name);
}

static void error_text(struct call *k, enum api_error_kind kind, const char *text)
{
    struct api_error e;
    api_error_set(&e, kind, NULL, text);
    reply_error(&k->x, k->conn, &e, NULL);
}

static void error_no_model(struct call *k, const char *name)
{
    struct api_error e;
    api_error_no_model(&e, k->x.wire, name);
    reply_error(&k->x, k->conn, &e, NULL);
}

static void send_text(struct call *k, int code, const char *type, struct buf *body)
{
    reply_whole(&k->x, k->conn, code, type, NULL, body);
    reply_log(&k->x, code, 0, 0, 0);
    buf_free(body);
}

/* -- generating -- */

static void on_generate(struct call *k)
{
    stream_start(k->api->env, k->conn, &k->x, NULL, k->r);
}

static void on_workers_rest(struct call *k)
{
    char model[MODEL_BYTES_MAX + 1];
    if (!target_decode(model, sizeof(model), k->tail, strlen(k->tail), false)) {
        error_text(k, API_BAD_NAME, NULL);
        return;
    }
    stream_start(k->api->env, k->conn, &k->x, model, k->r);
}

/* A browser's EventSource can only GET: the same requests with the body in the query. Looking at
 * one with HEAD would compute an answer for nobody. */
static void start_from_query(struct call *k, const char *model, bool wrapped)
{
    struct buf body = {0};
    struct api_error e = {0};
    struct http_request r = *k->r;
    if (strcmp(r.method, "HEAD") == 0) {
        api_error_set(&e, API_BAD_METHOD, NULL, NULL);
        reply_error(&k->x, k->conn, &e, "Allow: GET, POST\r\n");
        return;
    }
    buf_text(&body, wrapped ? "{\"inputs\":" : "");
    enum status s = query_object(&body, k->query, &e);
    buf_text(&body, wrapped ? "}" : "");
    if (s == E_NOMEM || body.failed)
        api_error_set(&e, API_ENGINE, NULL, NULL);
    if (s || body.failed) {
        reply_error(&k->x, k->conn, &e, NULL);
    } else {
        r.body = body.data;
        r.body_bytes = body.n;
        stream_start(k->api->env, k->conn, &k->x, model, &r);
    }
    buf_free(&body);
}

static void on_workers_rest_query(struct call *k)
{
    char model[MODEL_BYTES_MAX + 1];
    if (target_decode(model, sizeof(model), k->tail, strlen(k->tail), false))
        start_from_query(k, model, false);
    else
        error_text(k, API_BAD_NAME, NULL);
}

static void on_workers_binding_query(struct call *k)
{
    char model[MODEL_BYTES_MAX + 1];
    if (header(k, "upgrade"))
        error_text(k, API_UNSUPPORTED, "Websockets are not supported");
    else if (target_param(k->query, "model", model, sizeof(model)) && model[0])
        start_from_query(k, model, true);
    else
        error_text(k, API_MISSING, "model");
}

/* The model stands in a header, perhaps behind a prefix: "x:@cf/meta/...". Version 1 and 2 are what
 * the packages of 2023 speak: gzipped tensors. */
static void on_workers_binding(struct call *k)
{
    const char *model = header(k, "cf-consn-model-id");
    char version[8];
    if (!target_param(k->query, "version", version, sizeof(version)) || strcmp(version, "3") != 0) {
        error_text(k, API_OLD_SDK, NULL);
        return;
    }
    if (!model || !model[0]) {
        error_text(k, API_MISSING, "cf-consn-model-id");
        return;
    }
    const char *colon = strchr(model, ':');
    if (colon && colon[1] && !registry_find(k->api->env->registry, model))
        model = colon + 1;
    stream_start(k->api->env, k->conn, &k->x, model, k->r);
}

/* -- telling -- */

static bool ready_to_tell(struct call *k)
{
    if (k->api->env->ready)
        return true;
    error_text(k, API_NOT_READY, NULL);
    return false;
}

static void on_models(struct call *k)
{
    struct buf body = {0};
    if (!ready_to_tell(k))
        return;
    models_list_openai(&body, k->api->env->registry);
    send_text(k, 200, "application/json", &body);
}

static void on_model(struct call *k)
{
    char name[MODEL_BYTES_MAX + 1];
    struct buf body = {0};
    if (!ready_to_tell(k))
        return;
    if (!target_decode(name, sizeof(name), k->tail, strlen(k->tail), false)) {
        error_text(k, API_NO_ROUTE, NULL);
        return;
    }
    const struct served *m = registry_find(k->api->env->registry, name);
    if (!m) {
        error_no_model(k, name);
        return;
    }
    models_list_one(&body, m, name);
    send_text(k, 200, "application/json", &body);
}

static void on_models_search(struct call *k)
{
    struct buf body = {0};
    if (!ready_to_tell(k))
        return;
    models_list_workers(&body, k->api->env->registry, k->query);
    send_text(k, 200, "application/json", &body);
}

static void on_models_schema(struct call *k)
{
    char name[MODEL_BYTES_MAX + 1];
    struct buf body = {0};
    if (!ready_to_tell(k))
        return;
    if (!target_param(k->query, "model", name, sizeof(name)) || !name[0]) {
        error_text(k, API_MISSING, "model");
    } else if (!registry_find(k->api->env->registry, name)) {
        error_no_model(k, name);
    } else {
        buf_text(&body, "{\"result\":");
        workers_schema(&body);
        buf_text(&body, ",\"success\":true,\"errors\":[],\"messages\":[]}");
        send_text(k, 200, "application/json", &body);
    }
}

static void on_health(struct call *k)
{
    static const char *const words[] = {
        [HEALTH_LOADING] = "loading", [HEALTH_OK] = "ok",           [HEALTH_LEAVING] = "draining",
        [HEALTH_FAILED] = "failed",   [HEALTH_STALLED] = "stalled",
    };
    struct buf body = {0};
    enum api_health h = k->api->health;
    buf_printf(&body, "{\"status\":\"%s\"}\n", words[h]);
    send_text(k, h == HEALTH_OK ? 200 : 503, "application/json", &body);
}

static void on_live(struct call *k)
{
    struct buf body = {0};
    buf_text(&body, "{\"status\":\"ok\"}\n");
    send_text(k, 200, "application/json", &body);
}

static void on_version(struct call *k)
{
    struct buf body = {0};
    buf_printf(&body, "{\"version\":\"%s\"}\n", FIRSTLIGHT_VERSION);
    send_text(k, 200, "application/json", &body);
}

static void on_openapi(struct call *k)
{
    struct buf body = {0};
    buf_add(&body, openapi_json, openapi_json_bytes);
    send_text(k, 200, "application/json", &body);
}

static void on_metrics(struct call *k)
{
    const struct api *a = k->api;
    const struct registry *r = a->env->registry;
    struct buf body = {0};
    struct metrics_view view = {
        .n_models = r->n,
        .kv_numbers = options_kv(a->options),
        .backend = r->model[0].sched ? r->model[0].backend : options_backend(a->options),
        .prefix_cache = !a->options->no_prefix_cache,
        .draining = a->health == HEALTH_LEAVING,
        .connections = conn_set_count(a->conns),
        .queue_limit = a->env->live_max,
    };
    for (int32_t i = 0; i < r->n; i++) {
        view.model[i].name = r->model[i].names.name[0];
        if (r->model[i].sched)
            sched_stats(r->model[i].sched, &view.model[i].sched);
    }
    metrics_write(&body, a->env->metrics, &view);
    send_text(k, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void on_hello(struct call *k)
{
    struct buf body = {0};
    buf_printf(&body,
               "Firstlight %s serves %s.\n\n"
               "  POST /v1/chat/completions  /v1/completions  /v1/responses  /v1/messages\n"
               "  POST /client/v4/accounts/{any}/ai/run/{model}  /run?version=3\n"
               "  POST /tokenize  /detokenize\n"
               "  GET  /v1/models  /health  /version  /metrics  /openapi.json\n\n"
               "curl -sN %s/v1/chat/completions -d '{\"stream\":true,\"messages\":"
               "[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]}'\n",
               FIRSTLIGHT_VERSION, k->api->env->registry->model[0].names.name[0], k->api->address);
    send_text(k, 200, "text/plain; charset=utf-8", &body);
}

static void on_proxy(struct call *k);

static const struct route routes[] = {
    {"POST", "/v1/chat/completions", on_generate, &wire_chat, false},
    {"POST", "/chat/completions", on_generate, &wire_chat, false},
    {"POST", "/v1/completions", on_generate, &wire_completions, false},
    {"POST", "/completions", on_generate, &wire_completions, false},
    {"POST", "/v1/messages", on_generate, &wire_messages, false},
    {"POST", "/messages", on_generate, &wire_messages, false},
    {"POST", "/v1/messages/count_tokens", on_generate, &wire_count_tokens, false},
    {"POST", "/messages/count_tokens", on_generate, &wire_count_tokens, false},
    {"POST", "/v1/responses", on_generate, &wire_responses, false},
    {"POST", "/responses", on_generate, &wire_responses, false},
    {"POST", "/tokenize", on_generate, &wire_tokenize, false},
    {"POST", "/v1/tokenize", on_generate, &wire_tokenize, false},
    {"POST", "/detokenize", on_generate, &wire_detokenize, false},
    {"POST", "/v1/detokenize", on_generate, &wire_detokenize, false},
    {"GET", "/v1/models", on_models, &wire_chat, false},
    {"GET", "/models", on_models, &wire_chat, false},
    {"GET", "/v1/models/**", on_model, &wire_chat, false},
    {"GET", "/models/**", on_model, &wire_chat, false},
    {"POST", "/client/v4/accounts/*/ai/v1/chat/completions", on_generate, &wire_workers_chat,
     false},
    {"POST", "/client/v4/accounts/*/ai/v1/completions", on_generate, &wire_workers_completions,
     false},
    {"GET", "/client/v4/accounts/*/ai/v1/models", on_models, &wire_workers_chat, false},
    {"GET", "/client/v4/accounts/*/ai/models/search", on_models_search, &wire_workers_rest, false},
    {"GET", "/client/v4/accounts/*/ai/models/schema", on_models_schema, &wire_workers_rest, false},
    {"POST", "/client/v4/accounts/*/ai/run/proxy", on_proxy, &wire_workers_proxy, false},
    {"GET", "/client/v4/accounts/*/ai/run/proxy", on_proxy, &wire_workers_proxy, false},
    {"POST", "/client/v4/accounts/*/ai/run/**", on_workers_rest, &wire_workers_rest, false},
    {"GET", "/client/v4/accounts/*/ai/run/**", on_workers_rest_query, &wire_workers_rest, false},
    {"POST", "/run", on_workers_binding, &wire_workers_binding, false},
    {"GET", "/run", on_workers_binding_query, &wire_workers_binding, false},
    {"POST", "/ai-gateway/run", on_workers_binding, &wire_workers_binding, false},
    {"GET", "/ai-api/models/search", on_models_search, &wire_workers_binding, false},
    {"GET", "/health", on_health, &wire_chat, true},
    {"GET", "/health/ready", on_health, &wire_chat, true},
    {"GET", "/health/live", on_live, &wire_chat, true},
    {"GET", "/readyz", on_health, &wire_chat, true},
    {"GET", "/livez", on_live, &wire_chat, true},
    {"GET", "/ping", on_health, &wire_chat, true},
    {"GET", "/version", on_version, &wire_chat, true},
    {"GET", "/metrics", on_metrics, &wire_chat, true},
    {"GET", "/openapi.json", on_openapi, &wire_chat, true},
    {"GET", "/", on_hello, &wire_chat, true},
};

static_assert((int)METRIC_MODELS_MAX == (int)REGISTRY_MAX, "the metrics hold every model");
/* Each with its own method and with any other, and what has no route: none goes uncounted. */
static_assert(2 * ARRAY_LEN(routes) + 1 <= METRIC_HANDLERS_MAX, "the metrics hold every route");

/* HEAD is a GET whose body the connection leaves out. */
static bool method_fits(const char *route, const char *method)
{
    return strcmp(route, method) == 0 || (strcmp(route, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* The route of this method and path; else one of this path alone, then *wrong_method. */
static const struct route *route_find(const char *method, const char *path, const char **tail,
                                      bool *wrong_method)
{
    const struct route *other = NULL;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (!target_matches(routes[i].pattern, path, tail))
            continue;
        if (method_fits(routes[i].method, method)) {
            *wrong_method = false;
            return &routes[i];
        }
        if (!other)
            other = &routes[i];
    }
    *wrong_method = other != NULL;
    return other;
}

/* Whose error objects does a client of an unknown path read? */
static const struct wire *wire_of_path(const char *path)
{
    static const struct {
        const char *prefix;
        const struct wire *wire;
    } families[] = {
        {"/client/v4/", &wire_workers_rest},       {"/run", &wire_workers_binding},
        {"/ai-gateway", &wire_workers_binding},    {"/ai-api", &wire_workers_binding},
        {"/to-everything", &wire_workers_binding},
    };
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (strncmp(path, families[i].prefix, strlen(families[i].prefix)) == 0)
            return families[i].wire;
    return &wire_chat;
}

/* "Authorization: Bearer KEY"; or, as Workers AI has it too, "X-Auth-Key: KEY"; or, as clients of
 * Anthropic's API send it, "X-Api-Key: KEY". */
static bool may_pass(struct call *k)
{
    const char *bearer = header(k, "authorization");
    const char *key = header(k, "x-auth-key");
    if (!keys_asked(k->api->keys))
        return true;
    if (!key)
        key = http_header(k->r, "x-api-key");
    if (bearer && strncasecmp(bearer, "bearer ", 7) == 0)
        key = bearer + 7 + strspn(bearer + 7, " ");
    if (key && keys_find(k->api->keys, key, &k->x.holder))
        return true;
    error_text(k, key || bearer ? API_UNAUTHORIZED : API_NO_KEY, NULL);
    return false;
}

/* What a browser asks before a page of another site may ask: it carries no key yet. Names of
 * header fields go back as they came; the gate has let through nothing that could end a line. */
static bool answer_preflight(struct call *k)
{
    const char *origin = http_header(k->r, "origin");
    const char *wanted = http_header(k->r, "access-control-request-headers");
    char lines[REPLY_HEADERS_MAX / 2];
    if (!cors_is_on(k->api->cors) || strcmp(k->r->method, "OPTIONS") != 0 || !origin ||
        !http_header(k->r, "access-control-request-method"))
        return false;
    k->x.wire = wire_of_path(k->r->path);
    k->x.handler = "preflight";
    k->x.method = "OPTIONS";
    if (!cors_allows(k->api->cors, origin) || (wanted && strlen(wanted) > PREFLIGHT_FIELDS_MAX)) {
        error_text(k, API_BAD_FIELD, "This origin is not allowed");
        return true;
    }
    (void)snprintf(lines, sizeof(lines),
                   "Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n"
                   "Access-Control-Max-Age: 600\r\n%s%s%s",
                   wanted && wanted[0] ? "Access-Control-Allow-Headers: " : "",
                   wanted && wanted[0] ? wanted : "", wanted && wanted[0] ? "\r\n" : "");
    reply_whole(&k->x, k->conn, 204, NULL, lines, NULL);
    reply_log(&k->x, 204, 0, 0, 0);
    return true;
}

static void dispatch(struct call *k, const char *path)
{
    bool wrong_method = false;
    const struct route *route = route_find(k->r->method, path, &k->tail, &wrong_method);
    k->x.wire = route ? route->wire : wire_of_path(path);
    k->x.handler = route ? route->pattern : "none";
    k->x.method = route && !wrong_method ? route->method : "other";
    if (!route) {
        error_text(k, API_NO_ROUTE, NULL);
    } else if (wrong_method) {
        char allow[32];
        struct api_error e;
        (void)snprintf(allow, sizeof(allow), "Allow: %s%s\r\n", route->method,
                       strcmp(route->method, "GET") == 0 ? ", HEAD" : "");
        api_error_set(&e, API_BAD_METHOD, NULL, NULL);
        reply_error(&k->x, k->conn, &e, allow);
    } else if (route->open || may_pass(k)) {
        route->handle(k);
    }
}

/* "https://workers-binding.ai/run?version=3": as if the request had come for this. */
static void dispatch_to(struct call *k, const char *url)
{
    char target[FORWARD_MAX];
    const char *host = url ? strstr(url, "://") : NULL;
    const char *path = host ? strchr(host + 3, '/') : NULL;
    /* A path that leads to the proxy again would go round for ever. */
    if (!path || strlen(path) >= sizeof(target) || strncmp(path, "/client/", 8) == 0) {
        error_text(k, API_NO_ROUTE, NULL);
        return;
    }
    (void)snprintf(target, sizeof(target), "%s", path);
    char *mark = strchr(target, '?');
    if (mark)
        *mark = '\0';
    k->query = mark ? mark + 1 : "";
    dispatch(k, target);
}

/* Older tools send everything to one route and say in a header where it should go. */
static void on_proxy(struct call *k)
{
    dispatch_to(k, http_header(k->r, "x-forwarded"));
}

/* Miniflare sends everything to whatever address it was given, and says it so. */
static bool answer_forwarded(struct call *k)
{
    const char *url = http_header(k->r, "mf-url");
    if (!url)
        return false;
    k->forwarded = true;
    k->x.wire = &wire_workers_proxy;
    k->x.handler = "none";
    k->x.method = "other";
    dispatch_to(k, url);
    return true;
}

void api_on_request(struct conn *c, const struct http_request *r, void *arg)
{
    struct api *a = arg;
    struct call k = {.api = a, .conn = c, .r = r, .query = r->query};
    exchange_open(&k.x, a->env->metrics, c, r);
    wishes_read(&k.x, r);
    k.x.access = a->access;
    k.x.cors = cors_lines(a->cors, http_header(r, "origin"));
    if (!answer_preflight(&k) && !answer_forwarded(&k))
        dispatch(&k, r->path);
}

const char *api_on_error(struct conn *c, const struct http_request *r, struct buf *body, int code,
                         const char *text, void *arg)
{
    struct api *a = arg;
    struct api_error e;
    enum api_error_kind kind = API_BAD_HTTP;
    if (code == 413)
        kind = API_TOO_LARGE;
    else if (code == 408)
        kind = API_TIMEOUT;
    else if (code >= 500)
        kind = API_NOT_READY;
    api_error_set(&e, kind, NULL, text);
    /* Nobody knows yet whose client this is. */
    wire_workers_chat.error(body, &e, "");
    a->env->metrics->refused[kind]++;
    metrics_http(a->env->metrics,
                 &(struct metric_http){
                     .handler = "none", .method = "other", .code = code, .bytes_out = body->n});
    access_write(a->access, &(struct access_entry){.id = "",
                                                   .address = conn_address(c),
                                                   .key = "",
                                                   .method = "other",
                                                   .route = "none",
                                                   .code = code});
    return cors_lines(a->cors, r ? http_header(r, "origin") : NULL);
}
