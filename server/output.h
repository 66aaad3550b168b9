#ifndef SERVER_OUTPUT_H
#define SERVER_OUTPUT_H

#include "models/tokenizer.h"
#include "server/stops.h"
#include "server/wire.h"

/* Tokens in, text out: what of one answer may be shown by now. Decoding, stop strings
 * and, when log-probabilities were asked for, the text of every token. Knows neither
 * connections nor the scheduler. */
struct output {
    const struct tokenizer *tokenizer;
    struct token_cursor cursor;
    struct stops *stops;         /* NULL: no stop strings */
    struct buf text;             /* may be sent and is not sent yet */
    struct token_detail *detail; /* [n_detail], of the tokens since output_sent() */
    int32_t n_detail;
    int32_t detail_room;
    struct text_chunk *chunk; /* holds what the details point to */
    bool stopped;             /* a stop string is complete: the answer has ended */
    bool failed;              /* memory ran out: the answer is not whole */
};

/* E_NOMEM. r is only read now. */
enum status output_open(struct output *o, const struct tokenizer *t,
                        const struct gen_request *r) MUST_CHECK;
void output_close(struct output *o); /* also after a failed open; zeroed is fine */

/* p only with log-probabilities. */
void output_token(struct output *o, int32_t token, const struct picked *p);
/* The answer has ended: what was held back becomes text. */
void output_end(struct output *o);
/* What was there has been written. */
void output_sent(struct output *o);

#endif
