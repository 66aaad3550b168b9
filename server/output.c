#include "server/output.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The texts of details lie in a list of chunks that never move, so that pointers stay
 * good while the array of details grows; output_sent() forgets all of them at once. */

enum { CHUNK_BYTES = 16384, DETAILS_FIRST = 8 };

struct text_chunk {
    struct text_chunk *next;
    size_t n;
    char data[CHUNK_BYTES];
};

static_assert(CHUNK_BYTES >= 2 * TOKEN_TEXT_MAX, "a token's text fits into an empty chunk");

enum status output_open(struct output *o, const struct tokenizer *t, const struct gen_request *r)
{
    memset(o, 0, sizeof(*o));
    o->tokenizer = t;
    /* What continues a text keeps its leading blank; an answer in a chat does not. */
    o->cursor.started = !r->chat.messages && !r->chat_prompt;
    if (r->n_stops == 0)
        return OK;
    enum status s = stops_open(&o->stops);
    for (int32_t i = 0; i < r->n_stops && s == OK; i++)
        s = stops_add(o->stops, r->stop[i].text, r->stop[i].bytes);
    return s;
}

void output_close(struct output *o)
{
    stops_close(o->stops);
    buf_free(&o->text);
    free(o->detail);
    while (o->chunk) {
        struct text_chunk *next = o->chunk->next;
        free(o->chunk);
        o->chunk = next;
    }
    memset(o, 0, sizeof(*o));
}

/* Text of a token by itself, as log-probabilities show it. NULL: no memory. */
static const char *token_text(struct output *o, int32_t token, size_t *bytes)
{
    struct text_chunk *c = o->chunk;
    if (!c || CHUNK_BYTES - c->n < (size_t)2 * TOKEN_TEXT_MAX) {
        c = malloc(sizeof(*c));
        if (!c)
            return NULL;
        c->next = o->chunk;
        c->n = 0;
        o->chunk = c;
    }
    struct token_cursor alone = {.started = true};
    char *at = c->data + c->n;
    *bytes = tokenizer_decode(o->tokenizer, &alone, token, at);
    *bytes += tokenizer_flush(&alone, at + *bytes);
    c->n += *bytes;
    return at;
}

static bool detail_reserve(struct output *o)
{
    if (o->n_detail < o->detail_room)
        return true;
    int32_t room = o->detail_room ? o->detail_room * 2 : DETAILS_FIRST;
    size_t bytes = 0;
    if (!size_mul((size_t)room, sizeof(*o->detail), &bytes))
        return false;
    struct token_detail *grown = realloc(o->detail, bytes);
    if (!grown)
        return false;
    o->detail = grown;
    o->detail_room = room;
    return true;
}

static bool add_detail(struct output *o, int32_t token, const struct picked *p)
{
    if (!detail_reserve(o))
        return false;
    struct token_detail *d = &o->detail[o->n_detail];
    memset(d, 0, sizeof(*d));
    d->text = token_text(o, token, &d->bytes);
    d->logprob = p->logprob;
    if (!d->text)
        return false;
    for (int32_t i = 0; i < p->n_top && i < LOGPROBS_MAX; i++) {
        d->top[i].text = token_text(o, p->top_token[i], &d->top[i].bytes);
        d->top[i].logprob = p->top_logprob[i];
        if (!d->top[i].text)
            return false;
        d->n_top++;
    }
    o->n_detail++;
    return true;
}

static void show(struct output *o, const char *text, size_t bytes)
{
    if (o->stops)
        o->stopped = stops_feed(o->stops, text, bytes, &o->text);
    else
        buf_add(&o->text, text, bytes);
    o->failed |= o->text.failed;
}

void output_token(struct output *o, int32_t token, const struct picked *p)
{
    char text[TOKEN_TEXT_MAX];
    if (o->stopped)
        return;
    show(o, text, tokenizer_decode(o->tokenizer, &o->cursor, token, text));
    if (p && !o->stopped && !add_detail(o, token, p))
        o->failed = true;
}

void output_end(struct output *o)
{
    char text[TOKEN_TEXT_MAX];
    if (o->stopped)
        return;
    show(o, text, tokenizer_flush(&o->cursor, text));
    if (o->stops && !o->stopped)
        stops_flush(o->stops, &o->text);
    o->failed |= o->text.failed;
}

void output_sent(struct output *o)
{
    buf_clear(&o->text);
    o->n_detail = 0;
    while (o->chunk && o->chunk->next) {
        struct text_chunk *next = o->chunk->next;
        free(o->chunk);
        o->chunk = next;
    }
    if (o->chunk)
        o->chunk->n = 0;
}
