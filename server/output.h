#ifndef SERVER_OUTPUT_H
#define SERVER_OUTPUT_H

#include "models/tokenizer.h"
#include "server/stops.h"
#include "server/wire.h"

/* Tokens in, text out: what of one answer may be shown by now. Decoding, stop strings
 * and, when log-probabilities were asked for, the text of every token. Knows neither
 * connections nor the scheduler. */

/* Log-probabilities with the texts that they point to. Zeroed is empty. */
struct details {
    struct detail_list list;
    int32_t room;
    struct text_chunk *chunk;
};

/* p NULL: the first token of a prompt, which has no probability. False: no memory. */
bool details_add(struct details *d, const struct tokenizer *t, int32_t token,
                 const struct picked *p) MUST_CHECK;
void details_clear(struct details *d); /* keeps memory for the next ones */
void details_free(struct details *d);

struct output {
    const struct tokenizer *tokenizer;
    struct token_cursor cursor;
    struct stops *stops;   /* NULL: no stop strings */
    struct buf text;       /* may be sent and is not sent yet */
    struct details detail; /* of the tokens since output_sent() */
    int32_t *token;        /* [n_token], likewise, when ids are kept */
    int32_t n_token;
    int32_t token_room;
    int32_t n_seen;     /* tokens of the whole answer */
    int32_t min_tokens; /* before so many no stop string counts */
    bool keep_ids;
    bool show_specials;
    bool shows_stop; /* the stop string is a part of the text */
    bool stopped;    /* a stop string is complete: the answer has ended */
    bool failed;     /* memory ran out: the answer is not whole */
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

/* Appends the text of these tokens, without the special ones. */
void output_decode(struct buf *out, const struct tokenizer *t, const int32_t *ids, size_t n);

#endif
