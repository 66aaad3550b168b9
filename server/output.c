/* The texts of details lie in a list of chunks that never move, so that pointers stay
 * good while the array of details grows; details_clear() forgets all of them at once. */
#include "server/output.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 16384, ROOM_FIRST = 8 };

struct text_chunk {
    struct text_chunk *next;
    size_t n;
    char data[CHUNK_BYTES];
};

static_assert((int)CHUNK_BYTES >= (int)TOKEN_TEXT_MAX, "a token's text fits into an empty chunk");

/* -- log-probabilities -- */

/* Of a token by itself, perhaps a part of a character; a special one has its name. */
static size_t token_text(const struct tokenizer *t, int32_t token, char out[TOKEN_TEXT_MAX])
{
    size_t n = 0;
    const char *name = tokenizer_special_text(t, token, &n);
    if (!name)
        return tokenizer_bytes(t, token, out);
    memcpy(out, name, n);
    return n;
}

static bool set_text(struct details *d, const struct tokenizer *t, struct token_text *out,
                     int32_t token, float logprob)
{
    struct text_chunk *c = d->chunk;
    if (!c || CHUNK_BYTES - c->n < (size_t)TOKEN_TEXT_MAX) {
        c = malloc(sizeof(*c));
        if (!c)
            return false;
        c->next = d->chunk;
        c->n = 0;
        d->chunk = c;
    }
    char *at = c->data + c->n;
    *out = (struct token_text){.text = at, .token = token, .logprob = logprob};
    out->bytes = token_text(t, token, at);
    c->n += out->bytes;
    return true;
}

/* Doubles an array of `size`-byte elements when it is full. */
static void *grown(void *array, int32_t n, int32_t *room, size_t size)
{
    size_t bytes = 0;
    if (n < *room)
        return array;
    int32_t more = *room ? *room * 2 : ROOM_FIRST;
    if (more < n || !size_mul((size_t)more, size, &bytes))
        return NULL;
    void *larger = realloc(array, bytes);
    if (larger)
        *room = more;
    return larger;
}

bool details_add(struct details *d, const struct tokenizer *t, int32_t token,
                 const struct picked *p)
{
    struct token_detail *at = grown(d->list.at, d->list.n, &d->room, sizeof(*at));
    if (!at)
        return false;
    d->list.at = at;
    at += d->list.n;
    memset(at, 0, sizeof(*at));
    at->first = !p;
    if (!set_text(d, t, &at->drawn, token, p ? p->logprob : 0))
        return false;
    for (int32_t i = 0; p && i < p->n_top && i < LOGPROBS_MAX; i++) {
        if (!set_text(d, t, &at->top[i], p->top_token[i], p->top_logprob[i]))
            return false;
        at->n_top++;
    }
    d->list.n++;
    return true;
}

static void chunks_free(struct text_chunk *c)
{
    while (c) {
        struct text_chunk *next = c->next;
        free(c);
        c = next;
    }
}

void details_clear(struct details *d)
{
    d->list.n = 0;
    if (!d->chunk)
        return;
    chunks_free(d->chunk->next);
    d->chunk->next = NULL;
    d->chunk->n = 0;
}

void details_free(struct details *d)
{
    free(d->list.at);
    chunks_free(d->chunk);
    memset(d, 0, sizeof(*d));
}

/* -- text -- */

enum status output_open(struct output *o, const struct tokenizer *t, const struct gen_request *r)
{
    memset(o, 0, sizeof(*o));
    o->tokenizer = t;
    /* What continues a text keeps its leading blank; an answer in a chat does not. */
    o->cursor.started = (!r->chat.messages && !r->chat_prompt) || r->chat.continue_final;
    o->keep_ids = r->return_ids;
    o->show_specials = r->show_specials;
    o->shows_stop = r->include_stop;
    o->min_tokens = r->params.min_tokens;
    if (r->n_stops == 0)
        return OK;
    enum status s = stops_open(&o->stops, r->include_stop);
    for (int32_t i = 0; i < r->n_stops && s == OK; i++)
        s = stops_add(o->stops, r->stop[i].text, r->stop[i].bytes);
    return s;
}

void output_close(struct output *o)
{
    stops_close(o->stops);
    buf_free(&o->text);
    details_free(&o->detail);
    free(o->token);
    memset(o, 0, sizeof(*o));
}

static void show(struct output *o, const char *text, size_t bytes)
{
    if (o->stops && o->n_seen >= o->min_tokens)
        o->stopped = stops_feed(o->stops, text, bytes, &o->text);
    else
        buf_add(&o->text, text, bytes);
    o->failed |= o->text.failed;
}

static bool keep_id(struct output *o, int32_t token)
{
    int32_t *ids = grown(o->token, o->n_token, &o->token_room, sizeof(*ids));
    if (!ids)
        return false;
    o->token = ids;
    o->token[o->n_token++] = token;
    return true;
}

void output_token(struct output *o, int32_t token, const struct picked *p)
{
    char text[TOKEN_TEXT_MAX];
    size_t bytes = 0;
    if (o->stopped)
        return;
    o->n_seen++;
    const char *name =
        o->show_specials ? tokenizer_special_text(o->tokenizer, token, &bytes) : NULL;
    if (name)
        show(o, text, tokenizer_flush(&o->cursor, text));
    else
        bytes = tokenizer_decode(o->tokenizer, &o->cursor, token, text);
    if (!o->stopped)
        show(o, name ? name : text, bytes);
    if (o->keep_ids && !keep_id(o, token))
        o->failed = true;
    if (p && (!o->stopped || o->shows_stop) && !details_add(&o->detail, o->tokenizer, token, p))
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
    details_clear(&o->detail);
    o->n_token = 0;
}

void output_decode(struct buf *out, const struct tokenizer *t, const int32_t *ids, size_t n)
{
    char text[TOKEN_TEXT_MAX];
    struct token_cursor cursor = {.started = false};
    for (size_t i = 0; i < n; i++)
        buf_add(out, text, tokenizer_decode(t, &cursor, ids[i], text));
    buf_add(out, text, tokenizer_flush(&cursor, text));
}
