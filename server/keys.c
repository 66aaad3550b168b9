/* Keys as digests, in one array that is built whole and never changed: a reload builds another. */
#include "server/keys.h"

#include "server/text.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIGEST_BYTES = 32, FILE_BYTES_MAX = 1024 * 1024, KEYS_MAX = 4096 };

struct key {
    unsigned char digest[DIGEST_BYTES];
    char name[KEY_NAME_MAX];
};

struct keys {
    int32_t n; /* <= KEYS_MAX */
    struct key key[KEYS_MAX];
};

static bool digest_of(const char *key, size_t n, unsigned char out[DIGEST_BYTES])
{
    unsigned bytes = 0;
    return EVP_Digest(key, n, out, &bytes, EVP_sha256(), NULL) == 1 && bytes == DIGEST_BYTES;
}

/* NULL, or what is wrong. */
static const char *add(struct keys *k, const char *key, size_t n, const char *name, size_t name_n)
{
    if (n == 0 || n > KEY_BYTES_MAX || !text_is_visible(key, n))
        return "a key is 1 to 256 printable letters without blanks";
    if (name_n >= KEY_NAME_MAX || !text_is_label(name, name_n))
        return "a name is at most 31 printable letters without blanks";
    if (k->n == KEYS_MAX)
        return "too many keys";
    struct key *at = &k->key[k->n];
    if (!digest_of(key, n, at->digest))
        return "out of memory";
    memcpy(at->name, name, name_n);
    k->n++;
    return NULL;
}

static size_t word_bytes(const char *at, const char *end)
{
    const char *p = at;
    while (p < end && *p != ' ' && *p != '\t')
        p++;
    return (size_t)(p - at);
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at;
}

static const char *add_line(struct keys *k, const char *at, const char *end)
{
    if (end > at && end[-1] == '\r')
        end--;
    at = skip_blanks(at, end);
    if (at == end || *at == '#')
        return NULL;
    size_t n = word_bytes(at, end);
    const char *name = skip_blanks(at + n, end);
    size_t name_n = word_bytes(name, end);
    if (skip_blanks(name + name_n, end) != end)
        return "more than a key and a name in one line";
    return add(k, at, n, name, name_n);
}

static enum status add_lines(struct keys *k, const char *text, size_t n, const char *path,
                             char *err, size_t err_size)
{
    int32_t line = 1;
    int32_t before = k->n;
    for (const char *at = text, *end = text + n; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *wrong = add_line(k, at, stop ? stop : end);
        if (wrong) {
            (void)snprintf(err, err_size, "%.150s, line %d: %s", path, line, wrong);
            return E_INVALID;
        }
        at = stop ? stop + 1 : end;
    }
    if (k->n > before)
        return OK;
    /* An empty file would open the door to everybody. */
    (void)snprintf(err, err_size, "%.150s holds no key", path);
    return E_INVALID;
}

static enum status cannot_read(const char *path, char *err, size_t err_size)
{
    (void)snprintf(err, err_size, "%.150s: %s", path, strerror(errno));
    return E_IO;
}

static enum status check_mode(const struct stat *st, const char *path, char *err, size_t err_size)
{
    if (!S_ISREG(st->st_mode)) {
        (void)snprintf(err, err_size, "%.150s is not a file", path);
        return E_INVALID;
    }
    if (st->st_mode & (S_IWGRP | S_IWOTH)) {
        (void)snprintf(err, err_size, "%.150s can be written by others: chmod go-w", path);
        return E_INVALID;
    }
    if (st->st_mode & S_IROTH)
        log_line(LOG_WARN, "%.150s can be read by everybody on this machine", path);
    return OK;
}

enum status secret_file_check(const char *path, char *err, size_t err_size)
{
    struct stat st;
    if (stat(path, &st))
        return cannot_read(path, err, err_size);
    return check_mode(&st, path, err, err_size);
}

static enum status read_whole(int fd, size_t n, char *out)
{
    size_t at = 0;
    while (at < n) {
        ssize_t got = read(fd, out + at, n - at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return E_IO;
        at += (size_t)got;
    }
    return OK;
}

static enum status add_file(struct keys *k, int fd, const char *path, char *err, size_t err_size)
{
    struct stat st;
    if (fstat(fd, &st))
        return cannot_read(path, err, err_size);
    enum status s = check_mode(&st, path, err, err_size);
    if (s)
        return s;
    if (st.st_size > FILE_BYTES_MAX) {
        (void)snprintf(err, err_size, "%.150s is larger than 1 MiB", path);
        return E_INVALID;
    }
    size_t n = (size_t)st.st_size;
    char *text = malloc(n + 1);
    s = text ? read_whole(fd, n, text) : E_NOMEM;
    if (s)
        (void)snprintf(err, err_size, "%.150s: %s", path, status_text(s));
    else
        s = add_lines(k, text, n, path, err, err_size);
    if (text)
        OPENSSL_cleanse(text, n);
    free(text);
    return s;
}

static enum status add_path(struct keys *k, const char *path, char *err, size_t err_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cannot_read(path, err, err_size);
    enum status s = add_file(k, fd, path, err, err_size);
    (void)close(fd);
    return s;
}

enum status keys_open(struct keys **out, const struct text_list *given, const char *path, char *err,
                      size_t err_size)
{
    struct keys *k = calloc(1, sizeof(*k));
    enum status s = OK;
    if (!k) {
        (void)snprintf(err, err_size, "keys: %s", status_text(E_NOMEM));
        return E_NOMEM;
    }
    for (int32_t i = 0; i < given->n && s == OK; i++) {
        const char *wrong = add(k, given->item[i], strlen(given->item[i]), "", 0);
        if (wrong) {
            (void)snprintf(err, err_size, "--api-key: %s", wrong);
            s = E_INVALID;
        }
    }
    if (s == OK && path[0])
        s = add_path(k, path, err, err_size);
    if (s)
        keys_close(k);
    else
        *out = k;
    return s;
}

void keys_close(struct keys *k)
{
    free(k);
}

bool keys_asked(const struct keys *k)
{
    return k->n > 0;
}

/* Looks at every byte of every key, whatever it finds. */
bool keys_find(const struct keys *k, const char *key, struct key_holder *out)
{
    unsigned char digest[DIGEST_BYTES];
    const struct key *found = NULL;
    if (!digest_of(key, strlen(key), digest))
        return false;
    for (int32_t i = 0; i < k->n; i++)
        if (CRYPTO_memcmp(digest, k->key[i].digest, DIGEST_BYTES) == 0)
            found = &k->key[i];
    if (!found)
        return false;
    memcpy(&out->id, found->digest, sizeof(out->id));
    out->id |= 1; /* never 0 */
    memcpy(out->name, found->name, sizeof(out->name));
    return true;
}
