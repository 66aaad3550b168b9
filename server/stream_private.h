#ifndef SERVER_STREAM_PRIVATE_H
#define SERVER_STREAM_PRIVATE_H

#include "server/branch.h"
#include "server/stream.h"
#include "server/wishes.h"

#include <uv.h>

/* Shared by stream.c (a request's life, and its way down to the scheduler) and stream_out.c (the
 * answer on its way up).
 *
 * A stream has up to three holders: the connection (`conn`, until it has its answer or its
 * peer has gone), a worker thread (`working`), the scheduler (`n_running` branches, until the
 * finish of each has been read). Each lets go by itself and stream_maybe_free() frees when all
 * three have. */

struct stream {
    struct stream_env *env;
    struct stream *next;
    struct stream *prev;
    struct conn *conn; /* NULL: has let go */
    uv_work_t work;
    bool working;
    struct served *served;
    struct exchange x;
    char model[MODEL_BYTES_MAX + 1]; /* named by the route; "": by the body */
    struct buf body;                 /* a copy, for a parse off the loop */
    struct gen_request gen;
    enum status status; /* of the worker */
    struct api_error err;
    struct prompt_ids *prompt; /* [n_prompts] */
    int32_t n_prompts;
    struct branch *branch; /* [answer.n_choices] */
    int32_t n_running;     /* branches that the scheduler has */
    int32_t n_places;      /* of env->n_live */
    struct answer answer;
    struct buf piece;
    uint64_t sent_ns; /* when a piece last went out */
    bool begun;       /* the head of a stream has been given to the connection */
    bool opened;      /* and what the format puts before its first event */
    bool cut;         /* the process ends before the answer does */
};

/* stream.c */
void stream_maybe_free(struct stream *st);
void stream_cancel(struct stream *st);
/* Nothing has been sent yet. The connection lets go; what runs is cancelled. */
void stream_refuse(struct stream *st); /* for what st->err says */
void stream_refuse_with(struct stream *st, enum api_error_kind kind);
void stream_on_gone(void *arg); /* the connection's word that its peer has left */

/* stream_out.c */
/* What the scheduler has by now; true when something was new. */
bool stream_read_news(struct stream *st);
/* Header lines about the model's load: those that were asked for and those of the format. */
enum { LOAD_LINES_MAX = LOAD_LINE_MAX + LIMIT_LINES_MAX };
void stream_load_lines(const struct stream *st, char out[LOAD_LINES_MAX]);
/* The piece is the answer. */
void stream_send_whole(struct stream *st, int32_t n_prompt, uint64_t first_ns);

#endif
