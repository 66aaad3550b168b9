#ifndef SERVER_BRANCH_H
#define SERVER_BRANCH_H

#include "server/metrics.h"
#include "server/output.h"
#include "server/prompt.h"

/* One choice of an answer being made: a request of the scheduler and the text that its tokens
 * become. Knows no connection. Loop thread only. */

struct branch {
    struct stream *stream; /* whose; not looked into here */
    struct sched *sched;
    struct model_metrics *metrics;
    const struct gen_request *gen;
    const struct prompt_ids *prompt;
    struct choice *choice;
    struct sched_req *req; /* NULL: not submitted, or released */
    struct output output;
    struct details judged; /* of the prompt's tokens, when they are wanted by themselves */
    struct sched_timing timing;
    enum sched_finish finish; /* SCHED_RUNNING until the finish has been read */
    uint64_t arrived_ns;
    uint64_t news_ns;    /* when the scheduler last rang for it, whether or not that was read */
    uint64_t counted_ns; /* news_ns of the tokens that were counted last */
    bool news;           /* the scheduler has something that was not read */
    bool echoed;
    bool told; /* its end has been written */
};

enum status branch_open(struct branch *b, const struct tokenizer *t) MUST_CHECK;
void branch_close(struct branch *b); /* also after a failed open; zeroed is fine */

/* The scheduler has something for it. */
void branch_on_news(struct branch *b);
/* Everything the scheduler has by now becomes text; at the finish its request is released.
 * False: nothing was new. */
bool branch_read(struct branch *b);
void branch_cancel(struct branch *b);

/* What happened to one that has finished: false with err's kind, or the choice's finish. */
bool branch_ended_well(struct branch *b, struct api_error *err);

/* The choice shows what is new; false: nothing is. */
bool branch_show(struct branch *b);
/* What it showed has been written. */
void branch_sent(struct branch *b);

#endif
