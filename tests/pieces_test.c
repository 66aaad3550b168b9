/* Aim: however an answer is cut, its deltas put together are the whole answer. For every format,
 * every text below and every two places between its tokens (which are single bytes, so that every
 * character and every stop string is split at each of its bytes), the stream of three deliveries
 * holds the text that a search through the finished text would give, and so does the whole answer.
 * Negative space: broken UTF-8, stop strings that overlap, that are alike, that begin and do not
 * end, that end a character; a minimum of tokens; an end in the middle of a character. Not here:
 * the order of events (wire_test.c, adapters_test.c), real tokens (e2e). */

#include "tests/tokenizer_rig.h"

#include "server/json.h"
#include "server/output.h"

static const struct wire *const wires[] = {&wire_chat,         &wire_completions,
                                           &wire_messages,     &wire_responses,
                                           &wire_workers_rest, &wire_workers_binding};

struct cut_case {
    const char *text;
    const char *stop[3];
    int32_t min_tokens;
    bool include;
};

static const struct cut_case cases[] = {
    {.text = ""},
    {.text = "a"},
    {.text = "Hello, \"world\"\n"},
    {.text = "caf" U_E " " U_CJK U_EMO "!"},
    {.text = "\xc3(\xe4\xb8x\xf0\x9f\x98"},
    {.text = U_E "\xff\xfe" U_E},
    {.text = "one two three", .stop = {" two"}},
    {.text = "aaaaaab", .stop = {"aaab"}},
    {.text = "abababac", .stop = {"ababac", "bac"}},
    {.text = "abcd", .stop = {"abcde", "cde", "d\n"}},
    {.text = "x" U_EMO U_CJK "y", .stop = {U_CJK}},
    {.text = "x" U_EMO U_CJK "y", .stop = {U_EMO U_CJK "y"}, .include = true},
    {.text = "stop stop stop", .stop = {"stop"}, .min_tokens = 5},
    {.text = "end.", .stop = {".", "d."}, .include = true},
};

/* What the rest of the file is measured by: the decoded text, cut by the plainest search. */
static void wanted_text(struct buf *out, const struct tokenizer *t, const struct cut_case *c)
{
    int32_t ids[64];
    size_t n = strlen(c->text);
    size_t least = 0;
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint8_t)c->text[i];
    output_decode(out, t, ids, n);
    /* Whole ASCII before the minimum, so its tokens are its bytes. */
    if (c->min_tokens > 0)
        least = (size_t)c->min_tokens - 1;
    for (size_t end = least + 1; end <= out->n; end++) {
        size_t longest = 0;
        for (size_t k = 0; k < ARRAY_LEN(c->stop) && c->stop[k]; k++) {
            size_t m = strlen(c->stop[k]);
            if (m > longest && end >= least + m && memcmp(out->data + end - m, c->stop[k], m) == 0)
                longest = m;
        }
        if (longest == 0)
            continue;
        out->n = c->include ? end : end - longest;
        return;
    }
}

static struct gen_request request_of(const struct wire *w, const struct cut_case *c)
{
    struct gen_request r = {.wire = w,
                            .n = 1,
                            .prompt_logprobs = -1,
                            .include_stop = c->include,
                            .params = {.max_new_tokens = 64,
                                       .min_tokens = c->min_tokens,
                                       .sampling = {.n_logprobs = -1}}};
    for (size_t i = 0; i < ARRAY_LEN(c->stop) && c->stop[i]; i++) {
        r.stop[i].text = c->stop[i];
        r.stop[i].bytes = strlen(c->stop[i]);
        r.n_stops++;
    }
    return r;
}

/* ---- what a client puts together ------------------------------------------------------ */

static void add_string(struct buf *out, const struct cJSON *v)
{
    size_t n = 0;
    const char *text = json_string(v, &n);
    if (text)
        buf_add(out, text, n);
}

static void add_event(struct buf *out, const struct cJSON *e)
{
    size_t n = 0;
    const struct cJSON *choice = json_first(json_member(e, "choices"));
    const char *type = json_string(json_member(e, "type"), &n);
    add_string(out, json_member(e, "response")); /* Workers AI: a string; here an object */
    add_string(out, json_member(choice, "text"));
    add_string(out, json_member(json_member(choice, "delta"), "content"));
    if (type && strcmp(type, "response.output_text.delta") == 0)
        add_string(out, json_member(e, "delta"));
    else
        add_string(out, json_member(json_member(e, "delta"), "text"));
}

static void add_stream(struct buf *out, struct buf *stream)
{
    assert_false(stream->failed);
    buf_add(stream, "", 1);
    for (char *at = strstr(stream->data, "data: "); at; at = strstr(at, "data: ")) {
        struct json_error err;
        struct cJSON *tree = NULL;
        at += 6;
        char *end = strstr(at, "\n\n");
        assert_non_null(end);
        if (strncmp(at, "[DONE]", 6) == 0)
            continue;
        assert_int_equal(json_parse(&tree, at, (size_t)(end - at), &err), OK);
        add_event(out, tree);
        json_free(tree);
        at = end;
    }
}

static void add_whole(struct buf *out, const struct buf *whole)
{
    struct json_error err;
    struct cJSON *tree = NULL;
    assert_int_equal(json_parse(&tree, whole->data, whole->n, &err), OK);
    const struct cJSON *result = json_member(tree, "result");
    const struct cJSON *choice = json_first(json_member(tree, "choices"));
    const struct cJSON *item = json_first(json_member(tree, "output"));
    const struct cJSON *part = json_first(json_member(item ? item : tree, "content"));
    add_string(out, json_member(result ? result : tree, "response"));
    add_string(out, json_member(choice, "text"));
    add_string(out, json_member(json_member(choice, "message"), "content"));
    add_string(out, json_member(part, "text"));
    json_free(tree);
}

/* ---- the ways of an answer ------------------------------------------------------------ */

static void show(struct output *o, struct choice *c)
{
    c->text = o->text.data ? o->text.data : "";
    c->bytes = o->text.n;
    if (o->stops)
        c->stop_text = stops_found(o->stops, &c->stop_bytes);
}

/* Tokens from .. to - 1; the end of the text ends the answer. */
static void feed(struct output *o, const struct cut_case *c, size_t from, size_t to)
{
    size_t n = strlen(c->text);
    for (size_t i = from; i < to && !o->stopped; i++)
        output_token(o, (uint8_t)c->text[i], NULL);
    if (to == n)
        output_end(o);
    assert_false(o->failed);
}

static void write_stream(struct buf *out, const struct tokenizer *t, const struct wire *w,
                         const struct cut_case *c, const size_t cut[4])
{
    struct gen_request r = request_of(w, c);
    struct choice choice = {.stop_token = -1};
    struct answer a = {.id = "i", .model = "m", .choice = &choice, .n_choices = 1};
    struct output o;
    assert_int_equal(output_open(&o, t, &r), OK);
    if (w->begin)
        w->begin(out, &r, &a);
    for (int32_t i = 0; i < 3 && !choice.finish; i++) {
        feed(&o, c, cut[i], cut[i + 1]);
        choice.finish = o.stopped || i == 2 ? FINISH_STOP : FINISH_NONE;
        show(&o, &choice);
        if (choice.bytes > 0 || choice.finish)
            w->delta(out, &r, &a, &choice);
        output_sent(&o);
    }
    w->end(out, &r, &a);
    buf_free(&a.kept);
    output_close(&o);
}

static void write_whole(struct buf *out, const struct tokenizer *t, const struct wire *w,
                        const struct cut_case *c)
{
    struct gen_request r = request_of(w, c);
    struct choice choice = {.stop_token = -1, .finish = FINISH_STOP};
    struct answer a = {.id = "i", .model = "m", .choice = &choice, .n_choices = 1};
    struct output o;
    assert_int_equal(output_open(&o, t, &r), OK);
    feed(&o, c, 0, strlen(c->text));
    show(&o, &choice);
    w->whole(out, &r, &a);
    output_close(&o);
}

static void must_be(const struct buf *got, const struct buf *wanted, const struct wire *w,
                    const struct cut_case *c)
{
    if (got->n == wanted->n && (got->n == 0 || memcmp(got->data, wanted->data, got->n) == 0))
        return;
    fail_msg("%s, \"%s\": got \"%.*s\", wanted \"%.*s\"", w->name, c->text, (int)got->n,
             got->n ? got->data : "", (int)wanted->n, wanted->n ? wanted->data : "");
}

static void check(const struct tokenizer *t, const struct wire *w, const struct cut_case *c)
{
    struct buf wanted = {.data = NULL};
    struct buf sent = {.data = NULL};
    struct buf got = {.data = NULL};
    size_t n = strlen(c->text);
    wanted_text(&wanted, t, c);
    write_whole(&sent, t, w, c);
    add_whole(&got, &sent);
    must_be(&got, &wanted, w, c);
    for (size_t i = 0; i <= n; i++) {
        for (size_t k = i; k <= n; k++) {
            const size_t cut[4] = {0, i, k, n};
            buf_clear(&sent);
            buf_clear(&got);
            write_stream(&sent, t, w, c, cut);
            add_stream(&got, &sent);
            must_be(&got, &wanted, w, c);
        }
    }
    buf_free(&wanted);
    buf_free(&sent);
    buf_free(&got);
}

static void every_cut_of_every_format(void **state)
{
    (void)state;
    char *json = byte_level_json(NULL, 0, NO_PATTERN);
    struct tokenizer *t = must_make(json);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t k = 0; k < ARRAY_LEN(wires); k++)
            check(t, wires[k], &cases[i]);
    tokenizer_close(t);
    free(json);
}

/* A token that is a part of a character is told by its bytes, not by what stands for them in
 * text; a special one by its name. */
static void details_have_the_bytes(void **state)
{
    (void)state;
    char *json = byte_level_json(NULL, 0, NO_PATTERN);
    struct tokenizer *t = must_make(json);
    struct details d = {.room = 0};
    int32_t special = tokenizer_special(t, "<s>");
    for (int32_t id = 0; id < 256; id++)
        assert_true(details_add(&d, t, id, NULL));
    assert_true(special >= 256 && details_add(&d, t, special, NULL));
    for (int32_t id = 0; id < 256; id++) {
        assert_int_equal(d.list.at[id].drawn.bytes, 1);
        assert_int_equal((uint8_t)d.list.at[id].drawn.text[0], id);
    }
    assert_int_equal(d.list.at[256].drawn.bytes, 3);
    assert_memory_equal(d.list.at[256].drawn.text, "<s>", 3);
    details_free(&d);
    tokenizer_close(t);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_cut_of_every_format, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(details_have_the_bytes, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
