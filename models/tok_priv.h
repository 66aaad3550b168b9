#ifndef MODELS_TOK_PRIV_H
#define MODELS_TOK_PRIV_H

#include "models/jsonfile.h"
#include "models/tok_parts.h"
#include "models/tokenizer.h"

/* Inside of the tokenizer: tok_load.c fills it from the files (tok_steps.c reads what
 * stands around the vocabulary), tok_added.c finds added tokens in text, tok_vocab.c
 * pieces and merges, tok_split.c cuts text into words, tok_bpe.c merges the symbols of a
 * word, tokenizer.c puts it together. */

enum {
    /* The largest vocabularies that are known have 262,144 pieces and 580,000 merges. */
    TOK_VOCAB_MAX = 1 << 20,
    TOK_MERGES_MAX = 1 << 21,
    TOK_ADDED_MAX = 1 << 18,
    /* Three held bytes and a whole piece of garbage still fit, each byte as U+FFFD. */
    TOK_PIECE_MAX = TOKEN_TEXT_MAX / 3 - 4,
    /* How a file spells a piece: a byte takes up to two in GPT-2's alphabet. */
    TOK_NAME_BYTES_MAX = 2 * TOK_PIECE_MAX,
    TOK_FILE_BYTES_MAX = 64 << 20,
    TOK_FILE_NODES_MAX = 1 << 23,
};

/* U+2581, how SentencePiece writes a space inside of a piece. */
#define BLANK "\xe2\x96\x81"
enum { BLANK_BYTES = 3 };

enum piece_kind {
    PIECE_NONE,    /* no such id */
    PIECE_TEXT,    /* ordinary; the only kind that text is ever encoded to */
    PIECE_BYTE,    /* "<0x0A>" of a vocabulary with byte fallback */
    PIECE_ADDED,   /* an added token that is not special, or a piece no text leads to */
    PIECE_SPECIAL, /* decoded to nothing */
};

/* Texts lie one behind the other in one arena. The hash holds PIECE_TEXT alone, so a
 * lookup of what a user wrote cannot end at a special token. */
struct vocab {
    char *bytes;      /* [bytes_max] */
    uint32_t *start;  /* [n] where in bytes the text of an id begins */
    uint16_t *length; /* [n] */
    uint8_t *kind;    /* [n] enum piece_kind */
    uint32_t *slot;   /* [slot_mask + 1] id + 1, or 0 */
    size_t n_bytes;
    size_t bytes_max;
    uint32_t slot_mask;
    uint32_t n; /* highest id + 1 */
};

struct merge {
    uint32_t left;
    uint32_t right;
    uint32_t rank; /* lower merges earlier; TOK_NO_RANK: a free slot */
    uint32_t result;
};

struct merges {
    struct merge *slot; /* [mask + 1] */
    uint32_t mask;
};

#define TOK_NO_RANK UINT32_MAX

/* A token that is found in text before words are. */
struct added {
    const char *text; /* into the set's */
    int32_t id;
    uint16_t bytes; /* at least 1 */
    bool special;
    bool guarded; /* one only where a template wrote it */
    bool lstrip;  /* takes the blanks in front of it, or behind it */
    bool rstrip;
    bool single_word; /* only where no letter touches it */
};

struct added_set {
    struct added *token; /* [n] sorted by their bytes */
    char *text;          /* all of their texts */
    uint32_t n;
    uint16_t shortest; /* in bytes */
    bool begins[256];  /* one of them begins with this byte */
};

/* How text becomes words. */
enum tok_pattern { PATTERN_ALL, PATTERN_GPT2, PATTERN_LLAMA3, PATTERN_QWEN2 };

/* Where SentencePiece's blank is put in front of a text. */
enum tok_prefix {
    PREFIX_NONE,
    PREFIX_ALWAYS,  /* even in front of another blank */
    PREFIX_MISSING, /* unless there is one */
    PREFIX_FIRST,   /* unless there is one, and only at the beginning of the sequence */
};

/* One step of cutting text into words. */
enum cut_kind { CUT_PATTERN, CUT_REGEX, CUT_DIGIT, CUT_PUNCTUATION, CUT_TEXT };

/* What becomes of a match: a piece, nothing, a part of the gap before or behind it, or
 * one piece with the matches that touch it. */
enum cut_way { CUT_ISOLATED, CUT_REMOVED, CUT_WITH_PREVIOUS, CUT_WITH_NEXT, CUT_CONTIGUOUS };

enum { TOK_STEPS_MAX = 8, STEP_TEXT_MAX = 32 };

struct tok_regex;

struct cut_step {
    enum cut_kind kind;
    enum cut_way way;
    enum tok_pattern pattern; /* of CUT_PATTERN */
    struct tok_regex *regex;  /* of CUT_REGEX */
    char text[STEP_TEXT_MAX]; /* of CUT_TEXT */
    uint32_t text_bytes;
    bool invert; /* gaps are the matches */
};

/* One step of making text over before it is cut. */
enum norm_kind {
    NORM_NFC,
    NORM_NFD,
    NORM_NFKC,
    NORM_NFKD,
    NORM_LOWER,
    NORM_STRIP,
    NORM_SQUEEZE, /* spaces at both ends go, others become one */
    NORM_PREPEND,
    NORM_REPLACE,
    NORM_REGEX,
};

struct norm_step {
    enum norm_kind kind;
    bool left; /* NORM_STRIP */
    bool right;
    struct tok_regex *regex;  /* NORM_REGEX */
    char from[STEP_TEXT_MAX]; /* NORM_REPLACE */
    char to[STEP_TEXT_MAX];   /* and NORM_REGEX, NORM_PREPEND */
    uint32_t from_bytes;
    uint32_t to_bytes;
};

struct tokenizer {
    struct vocab vocab;
    struct merges merges;
    int32_t byte_id[256]; /* piece of a byte; -1: none */
    struct added_set added;
    int32_t bos;
    int32_t unk;                        /* -1: none */
    int32_t blank_id;                   /* piece of U+2581; -1: none */
    struct cut_step cut[TOK_STEPS_MAX]; /* [n_cuts] */
    uint32_t n_cuts;
    struct norm_step norm[TOK_STEPS_MAX]; /* [n_norms] */
    uint32_t n_norms;
    uint32_t growth; /* a byte of text becomes at most so many, */
    uint32_t front;  /* and so many more of each stretch of text */
    enum tok_prefix prefix;
    bool byte_level;    /* pieces are bytes in GPT-2's alphabet; else SentencePiece's way */
    bool byte_fallback; /* characters without a piece become <0x..> */
    bool fuse_unk;
    bool ignore_merges; /* a word that is a piece is that piece */
    bool space_first;   /* byte-level: a space goes in front of a text that has none */
    bool blanks;        /* ' ' is encoded as U+2581 */
    bool blanks_out;    /* U+2581 is decoded as ' ' */
    bool cut_blanks;    /* every blank begins a word */
    bool cut_words;     /* no merge crosses into a blank: cutting there changes nothing */
    bool strip_blank;   /* decoding drops one leading blank */
};

/* What the files say of an added token; the text belongs to their tree. */
struct token_entry {
    const char *text;
    size_t bytes;
    int32_t id;
    bool special;
    bool lstrip;
    bool rstrip;
    bool single_word;
};

struct token_list {
    struct token_entry *entry; /* [n] */
    size_t n;
    size_t cap;
};

/* The files of a model as trees; NULL: not there. */
struct tok_trees {
    cJSON *json;   /* TOK_JSON_FILE */
    cJSON *config; /* TOK_CONFIG_FILE */
    cJSON *map;    /* TOK_MAP_FILE */
    cJSON *older;  /* TOK_OLDER_FILE */
};

#define TOK_JSON_FILE   "tokenizer.json"
#define TOK_CONFIG_FILE "tokenizer_config.json"
#define TOK_MAP_FILE    "special_tokens_map.json"
#define TOK_OLDER_FILE  "added_tokens.json" /* {"text": id}, beside a tokenizer.model */
#define TOK_MODEL_FILE  "tokenizer.model"

/* tokenizer.c: one with nothing in it, for tokenizer_close(); NULL: no memory. */
struct tokenizer *tok_alloc(void);

/* tok_load.c. What was filled stays for tokenizer_close() when it fails. */
enum status tok_load(struct tokenizer *t, const char *dir, char *err, size_t err_size) MUST_CHECK;
/* The same from memory, once the files are trees. */
enum status tok_load_trees(struct tokenizer *t, const struct tok_trees *trees,
                           const struct complaint *c) MUST_CHECK;

/* tok_steps.c: normalizer, pre_tokenizer, decoder and post_processor of tokenizer.json.
 * tok_steps_style() before the vocabulary is read, the others behind it. */
enum status tok_steps_style(struct tokenizer *t, const cJSON *root,
                            const struct complaint *c) MUST_CHECK;
enum status tok_steps_text(struct tokenizer *t, const cJSON *root,
                           const struct complaint *c) MUST_CHECK;
enum status tok_steps_bos(struct tokenizer *t, const cJSON *root,
                          const struct complaint *c) MUST_CHECK;

/* A text of a file for an error line: its beginning, control bytes as '?'. */
enum { TOK_QUOTE_MAX = 80 };
const char *tok_quote(char out[TOK_QUOTE_MAX], const char *text);
const char *tok_quote_bytes(char out[TOK_QUOTE_MAX], const char *text, size_t bytes);

/* The same from the bytes of tokenizer.model; trees->json is NULL. */
enum status tok_load_model(struct tokenizer *t, const struct tok_trees *trees, const char *text,
                           size_t bytes, const struct complaint *c) MUST_CHECK;
/* add_bos_token and bos_token of tokenizer_config.json (NULL: none) have the last word. */
enum status tok_config_bos(struct tokenizer *t, const cJSON *config,
                           const struct complaint *c) MUST_CHECK;
/* tok_parts.c */
enum status parts_assemble(struct tokenizer *t, const struct tok_parts *parts,
                           const struct complaint *c) MUST_CHECK;

/* tok_write.c: tokenizer.json of a tokenizer that parts_assemble() made, from malloc(). regex:
 * how byte-level text is cut, up to a NULL. E_NOMEM; E_UNSUPPORTED: a NUL in a piece. */
enum status tok_write(char **out, size_t *bytes, const struct tokenizer *t,
                      const char *const *regex) MUST_CHECK;

/* tok_build.c, in the order of use: guarded tokens, ordinary pieces, the other added
 * tokens, cover, merges, cuts. */
enum status build_guarded(struct tokenizer *t, const struct token_list *list,
                          const struct complaint *c) MUST_CHECK;
enum status build_piece(struct tokenizer *t, int32_t id, enum piece_kind kind,
                        const struct tok_text *text, const struct complaint *c) MUST_CHECK;
/* A piece as files spell it: GPT-2's alphabet becomes bytes, "<0x0A>" a byte. The name is
 * well-formed UTF-8. */
enum status build_ordinary(struct tokenizer *t, int32_t id, const struct tok_text *name,
                           const struct complaint *c) MUST_CHECK;
enum status build_added(struct tokenizer *t, const struct token_list *list,
                        const struct complaint *c) MUST_CHECK;
/* Every byte, or at least every character, becomes something. Fills byte_id, blank_id. */
enum status build_cover(struct tokenizer *t, const struct complaint *c) MUST_CHECK;
/* "left right" with exactly one space; false: anything else. */
bool split_merge(const struct tok_text *both, struct tok_text *left, struct tok_text *right);
/* merges_init() was called; the parts are spelled as in the file. */
enum status build_merge(struct tokenizer *t, const struct tok_text *left,
                        const struct tok_text *right, uint32_t rank,
                        const struct complaint *c) MUST_CHECK;
/* No merges are given: two pieces merge where together they are a piece, the lowest
 * rank[id] of the result first. */
enum status build_ranked(struct tokenizer *t, const uint32_t *rank,
                         const struct complaint *c) MUST_CHECK;
void build_cuts(struct tokenizer *t);
bool is_byte_name(const struct tok_text *name, uint8_t *byte);

/* tok_vocab.c */
enum status vocab_init(struct vocab *v, uint32_t n, uint32_t n_texts, size_t bytes_max) MUST_CHECK;
void vocab_free(struct vocab *v);
/* E_FORMAT: the id is taken, or an ordinary text is there already. */
enum status vocab_add(struct vocab *v, uint32_t id, enum piece_kind kind, const char *text,
                      size_t bytes) MUST_CHECK;
/* Id of an ordinary piece; -1: none. */
int32_t vocab_find(const struct vocab *v, const char *text, size_t bytes);
enum status merges_init(struct merges *m, size_t n) MUST_CHECK;
void merges_free(struct merges *m);
/* Room for it was reserved by merges_init(). A pair given again takes the new rank. */
void merges_add(struct merges *m, const struct merge *one);
/* NULL: these two never merge. */
const struct merge *merges_find(const struct merges *m, uint32_t left, uint32_t right);

/* GPT-2's alphabet: the byte that a code point stands for; -1: none. */
int32_t byte_of_letter(uint32_t cp);

/* tok_gather.c */
enum status tokens_gather(struct token_list *list, const struct tok_trees *trees,
                          const struct complaint *c) MUST_CHECK;
/* E_NOMEM; E_FORMAT: more than TOK_ADDED_MAX. */
enum status tokens_push(struct token_list *list, const struct token_entry *e,
                        const struct complaint *c) MUST_CHECK;
void tokens_free(struct token_list *list);
/* A token given as "text" or as {"content": "text"}; NULL: neither. */
const char *token_name(const cJSON *value);

/* tok_added.c */
enum status added_build(struct added_set *set, const struct token_list *list) MUST_CHECK;
void added_free(struct added_set *set);
/* Written like a mark: then it is guarded even when the file does not call it special. */
bool added_is_mark(const char *text, size_t bytes);
/* By its exact text; NULL: none. */
const struct added *added_find(const struct added_set *set, const char *text, size_t bytes);
/* The longest at p < end; `trusted` bytes from p on are a template's. NULL: none. */
const struct added *added_at(const struct added_set *set, const char *p, const char *end,
                             size_t trusted, uint64_t *work);
/* No letter, number or mark in front of p or behind its bytes. */
bool added_stands_alone(const char *p, size_t bytes, const char *begin, const char *end);
/* White space in front of p, back to begin at most; and from p on. */
const char *blanks_back(const char *p, const char *begin);
const char *blanks_on(const char *p, const char *end);

/* tok_norm.c: \w of regular expressions; ASCII punctuation and the categories P. */
bool is_word_char(uint32_t cp);
bool is_punctuation(uint32_t cp);

struct regex_run;

/* Zero-initialised; what it holds is kept for the next text. */
struct norm_buf {
    char *text; /* [n] the result */
    char *spare;
    int32_t *points; /* scratch of NFC and its kin */
    size_t n;
    size_t cap;
    size_t spare_cap;
    size_t points_cap;
    struct regex_run **run;
};

/* All steps, from text to buf->text. E_NOMEM; E_INVALID: a pattern ran out of limits. */
enum status tok_normalize(const struct tokenizer *t, const char *text, size_t bytes,
                          struct norm_buf *buf) MUST_CHECK;
void norm_buf_free(struct norm_buf *buf);

/* tok_regex.c. A run is memory and limits for all searches in one text; *run NULL at first. */
enum status regex_compile(struct tok_regex **out, const char *pattern,
                          const struct complaint *c) MUST_CHECK;
void regex_free(struct tok_regex *r);
/* The first match from byte `from` on; none: out->begin == in->bytes, out->end beyond it.
 * E_INVALID: the limits ended the search. */
enum status regex_find(struct regex_run **run, const struct tok_regex *r, const struct tok_text *in,
                       size_t from, struct text_range *out) MUST_CHECK;
void regex_run_free(struct regex_run *run);

/* tok_pre.c: known expressions get their own code, others PCRE2. */
enum status cut_by_regex(struct cut_step *cut, const char *regex,
                         const struct complaint *c) MUST_CHECK;

/* tok_cut.c: the pieces of one step, one after the other. */
struct segment {
    const char *begin; /* NULL: none */
    const char *end;
    bool match;
};

struct cutter {
    const struct cut_step *step;
    const char *begin;
    const char *end;
    const char *at;    /* segments up to here were given out */
    const char *match; /* when found: the next match; both the end: none */
    const char *match_end;
    struct segment held; /* looked at, not given out */
    bool found;
    struct regex_run **run; /* set by the caller */
    uint64_t *work;         /* also */
};

void cutter_begin(struct cutter *k, const struct cut_step *step, const char *p, const char *end);
/* *begin NULL: no more. */
enum status cutter_next(struct cutter *k, const char **begin, const char **end) MUST_CHECK;

/* tok_split.c: end of the word that begins at p < end. Every character looked at adds
 * one to *work. */
const char *split_word(enum tok_pattern pattern, const char *p, const char *end, uint64_t *work);
/* How text becomes words under a name of GGUF; *adds_bos: such models' prompts begin
 * with BOS where the file does not say. */
enum status tok_pre_named(struct tokenizer *t, const char *name, bool *adds_bos,
                          const struct complaint *c) MUST_CHECK;
/* The expressions under that name, up to a NULL; NULL: nobody knows it. */
const char *const *tok_pre_chain(const char *name);
/* Known regular expressions of tokenizer.json; false: none of them. */
bool split_pattern(const char *regex, enum tok_pattern *out);

/* tok_bpe.c: one word. What belongs to a symbol lies in one cache line: in a long word
 * merges jump about. */
struct symbol {
    uint32_t id;
    uint32_t prev;
    uint32_t next; /* BPE_END behind the last */
    uint32_t rank; /* of the pair that begins here, TOK_NO_RANK: none */
};

/* Memory grows and stays until bpe_free(); zero-initialised. */
struct bpe {
    uint32_t *source; /* [cap] the word's symbols, n of them */
    size_t cap;
    size_t n;
    int32_t *out; /* [out_max] the caller's; n_out of them are what bpe_run() left */
    size_t out_max;
    size_t n_out;
    struct symbol *sym; /* [sym_cap] of one window */
    uint64_t *heap;     /* [2 * sym_cap] rank << 32 | position, smallest first */
    size_t sym_cap;
    size_t n_heap;
    size_t window; /* symbols merged at a time; 0: as many as is good */
    uint64_t work; /* steps done, for tests of complexity */
};

#define BPE_END UINT32_MAX

/* Empties it and makes room for n symbols. */
enum status bpe_begin(struct bpe *b, size_t n) MUST_CHECK;
void bpe_push(struct bpe *b, uint32_t id);
/* Merges until nothing does, into out; b->n_out is how many. E_NOMEM; E_INVALID: more than
 * out_max. */
enum status bpe_run(struct bpe *b, const struct merges *m, int32_t *out, size_t out_max) MUST_CHECK;
void bpe_free(struct bpe *b);

/* tokenizer_encode_marked(), and how many steps it took. */
struct encode_job {
    const struct marked_text *in;
    int32_t *ids; /* [ids_max] */
    size_t ids_max;
    size_t n; /* ids so far */
    uint64_t work;
};

enum status tok_encode(const struct tokenizer *t, struct encode_job *job) MUST_CHECK;

#endif
