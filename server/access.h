#ifndef SERVER_ACCESS_H
#define SERVER_ACCESS_H

#include "server/options.h"

/* The access log: one line a request, for machines to read. It says who asked for which route and
 * what it cost, never what was said: no target, no prompt, no key. Lines are gathered and written
 * when the loop has nothing else to do. Loop thread only. */
struct access_log;

struct access_entry {
    const char *id;      /* X-Request-Id: printable, without blanks */
    const char *address; /* "" when it is not known */
    const char *key;     /* the name of the key; "": none */
    const char *method;  /* of the route */
    const char *route;   /* the pattern, not what the client typed */
    int code;
    size_t body_bytes;
    int32_t n_prompt;
    int32_t n_answer;
    double first_ms; /* 0: no token */
    double total_ms;
};

/* path "": standard error. err: one line. *out NULL when form is ACCESS_OFF. */
enum status access_open(struct access_log **out, int32_t form, const char *path, char *err,
                        size_t err_size) MUST_CHECK;
void access_close(struct access_log *a); /* NULL is fine, here and below */
void access_write(struct access_log *a, const struct access_entry *e);
void access_flush(struct access_log *a);
/* After the file has been moved away. When that fails the old one is written on. */
void access_reopen(struct access_log *a);

#endif
