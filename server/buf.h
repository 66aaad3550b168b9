#ifndef SERVER_BUF_H
#define SERVER_BUF_H

#include "kernels/base.h"

/* Bytes that grow. A buf that could not grow is marked failed, keeps what it had and
 * ignores what follows; the one who sends it checks `failed` once. So the writers
 * stay straight lines and a full memory costs one request, not the process. */
struct buf {
    char *data;
    size_t n;
    size_t room;
    bool failed;
};

void buf_free(struct buf *b);  /* leaves an empty, usable buf */
void buf_clear(struct buf *b); /* keeps the memory, forgets the bytes and the failure */
void buf_add(struct buf *b, const void *data, size_t n);
void buf_text(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Quoted and escaped; text must be valid UTF-8. */
void buf_json(struct buf *b, const char *text, size_t n);
void buf_json_text(struct buf *b, const char *text);

#endif
