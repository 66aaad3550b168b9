/* Who may come in and what is written about it: keys, origins, certificate, access log. Each is
 * made from the options as a whole or not at all, before there is a socket; SIGHUP makes the ones
 * that stand in files again, and a file that is broken by then leaves what was there. */
#include "server/server_private.h"

#include "server/tls.h"

static enum status open_tls(struct tls_config **out, const struct options *o, char *err,
                            size_t err_size)
{
    *out = NULL;
    if (!o->tls_cert[0])
        return OK;
    enum status status = secret_file_check(o->tls_key, err, err_size);
    if (status)
        return status;
    return tls_config_open(out, o->tls_cert, o->tls_key, err, err_size);
}

enum status server_door_open(struct server *s, char *err, size_t err_size)
{
    const struct options *o = s->options;
    enum status status = keys_open(&s->keys, &o->api_key, o->api_keys_file, err, err_size);
    if (status == OK)
        status = cors_open(&s->cors, &o->cors_origin, err, err_size);
    if (status == OK)
        status = open_tls(&s->tls, o, err, err_size);
    if (status == OK)
        status = access_open(&s->access, o->access_log, o->access_file, err, err_size);
    return status;
}

void server_door_close(struct server *s)
{
    access_close(s->access);
    tls_config_close(s->tls);
    cors_close(s->cors);
    keys_close(s->keys);
}

static void reload_keys(struct server *s)
{
    char err[SERVER_ERROR_MAX] = "";
    struct keys *keys = NULL;
    const struct options *o = s->options;
    if (keys_open(&keys, &o->api_key, o->api_keys_file, err, sizeof(err))) {
        log_line(LOG_ERROR, "%s; the old keys stay", err);
        return;
    }
    keys_close(s->keys);
    s->keys = keys;
    s->api.keys = keys;
}

static void reload_tls(struct server *s)
{
    char err[SERVER_ERROR_MAX] = "";
    struct tls_config *tls = NULL;
    if (open_tls(&tls, s->options, err, sizeof(err))) {
        log_line(LOG_ERROR, "%s; the old certificate stays", err);
        return;
    }
    conn_set_tls(s->conns, tls);
    tls_config_close(s->tls);
    s->tls = tls;
}

void server_on_hangup(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    (void)number;
    log_line(LOG_INFO, "SIGHUP: reading keys and certificates again");
    access_reopen(s->access);
    reload_keys(s);
    reload_tls(s);
}

void server_on_rest(uv_prepare_t *handle)
{
    const struct server *s = handle->data;
    access_flush(s->access);
}
