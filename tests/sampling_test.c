#include "kernels/philox.h"
#include "tests/ops_rig.h"

#include <float.h>

/* Aim: a pick obeys the controls of kernels/sampling.h in their stated order. The
 * reference sorts everything and works in double; the kernel must keep the same
 * tokens, draw the same one for the same random number, and follow the
 * probabilities over many positions. Negative space: ties, limits of one and of
 * everything, limits that cut inside a tie, banned and unknown ids, nothing left
 * to draw, logits that are not finite beside sound ones, and vocabularies that are
 * no multiple of anything. And every backend gives what the cpu gives, to the bit:
 * tokens, log probabilities and the logits as they were. */

#define NEUTRAL .top_p = 1.0f, .repetition = 1.0f, .n_logprobs = -1

enum { VOCAB_MAX = 5000 };

/* ---- reference ---- */

struct candidate {
    int32_t id;
    float u;
    double p;
};

static int by_likelihood(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    if (x->u != y->u)
        return x->u < y->u ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    return x->id < y->id ? -1 : 1;
}

static double mass_of(const struct candidate *c, int32_t n)
{
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += c[i].p;
    return sum;
}

/* Logits after step 2 of the order of application. */
static void reference_edit(float *x, int32_t vocab, const struct pick *pick)
{
    for (int32_t id = 0; pick->allowed && id < vocab; id++) {
        if ((pick->allowed[id / 32] & 1u << id % 32) == 0)
            x[id] = -INFINITY;
    }
    for (int32_t i = 0; i < pick->how.n_bias; i++) {
        if (pick->how.bias[i].token >= 0 && pick->how.bias[i].token < vocab)
            x[pick->how.bias[i].token] += pick->how.bias[i].bias;
    }
    for (int32_t i = 0; i < pick->n_banned; i++)
        x[pick->banned[i]] = -INFINITY;
    for (int32_t i = 0; i < pick->n_seen; i++) {
        const struct token_count *t = &pick->seen[i];
        if (t->token < 0 || t->token >= vocab)
            continue;
        float *y = &x[t->token];
        if (t->in_prompt || t->n_out > 0)
            *y = *y > 0.0f ? *y / pick->how.repetition : *y * pick->how.repetition;
        if (t->n_out > 0)
            *y -= pick->how.presence + pick->how.frequency * (float)t->n_out;
    }
}

/* Tokens that may be drawn, by id; returns how many. */
static int32_t reference_kept(struct candidate *c, const float *logits, int32_t vocab,
                              const struct pick *pick)
{
    float *x = malloc((size_t)vocab * sizeof(*x));
    assert_non_null(x);
    const struct sampling *how = &pick->how;
    memcpy(x, logits, (size_t)vocab * sizeof(*x));
    reference_edit(x, vocab, pick);
    float max = -INFINITY;
    for (int32_t i = 0; i < vocab; i++)
        max = fmaxf(max, x[i]);
    for (int32_t i = 0; i < vocab; i++) {
        c[i].id = i;
        c[i].u = (x[i] - max) / how->temperature;
        c[i].p = exp((double)c[i].u);
    }
    free(x);
    qsort(c, (size_t)vocab, sizeof(*c), by_likelihood);
    int32_t n = vocab;
    if (how->top_k > 0 && how->top_k < n)
        n = how->top_k;
    if (how->top_p < 1.0f) {
        double limit = (double)how->top_p * mass_of(c, n);
        double sum = c[0].p;
        int32_t kept = 1;
        while (kept < n && sum < limit)
            sum += c[kept++].p;
        n = kept;
    }
    double least = fmin((double)how->min_p, 1.0);
    while (n > 1 && c[n - 1].p < least)
        n--;
    qsort(c, (size_t)n, sizeof(*c), by_id);
    return n;
}

static int32_t reference_draw(const struct candidate *c, int32_t n, double uniform)
{
    double target = uniform * mass_of(c, n);
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++) {
        sum += c[i].p;
        if (sum > target)
            return c[i].id;
    }
    return c[n - 1].id;
}

/* ---- running picks ---- */

static void sample_run(struct rig *rig, struct picked *out, const float *logits,
                       const struct pick *pick, int32_t n, int32_t vocab)
{
    float *dl = rig_put(rig, logits, (size_t)n * (size_t)vocab * sizeof(*logits));
    memset(out, 0x5a, (size_t)n * sizeof(*out));
    rig->o->picks(rig->o, out, pick, n, vocab);
    rig_begin(rig);
    rig->o->sample(rig->o, dl);
    rig_end(rig);
    rig->o->release(rig->o, dl);
}

static struct picked sample_one(struct rig *rig, const float *logits, const struct pick *pick,
                                int32_t vocab)
{
    struct picked out;
    sample_run(rig, &out, logits, pick, 1, vocab);
    return out;
}

/* Logits with a few likely tokens and many ties. */
static float *logits_make(int32_t vocab, uint64_t seed)
{
    float *x = random_floats((size_t)vocab, seed);
    for (int32_t i = 0; i < vocab; i++)
        x[i] = rintf(x[i] * x[i] * x[i] * 40.0f) / 4.0f;
    return x;
}

/* ---- controls one by one ---- */

static void test_philox(void **state)
{
    (void)state;
    /* The vectors the authors publish with their code: zeros and ones. */
    uint32_t zero[4] = {0};
    const uint32_t zero_want[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    philox4x32(zero, 0, 0);
    assert_memory_equal(zero, zero_want, sizeof(zero));
    uint32_t ones[4] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    const uint32_t ones_want[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    philox4x32(ones, UINT32_MAX, UINT32_MAX);
    assert_memory_equal(ones, ones_want, sizeof(ones));
    for (uint64_t i = 0; i < 1000; i++) {
        assert_true(philox_uniform(i, i) >= 0.0);
        assert_true(philox_uniform(i, i) < 1.0);
        assert_true(philox_uniform(1, i) != philox_uniform(2, i));
    }
}

static void test_greedy(void **state)
{
    static const int32_t vocabs[] = {1, 2, 7, 31, 32, 33, 100, 4097};
    (void)state;
    struct rig rig = rig_open(2);
    const struct pick pick = {.how = {NEUTRAL}};
    for (size_t v = 0; v < ARRAY_LEN(vocabs); v++) {
        float *x = logits_make(vocabs[v], v + 1);
        int32_t want = 0;
        for (int32_t i = 0; i < vocabs[v]; i++)
            want = x[i] > x[want] ? i : want;
        assert_int_equal(sample_one(&rig, x, &pick, vocabs[v]).token, want);
        for (int32_t i = 0; i < vocabs[v]; i++)
            x[i] = -3.0f;
        assert_int_equal(sample_one(&rig, x, &pick, vocabs[v]).token, 0);
        free(x);
    }
    rig_close(&rig);
}

static void test_edits(void **state)
{
    enum { VOCAB = 40 };
    (void)state;
    struct rig rig = rig_open(1);
    float x[VOCAB] = {0};
    x[3] = 8.0f;
    x[4] = 7.0f;
    x[5] = 6.0f;
    x[39] = 5.0f;
    const struct token_bias bias[] = {{3, -INFINITY}, {4, -1.5f}, {-1, 50.0f}, {VOCAB, 50.0f}};
    const struct token_bias ban_all[] = {{3, -INFINITY}};
    const struct token_bias bad[] = {{7, NAN}};
    const struct token_bias endless[] = {{7, INFINITY}};
    const struct token_count seen[] = {{3, 2, false}, {4, 0, true}, {-5, 9, true}, {99, 1, true}};
    uint32_t allowed[2] = {~(1u << 3), 0xff};
    uint32_t one[2] = {1u << 3, 0};
    const struct {
        struct pick pick;
        int32_t want;
    } cases[] = {
        {{.how = {NEUTRAL}}, 3},
        {{.how = {NEUTRAL, .bias = bias, .n_bias = 4}}, 5},
        {{.how = {NEUTRAL}, .allowed = allowed}, 4},
        {{.how = {NEUTRAL}, .allowed = one}, 3},
        {{.how = {NEUTRAL, .bias = ban_all, .n_bias = 1}, .allowed = one}, PICKED_NONE},
        {{.how = {NEUTRAL, .bias = bad, .n_bias = 1}}, PICKED_BAD},
        {{.how = {NEUTRAL, .bias = endless, .n_bias = 1}}, 7},
        /* Presence alone: 8 - 0.9 > 7; with frequency twice: 8 - 0.9 - 2 * 0.08 < 7. */
        {{.how = {NEUTRAL, .presence = 0.9f}, .seen = seen, .n_seen = 4}, 3},
        {{.how = {NEUTRAL, .presence = 0.9f, .frequency = 0.08f}, .seen = seen, .n_seen = 4}, 4},
        /* A token of the prompt alone knows no presence and no frequency. */
        {{.how = {NEUTRAL, .presence = 1.9f, .frequency = 9.0f}, .seen = seen, .n_seen = 4}, 4},
        /* Repetition hits both: 8 / 2 and 7 / 2 < 6. */
        {{.how = {.top_p = 1.0f, .n_logprobs = -1, .repetition = 2.0f}, .seen = seen, .n_seen = 4},
         5},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct picked out = sample_one(&rig, x, &cases[i].pick, VOCAB);
        if (out.token != cases[i].want)
            fail_msg("case %zu: token %d, expected %d", i, out.token, cases[i].want);
    }
    /* Negative logits are multiplied. */
    for (int i = 0; i < VOCAB; i++)
        x[i] = -2.0f;
    x[3] = -1.5f;
    const struct pick twice = {
        .how = {.top_p = 1.0f, .n_logprobs = -1, .repetition = 2.0f}, .seen = seen, .n_seen = 1};
    assert_int_equal(sample_one(&rig, x, &twice, VOCAB).token, 0);
    rig_close(&rig);
}

/* Edits at and beyond what a float holds, and those that leave nothing. */
static void test_extremes(void **state)
{
    enum { VOCAB = 40 };
    (void)state;
    struct rig rig = rig_open(1);
    float x[VOCAB] = {0};
    x[3] = 8.0f;
    x[4] = 7.0f;
    static const int32_t ban3[] = {3, -1, VOCAB};
    static const int32_t ban34[] = {3, 4};
    static const struct token_bias lift3[] = {{3, FLT_MAX}};
    static const struct token_bias huge[] = {{9, FLT_MAX}, {10, FLT_MAX}, {11, -FLT_MAX}};
    static const struct token_bias sink[] = {{3, -FLT_MAX}, {4, -FLT_MAX}, {5, 1.0f}};
    static const struct token_count seen3[] = {{3, 1, true}};
    static const struct token_count seen_often[] = {{3, INT32_MAX, true}};
    uint32_t only3[2] = {1u << 3, 0};
    uint32_t nobody[2] = {0, 0};
    const struct {
        const char *name;
        struct pick pick;
        int32_t want;
    } cases[] = {
        {"banned", {.how = {NEUTRAL}, .banned = ban3, .n_banned = 3}, 4},
        {"banned, both", {.how = {NEUTRAL}, .banned = ban34, .n_banned = 2}, 0},
        {"no bias lifts what is banned",
         {.how = {NEUTRAL, .bias = lift3, .n_bias = 1}, .banned = ban3, .n_banned = 1},
         4},
        {"allowed and banned",
         {.how = {NEUTRAL}, .allowed = only3, .banned = ban3, .n_banned = 1},
         PICKED_NONE},
        {"nothing allowed", {.how = {NEUTRAL}, .allowed = nobody}, PICKED_NONE},
        {"nothing allowed, drawn",
         {.how = {NEUTRAL, .temperature = 1}, .allowed = nobody},
         PICKED_NONE},
        {"the largest bias wins, the lowest id of two",
         {.how = {NEUTRAL, .bias = huge, .n_bias = 3}},
         9},
        {"the smallest leaves the others", {.how = {NEUTRAL, .bias = sink, .n_bias = 3}}, 5},
        {"one token and the coldest draw",
         {.how = {NEUTRAL, .temperature = 1e-45f, .bias = sink, .n_bias = 3}},
         5},
        {"the hottest draw of one", {.how = {NEUTRAL, .temperature = FLT_MAX, .top_k = 1}}, 3},
        {"min_p of one", {.how = {NEUTRAL, .temperature = 1e6f, .min_p = 1.0f}}, 3},
        {"a penalty cannot lift what is banned",
         {.how = {NEUTRAL, .presence = -FLT_MAX, .frequency = -FLT_MAX},
          .banned = ban3,
          .n_banned = 1,
          .seen = seen3,
          .n_seen = 1},
         4},
        {"an endless reward wins",
         {.how = {NEUTRAL, .frequency = -FLT_MAX}, .seen = seen_often, .n_seen = 1},
         3},
        {"an endless penalty bans",
         {.how = {NEUTRAL, .frequency = FLT_MAX}, .seen = seen_often, .n_seen = 1},
         4},
        {"repetition of the largest",
         {.how = {.top_p = 1, .n_logprobs = -1, .repetition = FLT_MAX}, .seen = seen3, .n_seen = 1},
         4},
        {"given, whatever is drawn otherwise",
         {.how = {NEUTRAL}, .given = &ban34[1], .banned = ban34, .n_banned = 2},
         4},
        {"given, and not of this vocabulary", {.how = {NEUTRAL}, .given = &ban3[2]}, PICKED_BAD},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct picked out = sample_one(&rig, x, &cases[i].pick, VOCAB);
        if (out.token != cases[i].want)
            fail_msg("%s: token %d, expected %d", cases[i].name, out.token, cases[i].want);
    }
    rig_close(&rig);
}

/* A given token is judged by the raw distribution, as a drawn one is. */
static void test_given(void **state)
{
    enum { VOCAB = 300 };
    (void)state;
    struct rig rig = rig_open(1);
    float *x = logits_make(VOCAB, 11);
    double total = 0.0;
    for (int32_t i = 0; i < VOCAB; i++)
        total += exp((double)x[i]);
    for (int32_t token = 0; token < VOCAB; token += 7) {
        struct pick pick = {.how = {NEUTRAL}, .given = &token};
        pick.how.n_logprobs = 4;
        struct picked out = sample_one(&rig, x, &pick, VOCAB);
        assert_int_equal(out.token, token);
        assert_int_equal(out.n_top, 4);
        assert_near((double)out.logprob, (double)x[token] - log(total), 1e-4, "logprob",
                    (size_t)token);
        pick.given = NULL;
        struct picked drawn = sample_one(&rig, x, &pick, VOCAB);
        assert_memory_equal(out.top_token, drawn.top_token, 4 * sizeof(*out.top_token));
        assert_memory_equal(out.top_logprob, drawn.top_logprob, 4 * sizeof(*out.top_logprob));
    }
    x[5] = NAN;
    const int32_t token = 9;
    const struct pick pick = {.how = {NEUTRAL}, .given = &token};
    assert_int_equal(sample_one(&rig, x, &pick, VOCAB).token, PICKED_BAD);
    free(x);
    rig_close(&rig);
}

static void test_logprobs(void **state)
{
    static const int32_t wanted[] = {0, 1, 5, LOGPROBS_MAX, 1000};
    (void)state;
    struct rig rig = rig_open(1);
    static const uint16_t vocabs[] = {3, 17, 3001};
    for (size_t v = 0; v < ARRAY_LEN(vocabs); v++) {
        int32_t vocab = vocabs[v];
        float *x = logits_make(vocab, v + 5);
        double total = 0.0;
        for (int32_t i = 0; i < vocab; i++)
            total += exp((double)x[i]);
        struct candidate *c = calloc((size_t)vocab, sizeof(*c));
        for (int32_t i = 0; i < vocab; i++)
            c[i] = (struct candidate){.id = i, .u = x[i]};
        qsort(c, (size_t)vocab, sizeof(*c), by_likelihood);
        for (size_t w = 0; w < ARRAY_LEN(wanted); w++) {
            /* Of the raw distribution, whatever was asked for the draw. */
            const struct token_bias bias[] = {{c[0].id, -INFINITY}};
            struct pick pick = {.how = {NEUTRAL, .bias = bias, .n_bias = 1}};
            pick.how.n_logprobs = wanted[w];
            struct picked out = sample_one(&rig, x, &pick, vocab);
            assert_int_equal(out.token, c[1].id);
            assert_near((double)out.logprob, (double)c[1].u - log(total), 1e-4, "logprob", w);
            int32_t n = wanted[w] < LOGPROBS_MAX ? wanted[w] : LOGPROBS_MAX;
            assert_int_equal(out.n_top, n < vocab ? n : vocab);
            double sum = 0.0;
            for (int32_t i = 0; i < out.n_top; i++) {
                assert_int_equal(out.top_token[i], c[i].id);
                assert_near((double)out.top_logprob[i], (double)c[i].u - log(total), 1e-4, "top",
                            (size_t)i);
                sum += exp((double)out.top_logprob[i]);
            }
            if (out.n_top == vocab)
                assert_near(sum, 1.0, 1e-4, "sum", v);
        }
        free(c);
        free(x);
    }
    rig_close(&rig);
}

static void test_not_finite(void **state)
{
    enum { VOCAB = 100, PICKS = 4 };
    (void)state;
    struct rig rig = rig_open(2);
    float *x = random_floats(PICKS * VOCAB, 3);
    struct pick picks[PICKS];
    struct picked out[PICKS];
    for (int i = 0; i < PICKS; i++)
        picks[i] = (struct pick){.how = {NEUTRAL, .temperature = (float)(i % 2)}};
    picks[3].how.n_logprobs = 3;
    x[0 * VOCAB + 99] = NAN;
    x[1 * VOCAB + 50] = INFINITY;
    x[3 * VOCAB + 1] = -INFINITY;
    sample_run(&rig, out, x, picks, PICKS, VOCAB);
    assert_int_equal(out[0].token, PICKED_BAD);
    assert_int_equal(out[1].token, PICKED_BAD);
    assert_in_range(out[2].token, 0, VOCAB - 1);
    assert_int_equal(out[3].token, PICKED_BAD);
    free(x);
    rig_close(&rig);
}

/* ---- limits and the draw ---- */

static const struct sampling limits[] = {
    {NEUTRAL, .temperature = 1.0f},
    {NEUTRAL, .temperature = 0.3f},
    {NEUTRAL, .temperature = 1e-30f},
    {NEUTRAL, .temperature = 1e-6f},
    {NEUTRAL, .temperature = 50.0f},
    {NEUTRAL, .temperature = 1.0f, .top_k = 1},
    {NEUTRAL, .temperature = 1.0f, .top_k = 2},
    {NEUTRAL, .temperature = 5.0f, .top_k = 13},
    {NEUTRAL, .temperature = 9.0f, .top_k = 400},
    {NEUTRAL, .temperature = 1.0f, .top_k = 1000000},
    {NEUTRAL, .temperature = 9.0f, .min_p = 0.5f},
    {NEUTRAL, .temperature = 2.0f, .min_p = 0.01f},
    {NEUTRAL, .temperature = 2.0f, .min_p = 1.0f},
    {NEUTRAL, .temperature = 2.0f, .min_p = 7.0f},
    {.repetition = 1.0f, .n_logprobs = -1, .temperature = 1.0f, .top_p = 0.0f},
    {.repetition = 1.0f, .n_logprobs = -1, .temperature = 1.0f, .top_p = 0.5f},
    {.repetition = 1.0f, .n_logprobs = -1, .temperature = 7.0f, .top_p = 0.5f},
    {.repetition = 1.0f, .n_logprobs = -1, .temperature = 7.0f, .top_p = 0.93f},
    {.repetition = 1.0f, .n_logprobs = -1, .temperature = 3.0f, .top_p = 0.999f},
    {.repetition = 1.0f, .n_logprobs = -1, .temperature = 5.0f, .top_p = 0.8f, .top_k = 37},
    {.repetition = 1.0f,
     .n_logprobs = -1,
     .temperature = 5.0f,
     .top_p = 0.9f,
     .top_k = 90,
     .min_p = 0.2f},
};

/* Uniform numbers so near an edge that rounding may decide are passed over. */
static bool near_edge(const struct candidate *c, int32_t n, double uniform)
{
    double total = mass_of(c, n);
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++) {
        sum += c[i].p;
        if (fabs(sum - uniform * total) < 1e-5 * total)
            return true;
    }
    return false;
}

static void test_limits(void **state)
{
    enum { PICKS = 24, PICKS_EMULATED = 3 };
    static const int32_t vocabs[] = {1, 5, 33, 1000, VOCAB_MAX - 3};
    (void)state;
    struct rig rig = rig_open(2);
    int32_t n_picks = rig.cpu ? PICKS : PICKS_EMULATED;
    struct candidate *c = calloc(VOCAB_MAX, sizeof(*c));
    assert_non_null(c);
    for (size_t l = 0; l < ARRAY_LEN(limits); l++) {
        for (size_t v = 0; v < ARRAY_LEN(vocabs); v++) {
            int32_t vocab = vocabs[v];
            float *x = malloc(sizeof(*x) * PICKS * (size_t)vocab);
            assert_non_null(x);
            struct pick picks[PICKS];
            struct picked out[PICKS];
            for (int32_t i = 0; i < n_picks; i++) {
                float *row = logits_make(vocab, l * 1000 + (size_t)i);
                memcpy(x + i * vocab, row, (size_t)vocab * sizeof(*x));
                free(row);
                picks[i] = (struct pick){.how = limits[l], .position = (uint64_t)i * 77};
                picks[i].how.seed = l + 1;
            }
            sample_run(&rig, out, x, picks, n_picks, vocab);
            for (int32_t i = 0; i < n_picks; i++) {
                double uniform = philox_uniform(l + 1, picks[i].position);
                int32_t n = reference_kept(c, x + i * vocab, vocab, &picks[i]);
                int32_t want = reference_draw(c, n, uniform);
                if (out[i].token != want && !near_edge(c, n, uniform))
                    fail_msg("limits %zu vocab %d pick %d: %d, expected %d", l, vocab, i,
                             out[i].token, want);
            }
            free(x);
        }
    }
    free(c);
    rig_close(&rig);
}

/* Chi-square over many positions: frequencies follow the kept distribution. */
static void test_distribution(void **state)
{
    enum { VOCAB = 64, DRAWS = 20000, DRAWS_EMULATED = 200, BATCH = 40 };
    (void)state;
    struct rig rig = rig_open(2);
    int32_t n_draws = rig.cpu ? DRAWS : DRAWS_EMULATED;
    struct candidate *c = calloc(VOCAB, sizeof(*c));
    float *x = malloc(sizeof(*x) * BATCH * VOCAB);
    assert_true(c && x);
    for (size_t l = 0; l < ARRAY_LEN(limits); l += 3) {
        float *row = logits_make(VOCAB, l + 31);
        for (int i = 0; i < BATCH; i++)
            memcpy(x + i * VOCAB, row, VOCAB * sizeof(*x));
        int32_t count[VOCAB] = {0};
        struct pick picks[BATCH];
        struct picked out[BATCH];
        for (int32_t at = 0; at < n_draws; at += BATCH) {
            for (int32_t i = 0; i < BATCH; i++) {
                picks[i] = (struct pick){.how = limits[l], .position = (uint64_t)(at + i)};
                picks[i].how.seed = 12345;
            }
            sample_run(&rig, out, x, picks, BATCH, VOCAB);
            for (int32_t i = 0; i < BATCH; i++) {
                assert_in_range(out[i].token, 0, VOCAB - 1);
                count[out[i].token]++;
            }
        }
        int32_t n = reference_kept(c, row, VOCAB, &picks[0]);
        double total = mass_of(c, n);
        double chi = 0.0;
        double free_cells = 0.0;
        int32_t drawn = 0;
        for (int32_t i = 0; i < n; i++) {
            double want = c[i].p / total * n_draws;
            drawn += count[c[i].id];
            if (want < 5.0)
                continue;
            chi += pow((double)count[c[i].id] - want, 2.0) / want;
            free_cells += 1.0;
        }
        /* Nothing outside the kept tokens, and chi within five sigma. */
        assert_int_equal(drawn, n_draws);
        assert_true(chi <= free_cells + 5.0 * sqrt(2.0 * free_cells + 1.0));
        free(row);
    }
    free(c);
    free(x);
    rig_close(&rig);
}

/* The same pick anywhere in a batch, on any number of threads. */
static void test_company(void **state)
{
    enum { VOCAB = 777, PICKS = 40 };
    (void)state;
    struct rig rig = rig_open(1);
    float *x = malloc(sizeof(*x) * PICKS * VOCAB);
    struct picked *alone = malloc(sizeof(*alone) * PICKS);
    assert_true(x && alone);
    struct pick picks[PICKS];
    struct picked together[PICKS];
    for (int i = 0; i < PICKS; i++) {
        float *row = logits_make(VOCAB, (uint64_t)i + 9);
        memcpy(x + i * VOCAB, row, VOCAB * sizeof(*x));
        free(row);
        picks[i] = (struct pick){.how = limits[(size_t)i % ARRAY_LEN(limits)], .position = 5};
        picks[i].how.seed = (uint64_t)i;
        picks[i].how.n_logprobs = i % 7;
    }
    for (int i = 0; i < PICKS; i++)
        alone[i] = sample_one(&rig, x + i * VOCAB, &picks[i], VOCAB);
    rig_close(&rig);
    rig = rig_open(3);
    sample_run(&rig, together, x, picks, PICKS, VOCAB);
    for (int i = 0; i < PICKS; i++) {
        assert_int_equal(together[i].token, alone[i].token);
        assert_memory_equal(&together[i].logprob, &alone[i].logprob, sizeof(float));
        assert_int_equal(together[i].n_top, alone[i].n_top);
    }
    free(alone);
    free(x);
    rig_close(&rig);
}

/* ---- the cpu is the definition ---- */

struct agree_case {
    const char *name;
    int32_t vocab;
    float spread; /* of the logits; 0: all alike */
    bool ties;
    bool edits;
    struct sampling how;
};

#define DRAWN  .repetition = 1.0f, .temperature = 0.9f, .seed = 77
#define SECOND .repetition = 1.3f, .presence = 0.4f, .frequency = 0.2f, .seed = 78

static const struct agree_case agree_cases[] = {
    {"drawn", 1000, 9, false, false, {DRAWN, .top_p = 1, .n_logprobs = 0}},
    {"top_k", 1003, 9, false, false, {DRAWN, .top_p = 1, .top_k = 40, .n_logprobs = 5}},
    {"top_p", 4096, 6, true, false, {DRAWN, .top_p = 0.9f, .n_logprobs = LOGPROBS_MAX}},
    {"all limits", 5001, 3, true, true, {DRAWN, .top_p = 0.8f, .top_k = 700, .min_p = 0.01f}},
    {"edits, greedy", 1000, 9, true, true, {SECOND, .top_p = 1, .n_logprobs = 3}},
    {"edits, drawn", 999, 9, false, true, {SECOND, .temperature = 2, .top_p = 0.7f}},
    {"all alike", 7000, 0, false, false, {DRAWN, .top_p = 0.6f, .top_k = 5000, .n_logprobs = 7}},
    {"a tie beyond all bins", 6000, 90, true, false, {DRAWN, .top_p = 1, .top_k = 5900}},
    {"many blocks", 40004, 4, true, true, {DRAWN, .top_p = 0.99f, .n_logprobs = 20}},
    {"many blocks, ragged", 20001, 9, false, false, {SECOND, .top_p = 1, .n_logprobs = -1}},
};

static void agree_case(const struct agree_case *c)
{
    enum { PICKS = 3 };
    struct rig rig = rig_open(2);
    struct ops *cpu = NULL;
    char err[256];
    const struct ops_options opt = {.backend = "cpu", .threads = 1};
    assert_int_equal(ops_open(&cpu, &opt, err, sizeof(err)), OK);
    size_t row = (size_t)c->vocab;
    float *x = random_floats(PICKS * row, row);
    for (size_t i = 0; i < PICKS * row; i++)
        x[i] = c->ties ? rintf(x[i] * c->spread * 4.0f) / 4.0f : x[i] * c->spread;
    uint32_t *allowed = calloc(row / 32 + 1, sizeof(*allowed));
    assert_non_null(allowed);
    for (size_t i = 0; i <= row / 32; i++)
        allowed[i] = (uint32_t)random_bits(&(uint64_t){i + 1});
    /* Tokens more than once, and not of this vocabulary. */
    const struct token_bias bias[] = {{5, 1.25f}, {7, -3}, {5, 0.5f}, {c->vocab, 9}, {9, 2}};
    /* Each once, and more than a block has threads. */
    struct token_count seen[300];
    for (int32_t i = 0; i < (int32_t)ARRAY_LEN(seen); i++)
        seen[i] = (struct token_count){3 * i + 1, i % 4, i % 3 == 0};
    const int32_t banned[] = {12, 400, 12, -1};
    struct pick picks[PICKS];
    struct picked want[PICKS] = {0};
    struct picked got[PICKS] = {0};
    for (int i = 0; i < PICKS; i++) {
        picks[i] = (struct pick){.how = c->how, .position = (uint64_t)i << 33};
        if (!c->edits)
            continue;
        picks[i].allowed = i == 1 ? NULL : allowed;
        picks[i].how.bias = bias;
        picks[i].how.n_bias = ARRAY_LEN(bias);
        picks[i].seen = seen;
        picks[i].n_seen = ARRAY_LEN(seen);
        picks[i].banned = banned;
        picks[i].n_banned = i == 2 ? 0 : ARRAY_LEN(banned);
    }
    cpu->picks(cpu, want, picks, PICKS, c->vocab);
    cpu->sample(cpu, x);
    assert_int_equal(cpu->step_wait(cpu), OK);
    float *dl = rig_put(&rig, x, PICKS * row * sizeof(*x));
    rig.o->picks(rig.o, got, picks, PICKS, c->vocab);
    rig_begin(&rig);
    rig.o->sample(rig.o, dl);
    rig_end(&rig);
    for (int i = 0; i < PICKS; i++) {
        if (got[i].token != want[i].token)
            fail_msg("%s %d: token %d, expected %d", c->name, i, got[i].token, want[i].token);
        assert_memory_equal(&got[i].logprob, &want[i].logprob, sizeof(float));
        size_t n = (size_t)want[i].n_top;
        assert_int_equal(got[i].n_top, want[i].n_top);
        assert_memory_equal(got[i].top_token, want[i].top_token, n * sizeof(int32_t));
        assert_memory_equal(got[i].top_logprob, want[i].top_logprob, n * sizeof(float));
    }
    float *after = rig_take(&rig, dl, PICKS * row * sizeof(*x));
    assert_memory_equal(after, x, PICKS * row * sizeof(*x));
    free(after);
    free(allowed);
    free(x);
    cpu->close(cpu);
    rig_close(&rig);
}

static void test_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(agree_cases); i++)
        agree_case(&agree_cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox),       cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_edits),        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_given),        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_company),
        cmocka_unit_test(test_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
