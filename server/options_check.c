/* What a command needs, and which options bear each other: judged when all of them are known, so
 * that their order on the command line does not matter. */
#include "server/options_private.h"

#include "server/address.h"

static enum status check_listener(const struct options *o, const char *option, const char *text,
                                  char *err, size_t err_size)
{
    struct address at;
    if (!address_parse(&at, text)) {
        (void)snprintf(err, err_size,
                       "--%s %.120s is not an address to listen on, like 127.0.0.1:8080, "
                       "[::1]:8080 or unix:/path",
                       option, text);
        return E_INVALID;
    }
    if (at.local || o->api_key.n || o->api_keys_file[0] || o->insecure)
        return OK;
    (void)snprintf(err, err_size,
                   "--%s %.64s can be reached by others: give --api-key or --api-keys-file, or "
                   "--insecure if that is meant",
                   option, text);
    return E_INVALID;
}

static enum status check_door(const struct options *o, char *err, size_t err_size)
{
    char text[ADDRESS_TEXT_MAX];
    enum status s = OK;
    if (!o->tls_cert[0] != !o->tls_key[0]) {
        (void)snprintf(err, err_size, "--tls-cert and --tls-key go together");
        return E_INVALID;
    }
    for (int32_t i = 0; i < o->listen.n && s == OK; i++)
        s = check_listener(o, "listen", o->listen.item[i], err, err_size);
    if (s || o->listen.n)
        return s;
    address_join(text, o->host, o->port);
    return check_listener(o, "host", text, err, err_size);
}

enum status options_check(const struct options *o, char *err, size_t err_size)
{
    if (o->command == CMD_RUN && !o->prompt) {
        (void)snprintf(err, err_size,
                       "run needs a model and a prompt: "
                       "firstlight run MODEL \"prompt\" (\"-\" reads stdin)");
        return E_INVALID;
    }
    if (o->command == CMD_INSPECT && o->models.n == 0) {
        (void)snprintf(err, err_size, "inspect needs a model: firstlight inspect MODEL");
        return E_INVALID;
    }
    if (o->command == CMD_CONVERT && !o->dst) {
        (void)snprintf(err, err_size, "convert needs two paths: firstlight convert SRC DST");
        return E_INVALID;
    }
    if (o->command != CMD_SERVE && o->models.n > 1) {
        (void)snprintf(err, err_size, "this command takes one model");
        return E_INVALID;
    }
    if (o->models.n > 1 && o->names.n > 0) {
        (void)snprintf(err, err_size,
                       "--served-model-name is for one model; name several with --model "
                       "NAME=PATH and --alias NAME=MODEL");
        return E_INVALID;
    }
    return o->command == CMD_SERVE ? check_door(o, err, err_size) : OK;
}
