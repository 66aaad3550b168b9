/* A file is read whole and cut into its entries before any of them is parsed: ShareGPT's has some
 * 700 MB, and of that only as many entries are wanted as there will be requests. Each entry passes
 * the strict JSON gate by itself, so a broken one costs itself alone. */
#include "bench/serve_data.h"

#include "bench/serve_random.h"
#include "server/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ENTRIES_MAX = 1 << 26,
    PROMPTS_STANDARD = 1000,
    BYTES_PER_TOKEN = 4,
    /* What vLLM takes of ShareGPT: neither crumbs nor what would not fit into small contexts. */
    SHAREGPT_TOKENS_MIN = 4,
    SHAREGPT_PROMPT_MAX = 1024,
    SHAREGPT_BOTH_MAX = 2048,
};

#define FILE_BYTES_MAX ((size_t)4 << 30)

struct slice {
    size_t at;
    size_t n;
};

struct entry {
    char *prompt; /* [bytes] */
    size_t bytes;
    struct sample sample;
};

struct dataset {
    const struct serve_options *opt;
    const struct words *words;
    struct entry *entry; /* [n_entries] */
    int64_t n_entries;
    int64_t skipped;
};

/* What reading a file needs beside the dataset it fills. */
struct reading {
    struct dataset *d;
    const char *text; /* [bytes] */
    size_t bytes;
    struct slice *slice; /* [n_slices] */
    size_t n_slices;
    size_t room;
    count_tokens count;
    void *arg;
    char *err;
};

static enum status say(const struct reading *r, enum status s, const char *what, size_t where)
{
    (void)snprintf(r->err, OPTION_ERROR_BYTES, "dataset: %.120s (byte %zu)", what, where);
    return s;
}

/* ---- cutting ---- */

static enum status add_slice(struct reading *r, size_t at, size_t end)
{
    if (r->n_slices == r->room) {
        size_t room = r->room ? 2 * r->room : 1024;
        struct slice *more = r->room < ENTRIES_MAX ? realloc(r->slice, room * sizeof(*more)) : NULL;
        if (!more)
            return say(r, E_NOMEM, "too many entries", at);
        r->slice = more;
        r->room = room;
    }
    r->slice[r->n_slices++] = (struct slice){at, end - at};
    return OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_blank(const struct reading *r, size_t at)
{
    while (at < r->bytes && is_blank(r->text[at]))
        at++;
    return at;
}

static enum status cut_lines(struct reading *r, size_t from)
{
    enum status s = OK;
    for (size_t at = skip_blank(r, from); at < r->bytes && s == OK; at = skip_blank(r, at)) {
        const char *stop = memchr(r->text + at, '\n', r->bytes - at);
        size_t end = stop ? (size_t)(stop - r->text) : r->bytes;
        s = add_slice(r, at, end);
        at = end;
    }
    return s;
}

/* Behind the value that begins at `at`: at a comma or a closing bracket outside of it, or at the
 * end of the file. Brackets are counted and strings skipped; the rest is for the strict gate. */
static size_t value_end(const struct reading *r, size_t at)
{
    int64_t depth = 0;
    bool quoted = false;
    for (; at < r->bytes; at++) {
        char c = r->text[at];
        if (quoted) {
            at += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']' || c == ',') {
            if (depth == 0)
                return at;
            depth -= c != ',';
        }
    }
    return r->bytes;
}

/* The elements of one array. */
static enum status cut_array(struct reading *r, size_t from)
{
    size_t at = skip_blank(r, from);
    if (at == r->bytes || r->text[at] != '[')
        return say(r, E_FORMAT, "a JSON array of conversations is wanted", at);
    at = skip_blank(r, at + 1);
    if (at < r->bytes && r->text[at] == ']')
        return OK;
    for (;;) {
        size_t end = value_end(r, at);
        if (end >= r->bytes)
            return say(r, E_FORMAT, "the array is not closed", r->bytes);
        enum status s = add_slice(r, at, end);
        if (s || r->text[end] == ']')
            return s;
        if (r->text[end] != ',')
            return say(r, E_FORMAT, "a bracket closes what was not opened", end);
        at = skip_blank(r, end + 1);
    }
}

/* ---- one entry ---- */

static int64_t count_of(const struct reading *r, const char *text, size_t bytes)
{
    if (r->count)
        return r->count(r->arg, text, bytes);
    return (int64_t)(bytes / BYTES_PER_TOKEN) + 1;
}

/* false: there is no memory for it. */
static bool keep(struct dataset *d, const char *prompt, size_t bytes, struct sample sample)
{
    struct entry *e = &d->entry[d->n_entries];
    e->prompt = malloc(bytes + 1);
    if (!e->prompt)
        return false;
    memcpy(e->prompt, prompt, bytes);
    e->prompt[bytes] = '\0';
    e->bytes = bytes;
    e->sample = sample;
    d->n_entries++;
    return true;
}

/* E_UNSUPPORTED: an entry that is not wanted, or is no conversation. */
static enum status take_sharegpt(struct reading *r, const struct cJSON *top)
{
    const struct cJSON *first = json_first(json_member(top, "conversations"));
    const struct cJSON *second = first ? json_next(first) : NULL;
    size_t asked = 0;
    size_t told = 0;
    const char *prompt = json_string(json_member(first, "value"), &asked);
    const char *answer = json_string(json_member(second, "value"), &told);
    int64_t fixed = r->d->opt->sharegpt_output_len;
    if (!prompt || !answer || asked == 0)
        return E_UNSUPPORTED;
    struct sample s = {.prompt_tokens = count_of(r, prompt, asked)};
    s.output_tokens = fixed ? fixed : count_of(r, answer, told);
    if (s.prompt_tokens < SHAREGPT_TOKENS_MIN ||
        (!fixed && s.output_tokens < SHAREGPT_TOKENS_MIN) ||
        s.prompt_tokens > SHAREGPT_PROMPT_MAX ||
        s.prompt_tokens + s.output_tokens > SHAREGPT_BOTH_MAX)
        return E_UNSUPPORTED;
    return keep(r->d, prompt, asked, s) ? OK : E_NOMEM;
}

static enum status take_custom(struct reading *r, const struct cJSON *top, size_t at)
{
    size_t n = 0;
    const char *prompt = json_string(json_member(top, "prompt"), &n);
    struct sample s = {.output_tokens = r->d->opt->custom_output_len};
    if (!prompt || n == 0)
        return say(r, E_FORMAT, "a line has no \"prompt\" with text", at);
    if (s.output_tokens < 0 &&
        (!json_integer(json_member(top, "output_tokens"), &s.output_tokens) ||
         s.output_tokens < 1 || s.output_tokens > INT32_MAX))
        return say(r, E_FORMAT, "a line has no whole \"output_tokens\"", at);
    s.prompt_tokens = count_of(r, prompt, n);
    return keep(r->d, prompt, n, s) ? OK : E_NOMEM;
}

/* A line that somebody wrote by hand and that cannot be read is an error; one of a hundred thousand
 * conversations off the net is passed over. */
static enum status take_slice(struct reading *r, struct slice slice)
{
    struct cJSON *top = NULL;
    struct json_error at;
    enum status s = json_parse(&top, r->text + slice.at, slice.n, &at);
    if (s == E_NOMEM)
        return say(r, s, "out of memory", slice.at);
    if (r->d->opt->dataset == DATA_CUSTOM)
        s = s ? say(r, E_FORMAT, at.what, slice.at + at.offset) : take_custom(r, top, slice.at);
    else
        s = s ? E_UNSUPPORTED : take_sharegpt(r, top);
    json_free(top);
    if (s != E_UNSUPPORTED)
        return s;
    r->d->skipped++;
    return OK;
}

static void shuffle(struct reading *r)
{
    uint64_t state = mix((uint64_t)r->d->opt->seed ^ 0x5eedu);
    for (size_t i = r->n_slices; i > 1; i--) {
        size_t j = (size_t)draw_between(&state, 0, (int64_t)i - 1);
        struct slice s = r->slice[i - 1];
        r->slice[i - 1] = r->slice[j];
        r->slice[j] = s;
    }
}

static enum status take_all(struct reading *r)
{
    struct dataset *d = r->d;
    int64_t wanted = d->opt->num_prompts ? d->opt->num_prompts : PROMPTS_STANDARD;
    if ((size_t)wanted > r->n_slices)
        wanted = (int64_t)r->n_slices;
    d->entry = calloc((size_t)wanted + 1, sizeof(*d->entry));
    if (!d->entry)
        return say(r, E_NOMEM, "out of memory", 0);
    if (!d->opt->disable_shuffle)
        shuffle(r);
    for (size_t i = 0; i < r->n_slices && d->n_entries < wanted; i++) {
        enum status s = take_slice(r, r->slice[i]);
        if (s)
            return s;
    }
    return d->n_entries ? OK : say(r, E_FORMAT, "holds no prompt that can be used", r->bytes);
}

enum status dataset_read(struct dataset **out, const struct serve_options *o, const char *text,
                         size_t bytes, count_tokens count, void *arg, char err[OPTION_ERROR_BYTES])
{
    static const char mark[] = "\xef\xbb\xbf";
    struct reading r = {.text = text, .bytes = bytes, .count = count, .arg = arg};
    size_t from = bytes >= 3 && memcmp(text, mark, 3) == 0 ? 3 : 0;
    r.err = err;
    r.d = calloc(1, sizeof(*r.d));
    if (!r.d)
        return say(&r, E_NOMEM, "out of memory", 0);
    r.d->opt = o;
    enum status s = o->dataset == DATA_CUSTOM ? cut_lines(&r, from) : cut_array(&r, from);
    if (s == OK)
        s = take_all(&r);
    free(r.slice);
    if (s)
        dataset_close(r.d);
    else
        *out = r.d;
    return s;
}

/* ---- the file ---- */

static bool read_whole(int fd, char *to, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = read(fd, to + at, bytes - at);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static enum status load(char **out, size_t *bytes, const char *path, char *err)
{
    struct stat st;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool regular = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    *bytes = regular && st.st_size >= 0 ? (size_t)st.st_size : 0;
    if (regular && *bytes <= FILE_BYTES_MAX)
        text = malloc(*bytes + 1);
    if (!text || !read_whole(fd, text, *bytes)) {
        (void)snprintf(err, OPTION_ERROR_BYTES, "%.160s: not a file that can be read", path);
        free(text);
        text = NULL;
    }
    if (fd >= 0)
        (void)close(fd);
    *out = text;
    return text ? OK : E_IO;
}

enum status dataset_open(struct dataset **out, const struct serve_options *o,
                         const struct words *words, count_tokens count, void *arg,
                         char err[OPTION_ERROR_BYTES])
{
    char *text = NULL;
    size_t bytes = 0;
    enum status s = OK;
    if (o->dataset_path) {
        s = load(&text, &bytes, o->dataset_path, err);
        if (s == OK)
            s = dataset_read(out, o, text, bytes, count, arg, err);
        free(text);
    } else {
        *out = calloc(1, sizeof(**out));
        s = *out ? OK : E_NOMEM;
    }
    if (s)
        return s;
    (*out)->opt = o;
    (*out)->words = words;
    return OK;
}

void dataset_close(struct dataset *d)
{
    if (!d)
        return;
    for (int64_t i = 0; i < d->n_entries; i++)
        free(d->entry[i].prompt);
    free(d->entry);
    free(d);
}

int64_t dataset_size(const struct dataset *d)
{
    return d->entry ? d->n_entries : INT64_MAX;
}

int64_t dataset_skipped(const struct dataset *d)
{
    return d->skipped;
}

/* ---- made up ---- */

static int64_t draw_length(uint64_t *state, int64_t length, double ratio)
{
    double low = (double)length * (1 - ratio);
    double high = (double)length * (1 + ratio);
    return draw_between(state, (int64_t)low, (int64_t)high + (high > (double)(int64_t)high));
}

struct piece {
    uint64_t seed;
    int64_t tokens;
};

/* Pieces one behind the other, as a JSON value; returns their tokens. */
static int64_t write_pieces(struct buf *out, const struct words *w, const struct piece *piece,
                            int32_t n_pieces)
{
    bool ids = w->mode == TOKENS_IDS;
    int64_t n = 0;
    buf_text(out, ids ? "[" : "\"");
    for (int32_t i = 0; i < n_pieces; i++)
        if (piece[i].tokens > 0)
            n += words_write(out, w, piece[i].seed, piece[i].tokens, n == 0);
    buf_text(out, ids ? "]" : "\"");
    return n;
}

void dataset_write_random(struct buf *prompt, const struct words *words, uint64_t seed,
                          int64_t tokens)
{
    (void)write_pieces(prompt, words, &(struct piece){mix(seed), tokens}, 1);
}

static void write_random(struct buf *prompt, struct sample *out, const struct dataset *d,
                         uint64_t own)
{
    const struct serve_options *o = d->opt;
    uint64_t state = own;
    int64_t wanted = o->random_input_len - d->words->specials;
    int64_t input = draw_length(&state, wanted > 0 ? wanted : 0, o->random_range_ratio);
    out->output_tokens = draw_length(&state, o->random_output_len, o->random_range_ratio);
    out->output_tokens += out->output_tokens < 1;
    input += input + o->random_prefix_len < 1;
    const struct piece pieces[] = {{mix((uint64_t)o->seed), o->random_prefix_len},
                                   {mix(state), input}};
    out->prompt_tokens = write_pieces(prompt, d->words, pieces, 2);
}

/* Requests go round the prefixes, so that each is as often in use as every other. */
static void write_prefixed(struct buf *prompt, struct sample *out, const struct dataset *d,
                           uint64_t own, uint64_t run, int64_t index)
{
    const struct serve_options *o = d->opt;
    uint64_t which = (uint64_t)(index % o->prefix_num_prefixes);
    const struct piece pieces[] = {
        {mix(mix((uint64_t)o->seed ^ mix(run)) + which), o->prefix_prefix_len},
        {mix(own), o->prefix_suffix_len}};
    out->output_tokens = o->prefix_output_len;
    out->prompt_tokens = write_pieces(prompt, d->words, pieces, 2);
}

void dataset_write(struct buf *prompt, struct sample *out, const struct dataset *d, uint64_t run,
                   int64_t index)
{
    uint64_t own = mix(mix((uint64_t)d->opt->seed) ^ mix(run) ^ mix((uint64_t)index));
    if (d->entry) {
        const struct entry *e = &d->entry[index % d->n_entries];
        buf_json(prompt, e->prompt, e->bytes);
        *out = e->sample;
    } else if (d->opt->dataset == DATA_PREFIX) {
        write_prefixed(prompt, out, d, own, run, index);
    } else {
        write_random(prompt, out, d, own);
    }
}
