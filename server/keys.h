#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include "server/options.h"

/* The keys that clients send. Only their SHA-256 is kept, and only digests are compared, all of
 * them each time: neither a core file nor a clock tells a key. Loop thread only. */
struct keys;

enum { KEY_NAME_MAX = 32, KEY_BYTES_MAX = 256 };

struct key_holder {
    uint64_t id;             /* of the key, from its digest; 0: no key was asked for */
    char name[KEY_NAME_MAX]; /* from the file; "": none */
};

/* Keys of the command line, and those of a file: one a line, "KEY" or "KEY NAME", '#' begins a
 * comment. A file that others than its owner can write is refused. err: one line. */
enum status keys_open(struct keys **out, const struct text_list *given, const char *path, char *err,
                      size_t err_size) MUST_CHECK;
void keys_close(struct keys *k); /* NULL is fine */

/* No keys: everybody may pass. */
bool keys_asked(const struct keys *k);
/* The holder of this key; false: there is none. */
bool keys_find(const struct keys *k, const char *key, struct key_holder *out);

/* Whether only its owner can change it; says in the log when others can read it. Keys of TLS are
 * files of this kind, too. */
enum status secret_file_check(const char *path, char *err, size_t err_size) MUST_CHECK;

#endif
