#ifndef SERVER_PROGRESS_H
#define SERVER_PROGRESS_H

#include "kernels/base.h"

/* How far the loading of weights has come, on stderr: a bar that is redrawn where
 * stderr is a terminal, now and then a log line where it is not. One thread. */
struct progress {
    const char *what;
    bool tty;
    bool drawn;
    uint64_t start_ns;
    uint64_t shown_ns;
};

void progress_start(struct progress *p, const char *what);
/* A model_progress_fn; arg is the struct progress. */
void progress_update(void *arg, uint64_t done, uint64_t total);
/* Wipes the bar. */
void progress_end(struct progress *p);

/* "1.25 GB", "14.0 MB". */
enum { BYTES_TEXT_MAX = 32 };
void bytes_text(char out[BYTES_TEXT_MAX], uint64_t bytes);

#endif
