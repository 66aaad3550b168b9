#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/tok_priv.h"
#include "models/unicode.h"

/* tokenizer.model, in its two forms. SentencePiece's is a protobuf message of which a few
 * fields matter; it is read in one pass, each length against what is left, each unknown
 * field stepped over. Llama 3's is lines of "base64 rank", the pieces as bytes in the order
 * of merging; its special tokens are in no file of its own, so they come from
 * tokenizer_config.json or, for the one vocabulary known by its size, from here. */

struct model_file {
    struct tok_parts parts;
    struct tok_text *piece; /* [n] and as many as added tokens need */
    float *score;
    uint8_t *kind;
    char *bytes; /* the pieces of base64 */
    char *names; /* of special tokens no file names */
    struct token_list added;
    const struct complaint *c;
    uint32_t n;
    uint32_t cap;
};

static enum status no_memory(const struct model_file *m)
{
    return complain(m->c, E_NOMEM, "no memory for the vocabulary");
}

static enum status make_room(struct model_file *m, uint32_t n)
{
    if (n <= m->cap)
        return OK;
    if (n > TOK_VOCAB_MAX)
        return complain(m->c, E_FORMAT, "more than %d pieces", TOK_VOCAB_MAX);
    uint32_t cap = n < 1024 ? 1024 : n + n / 2;
    struct tok_text *piece = realloc(m->piece, cap * sizeof(*piece));
    m->piece = piece ? piece : m->piece;
    float *score = realloc(m->score, cap * sizeof(*score));
    m->score = score ? score : m->score;
    uint8_t *kind = realloc(m->kind, cap);
    m->kind = kind ? kind : m->kind;
    if (!piece || !score || !kind)
        return no_memory(m);
    m->cap = cap;
    return OK;
}

static enum status push_piece(struct model_file *m, const struct tok_text *text, float score,
                              enum part_kind kind)
{
    enum status s = make_room(m, m->n + 1);
    if (s)
        return s;
    m->piece[m->n] = *text;
    m->score[m->n] = score;
    m->kind[m->n++] = (uint8_t)kind;
    return OK;
}

/* --- protobuf --- */

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5, WIRE_MASK = 7 };

struct field {
    uint64_t number;
    uint64_t value; /* WIRE_VARINT, WIRE_32 */
    struct tok_text bytes;
    enum wire wire;
};

static bool read_varint(const char **p, const char *end, uint64_t *out)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t byte = (uint8_t) * (*p)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* false: not a message. */
static bool read_field(const char **p, const char *end, struct field *f)
{
    uint64_t key;
    if (!read_varint(p, end, &key))
        return false;
    *f = (struct field){.number = key >> 3, .wire = (enum wire)(key & WIRE_MASK)};
    size_t left = (size_t)(end - *p);
    uint64_t n = 0;
    switch (f->wire) {
    case WIRE_VARINT:
        return read_varint(p, end, &f->value);
    case WIRE_64:
        n = 8;
        break;
    case WIRE_32:
        n = 4;
        break;
    case WIRE_BYTES:
        if (!read_varint(p, end, &n))
            return false;
        left = (size_t)(end - *p);
        break;
    default:
        return false;
    }
    if (n > left)
        return false;
    f->bytes = (struct tok_text){*p, (size_t)n};
    for (int i = 0; f->wire == WIRE_32 && i < 4; i++)
        f->value |= (uint64_t)(uint8_t)(*p)[i] << 8 * i;
    *p += n;
    return true;
}

static enum status damaged(const struct model_file *m, const char *what)
{
    return complain(m->c, E_FORMAT, "%s is damaged", what);
}

static enum status read_piece(struct model_file *m, const struct tok_text *message)
{
    enum { TEXT = 1, SCORE = 2, TYPE = 3 };
    const char *p = message->text;
    const char *end = p + message->bytes;
    struct tok_text text = {NULL, 0};
    uint32_t bits = 0;
    uint64_t kind = PART_TEXT;
    while (p < end) {
        struct field f;
        if (!read_field(&p, end, &f))
            return damaged(m, "a piece");
        if (f.number == TEXT && f.wire == WIRE_BYTES)
            text = f.bytes;
        else if (f.number == SCORE && f.wire == WIRE_32)
            bits = (uint32_t)f.value;
        else if (f.number == TYPE && f.wire == WIRE_VARINT)
            kind = f.value;
    }
    float score;
    memcpy(&score, &bits, sizeof(score));
    if (!text.text || kind < PART_TEXT || kind >= PART_KINDS)
        return damaged(m, "a piece");
    return push_piece(m, &text, score, (enum part_kind)kind);
}

/* Numbers of a message by field number; what is no small number is no business of ours. */
enum { NUMBERS = 64 };

static enum status read_numbers(struct model_file *m, const struct tok_text *message,
                                const char *what, uint64_t number[NUMBERS], size_t bytes[NUMBERS])
{
    const char *p = message->text;
    const char *end = p + message->bytes;
    while (p < end) {
        struct field f;
        if (!read_field(&p, end, &f))
            return damaged(m, what);
        if (f.number >= NUMBERS)
            continue;
        if (f.wire == WIRE_VARINT)
            number[f.number] = f.value;
        bytes[f.number] = f.bytes.bytes;
    }
    return OK;
}

static enum status read_trainer(struct model_file *m, const struct tok_text *message)
{
    enum { MODEL_TYPE = 3, SUFFIX = 24, BOS_ID = 41, UNIGRAM = 1, BPE = 2 };
    uint64_t number[NUMBERS] = {[MODEL_TYPE] = UNIGRAM, [BOS_ID] = 1};
    size_t bytes[NUMBERS] = {0};
    enum status s = read_numbers(m, message, "trainer_spec", number, bytes);
    if (s)
        return s;
    if (number[MODEL_TYPE] != BPE)
        return complain(m->c, E_UNSUPPORTED,
                        "SentencePiece model type %llu%s is not supported, "
                        "only BPE",
                        (unsigned long long)number[MODEL_TYPE],
                        number[MODEL_TYPE] == UNIGRAM ? " (unigram)" : "");
    if (number[SUFFIX])
        return complain(m->c, E_UNSUPPORTED, "blanks behind words are not supported");
    m->parts.bos = number[BOS_ID] < TOK_VOCAB_MAX ? (int32_t)number[BOS_ID] : -1;
    return OK;
}

static enum status read_normalizer(struct model_file *m, const struct tok_text *message)
{
    enum { CHARSMAP = 2, DUMMY_PREFIX = 3, SQUEEZE = 4, ESCAPE = 5 };
    uint64_t number[NUMBERS] = {[DUMMY_PREFIX] = 1, [SQUEEZE] = 1, [ESCAPE] = 1};
    size_t bytes[NUMBERS] = {0};
    enum status s = read_numbers(m, message, "normalizer_spec", number, bytes);
    if (s)
        return s;
    if (bytes[CHARSMAP] || !number[ESCAPE])
        return complain(m->c, E_UNSUPPORTED,
                        "SentencePiece's own normalization is not supported: a tokenizer.json "
                        "beside the file would be used instead");
    m->parts.blank_first = number[DUMMY_PREFIX] != 0;
    m->parts.squeeze = number[SQUEEZE] != 0;
    return OK;
}

static enum status read_message(struct model_file *m, const char *p, size_t bytes)
{
    enum { PIECE = 1, TRAINER = 2, NORMALIZER = 3 };
    const char *end = p + bytes;
    bool trained = false;
    enum status s = OK;
    m->parts.blank_first = true;
    m->parts.squeeze = true;
    while (p < end && s == OK) {
        struct field f;
        if (!read_field(&p, end, &f))
            return damaged(m, "the file");
        if (f.wire != WIRE_BYTES)
            continue;
        if (f.number == PIECE) {
            s = read_piece(m, &f.bytes);
        } else if (f.number == TRAINER) {
            s = read_trainer(m, &f.bytes);
            trained = true;
        } else if (f.number == NORMALIZER) {
            s = read_normalizer(m, &f.bytes);
        }
    }
    if (s == OK && !trained)
        s = complain(m->c, E_FORMAT, "trainer_spec is missing");
    return s;
}

/* --- base64 and ranks --- */

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Up to the blank at end; false: not base64. */
static bool read_base64(const char *p, const char *end, char *out, size_t *bytes)
{
    size_t n = 0;
    if (end == p || (end - p) % 4)
        return false;
    for (; p < end; p += 4) {
        uint32_t bits = 0;
        int pads = p + 4 == end ? (p[3] == '=') + (p[3] == '=' && p[2] == '=') : 0;
        for (int i = 0; i < 4; i++) {
            int value = i >= 4 - pads ? 0 : base64_value(p[i]);
            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (int i = 0; i < 3 - pads; i++)
            out[n++] = (char)(bits >> (16 - 8 * i) & 0xff);
    }
    *bytes = n;
    return true;
}

/* The rank behind the blank must be the number of the line. */
static bool read_rank(const char *p, const char *end, uint32_t want)
{
    uint64_t rank = 0;
    if (p == end || end - p > 9)
        return false;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return false;
        rank = rank * 10 + (uint64_t)(*p - '0');
    }
    return rank == want;
}

static enum status read_lines(struct model_file *m, const char *p, size_t bytes)
{
    const char *end = p + bytes;
    m->bytes = malloc(bytes);
    if (!m->bytes)
        return no_memory(m);
    char *to = m->bytes;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        const char *space = memchr(p, ' ', (size_t)(stop - p));
        struct tok_text text = {to, 0};
        if (!space || !read_base64(p, space, to, &text.bytes) || !read_rank(space + 1, stop, m->n))
            return complain(m->c, E_FORMAT, "line %u is not a piece in base64 and its number",
                            m->n + 1);
        to += text.bytes;
        enum status s = push_piece(m, &text, 0, PART_TEXT);
        if (s)
            return s;
        p = stop < end ? stop + 1 : end;
    }
    return OK;
}

enum { LLAMA3_PIECES = 128000, LLAMA4_PIECES = 200000, LLAMA3_SPECIALS = 256, NAME_BYTES = 40 };

/* Llama 3.1's names; a directory of 3.0 brings its own in tokenizer_config.json. */
static enum status name_specials(struct model_file *m)
{
    static const char *const known[] = {
        [0] = "<|begin_of_text|>",   [1] = "<|end_of_text|>",   [4] = "<|finetune_right_pad_id|>",
        [6] = "<|start_header_id|>", [7] = "<|end_header_id|>", [8] = "<|eom_id|>",
        [9] = "<|eot_id|>",          [10] = "<|python_tag|>"};
    m->names = malloc((size_t)LLAMA3_SPECIALS * NAME_BYTES);
    if (!m->names)
        return no_memory(m);
    int reserved = 0;
    for (uint32_t i = 0; i < LLAMA3_SPECIALS; i++) {
        char *name = m->names + (size_t)i * NAME_BYTES;
        if (i < ARRAY_LEN(known) && known[i])
            (void)snprintf(name, NAME_BYTES, "%s", known[i]);
        else
            (void)snprintf(name, NAME_BYTES, "<|reserved_special_token_%d|>", reserved++);
        const struct token_entry e = {
            .text = name, .bytes = strlen(name), .id = (int32_t)(m->n + i), .special = true};
        enum status s = tokens_push(&m->added, &e, m->c);
        if (s)
            return s;
    }
    return OK;
}

static enum status read_ranks(struct model_file *m, const char *p, size_t bytes)
{
    enum status s = read_lines(m, p, bytes);
    if (s)
        return s;
    m->parts.bos = -1;
    m->parts.raw_bytes = true;
    m->parts.pre = m->n == LLAMA4_PIECES ? "llama4" : "llama-bpe";
    if (m->added.n == 0 && m->n == LLAMA3_PIECES)
        s = name_specials(m);
    else if (m->added.n == 0)
        s = complain(m->c, E_UNSUPPORTED,
                     "the special tokens of %u pieces are not known: " TOK_CONFIG_FILE
                     " is missing or has no added_tokens_decoder",
                     m->n);
    for (size_t i = 0; i < m->added.n; i++) {
        if (strcmp(m->added.entry[i].text, "<|begin_of_text|>") == 0)
            m->parts.bos = m->added.entry[i].id;
    }
    return s;
}

/* --- the whole --- */

/* Added tokens have their ids behind the pieces, or are pieces. */
static enum status place_added(struct model_file *m)
{
    static const struct tok_text none = {"", 0};
    for (size_t i = 0; i < m->added.n; i++) {
        while ((uint32_t)m->added.entry[i].id >= m->n) {
            enum status s = push_piece(m, &none, 0, PART_UNUSED);
            if (s)
                return s;
        }
    }
    return OK;
}

static enum status read_file(struct model_file *m, const char *text, size_t bytes)
{
    /* A message begins with its first piece, a line with a letter. */
    bool message = bytes > 0 && text[0] == '\n';
    m->parts = (struct tok_parts){.bos = -1, .unk = -1, .add_bos = 1};
    enum status s = message ? read_message(m, text, bytes) : read_ranks(m, text, bytes);
    if (s == OK)
        s = place_added(m);
    if (s)
        return s;
    m->parts.piece = m->piece;
    m->parts.kind = m->kind;
    m->parts.score = message ? m->score : NULL;
    m->parts.n_pieces = m->n;
    m->parts.added = &m->added;
    if (m->parts.bos >= (int64_t)m->n)
        m->parts.bos = -1;
    return OK;
}

enum status tok_load_model(struct tokenizer *t, const struct tok_trees *trees, const char *text,
                           size_t bytes, const struct complaint *c)
{
    struct model_file m = {.c = c};
    enum status s = tokens_gather(&m.added, trees, c);
    if (s == OK)
        s = read_file(&m, text, bytes);
    if (s == OK)
        s = parts_assemble(t, &m.parts, c);
    tokens_free(&m.added);
    free(m.piece);
    free(m.score);
    free(m.kind);
    free(m.bytes);
    free(m.names);
    return s ? s : tok_config_bos(t, trees->config, c);
}
