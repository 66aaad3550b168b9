/* Aim: the figures of a run are what vLLM's tool would make of the same requests, under its names,
 * and what the server counted is compared fairly.
 *
 * Negative space: runs of one request, of none, of failures alone; answers of one token;
 * percentiles at both ends; metrics text with labels that look like samples; texts that JSON must
 * escape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/serve_report.h"
#include "server/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000u

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-6 * fmax(1, fabs(b));
}

/* What numpy.percentile() and friends say. */
static void test_percentiles(void **state)
{
    (void)state;
    double four[] = {1, 2, 4, 10};
    double one[] = {7};
    const struct samples s = {.ms = four, .n = 4};
    const struct samples single = {.ms = one, .n = 1};
    static const double cases[][2] = {{0, 1},    {25, 1.75}, {50, 3},   {75, 5.5},
                                      {90, 8.2}, {99, 9.82}, {100, 10}, {99.9, 9.982}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_true(near(samples_percentile(&s, cases[i][0]), cases[i][1]));
    assert_true(near(samples_mean(&s), 4.25));
    assert_true(near(samples_std(&s), 3.491060011));
    assert_true(samples_percentile(&single, 99) == 7);
    assert_true(samples_std(&single) == 0);
    assert_true(isnan(samples_percentile(&(struct samples){0}, 50)));
    assert_true(isnan(samples_mean(&(struct samples){0})));
}

/* ---- runs ---- */

static uint32_t some_gaps[] = {10000, 20000, 30000};

/* Wanted at 1 s, sent 5 ms late, first text after 100 ms, three more. */
static struct record whole(int64_t index)
{
    return (struct record){.index = index,
                           .due_ns = 1000 * MS,
                           .sent_ns = 1005 * MS,
                           .first_ns = 1100 * MS,
                           .last_ns = 1160 * MS,
                           .end_ns = 1161 * MS,
                           .prompt_tokens = 10,
                           .cached_tokens = 2,
                           .answer_tokens = 4,
                           .events = 4,
                           .hash = 99,
                           .gap_us = some_gaps,
                           .n_gaps = 3,
                           .text = "a\"\n",
                           .text_bytes = 3};
}

static struct serve_options all_options(void)
{
    struct serve_options o;
    char err[OPTION_ERROR_BYTES];
    char *argv[] = {"",
                    "--percentile-metrics",
                    "ttft,tpot,itl,e2el,client_queue_time,e2el_including_client_queue",
                    "--metadata",
                    "k=v",
                    "--goodput",
                    "ttft:100"};
    assert_int_equal(serve_options_parse(&o, ARRAY_LEN(argv), argv, err), OK);
    return o;
}

static void test_figures(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r[] = {whole(0), whole(1)};
    struct summary s;
    r[1].first_ns = 1200 * MS; /* too late to be good */
    r[1].last_ns = 1260 * MS;
    r[1].answer_tokens = 7;
    assert_int_equal(summary_fill(&s, r, 2, &o, 2, INT64_MAX), OK);
    assert_int_equal(s.completed, 2);
    assert_int_equal(s.input_tokens, 20);
    assert_int_equal(s.cached_tokens, 4);
    assert_int_equal(s.output_tokens, 11);
    assert_int_equal(s.good, 1);
    assert_true(s.goodput_share == 0.5);
    assert_int_equal(s.max_concurrent, 2);
    assert_true(near(s.max_tokens_per_s, 11)); /* in eight events: some tokens came merged */
    assert_true(near(samples_mean(&s.metric[METRIC_TTFT]), 150)); /* from when it was wanted */
    assert_true(near(samples_mean(&s.metric[METRIC_TPOT]), 15));
    assert_true(near(samples_mean(&s.metric[METRIC_E2EL]), 210));
    assert_true(near(samples_mean(&s.metric[METRIC_QUEUE]), 5));
    assert_int_equal(s.metric[METRIC_ITL].n, 6);
    assert_true(near(samples_percentile(&s.metric[METRIC_ITL], 50), 20));
    assert_true(near(s.first_sum_s, 0.095 + 0.195)); /* from when it was sent */
    assert_true(summary_good(&s));
    summary_free(&s);
}

static void test_kinds_of_ends(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r[] = {whole(0), whole(1), whole(2), whole(3), whole(4)};
    struct summary s;
    (void)snprintf(r[1].fault, sizeof(r[1].fault), "http 429");
    r[2].cancelled = true;
    r[3].slow = true;
    (void)snprintf(r[4].fault, sizeof(r[4].fault), "http 429");
    assert_int_equal(summary_fill(&s, r, 5, &o, 2, INT64_MAX), OK);
    assert_int_equal(s.completed, 2);
    assert_int_equal(s.failed, 2);
    assert_int_equal(s.cancelled, 1);
    assert_int_equal(s.slow, 1);
    assert_int_equal(s.metric[METRIC_TTFT].n, 1);
    assert_int_equal(s.first_n,
                     4); /* what the server may have to say of the slow one is not this */
    assert_string_equal(s.fault[0].name, "http 429");
    assert_int_equal(s.fault[0].n, 2);
    assert_int_equal(s.fault[1].n, 0);
    assert_true(near(s.goodput_share, 1.0 / 3)); /* who fails is not good */
    assert_false(summary_good(&s));
    summary_free(&s);
}

/* A second has no more than it has, but a run of a tenth makes ten times that. */
static void test_peak_is_no_less_than_mean(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r = whole(0);
    struct summary s;
    assert_int_equal(summary_fill(&s, &r, 1, &o, 0.1, INT64_MAX), OK);
    assert_true(near(s.max_tokens_per_s, 40));
    summary_free(&s);
}

/* Who comes as another leaves does not stand beside it. */
static void test_one_after_another(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r[] = {whole(0), whole(1), whole(2)};
    struct summary s;
    for (uint64_t i = 0; i < 3; i++) {
        r[i].sent_ns += i * 155 * MS;
        r[i].first_ns += i * 155 * MS;
        r[i].last_ns += i * 155 * MS;
    }
    assert_int_equal(summary_fill(&s, r, 3, &o, 2, INT64_MAX), OK);
    assert_int_equal(s.max_concurrent, 1);
    summary_free(&s);
}

static void test_one_token(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r = whole(0);
    struct summary s;
    o.goal_ms[GOAL_TPOT] = 1;
    r.answer_tokens = 1;
    r.n_gaps = 0;
    assert_int_equal(summary_fill(&s, &r, 1, &o, 1, INT64_MAX), OK);
    assert_int_equal(s.metric[METRIC_TPOT].n, 0);
    assert_int_equal(s.good, 1); /* no time between tokens, so none too long */
    summary_free(&s);
}

static void test_slos(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r = whole(0);
    struct summary s;
    o.goodput_min = 1;
    o.max_p99[METRIC_TTFT] = 100;
    o.max_p99[METRIC_ITL] = 1;
    assert_int_equal(summary_fill(&s, &r, 1, &o, 1, INT64_MAX), OK);
    assert_int_equal(s.n_slos, 3);
    assert_true(s.slo[0].met && s.slo[1].met && !s.slo[2].met);
    assert_false(summary_good(&s));
    summary_free(&s);
    /* What was never measured keeps no promise. */
    assert_int_equal(summary_fill(&s, &r, 0, &o, 1, INT64_MAX), OK);
    assert_false(s.slo[1].met);
    assert_false(summary_good(&s));
    summary_free(&s);
}

static void test_answers(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record a[] = {whole(0), whole(1)};
    struct record b[] = {whole(1), whole(0)};
    struct summary s;
    struct summary t;
    a[1].hash = b[0].hash = 5;
    assert_int_equal(summary_fill(&s, a, 2, &o, 1, INT64_MAX), OK);
    assert_int_equal(summary_fill(&t, b, 2, &o, 1, INT64_MAX), OK);
    assert_true(s.answers == t.answers);
    summary_free(&t);
    b[0].index = 0;
    b[1].index = 1; /* the same texts to other questions */
    assert_int_equal(summary_fill(&t, b, 2, &o, 1, INT64_MAX), OK);
    assert_true(s.answers != t.answers);
    summary_free(&t);
    assert_int_equal(summary_fill(&t, b, 2, &o, 1, 0), OK);
    assert_true(t.answers == 0);
    summary_free(&s);
    summary_free(&t);
}

static void test_beside_long(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r[] = {whole(0), whole(0)};
    struct summary s;
    o.long_prompt = 100;
    r[1].kind = RECORD_LONG;
    r[1].sent_ns = 1115 * MS;
    r[1].first_ns = 1125 * MS; /* within the second gap, 1110 to 1130 */
    assert_int_equal(summary_fill(&s, r, 2, &o, 1, INT64_MAX), OK);
    assert_int_equal(s.beside.n, 1);
    assert_true(near(s.beside.ms[0], 20));
    assert_int_equal(s.quiet.n, 2);
    assert_int_equal(s.long_prompts, 1);
    assert_int_equal(s.completed, 1);
    summary_free(&s);
}

/* ---- JSON ---- */

static struct run_report report_of(const struct serve_options *o, const struct summary *s,
                                   const struct record *r, int64_t n)
{
    static const struct metrics_check check = {.note = "not wanted"};
    return (struct run_report){.opt = o,
                               .summary = s,
                               .check = &check,
                               .records = r,
                               .n_records = n,
                               .model_id = "meta/m",
                               .tokenizer = "server",
                               .date = "20260102-030405",
                               .rate = (double)INFINITY,
                               .max_concurrency = 3,
                               .n_prompts = n};
}

static struct cJSON *json_of(const struct run_report *r, bool detailed)
{
    struct buf b = {0};
    struct cJSON *top = NULL;
    struct json_error at;
    report_json(&b, r, detailed);
    assert_false(b.failed);
    if (json_parse(&top, b.data, b.n, &at))
        fail_msg("%s at %zu of %.*s", at.what, at.offset, (int)b.n, b.data);
    buf_free(&b);
    return top;
}

/* In the order of vLLM's benchmarks/serve.py; detailed ones are left out without --save-detailed.
 */
static const struct {
    const char *key;
    bool detailed;
} keys[] = {
    {"date", false},
    {"endpoint_type", false},
    {"backend", false},
    {"label", false},
    {"model_id", false},
    {"tokenizer_id", false},
    {"num_prompts", false},
    {"k", false}, /* --metadata */
    {"request_rate", false},
    {"burstiness", false},
    {"max_concurrency", false},
    {"duration", false},
    {"completed", false},
    {"failed", false},
    {"total_input_tokens", false},
    {"total_output_tokens", false},
    {"request_throughput", false},
    {"request_goodput", false},
    {"output_throughput", false},
    {"total_token_throughput", false},
    {"input_lens", true},
    {"output_lens", true},
    {"ttfts", true},
    {"itls", true},
    {"latencies", true},
    {"start_times", true},
    {"queue_times", true},
    {"generated_texts", true},
    {"errors", true},
    {"max_output_tokens_per_s", false},
    {"max_concurrent_requests", false},
    {"rtfx", false},
};

static const char *const of_metric[] = {"mean_%s_ms", "median_%s_ms", "std_%s_ms", "p99_%s_ms"};

static void check_keys(const struct cJSON *top, bool detailed)
{
    const struct cJSON *at = json_first(top);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i].detailed && !detailed)
            continue;
        assert_non_null(at);
        assert_string_equal(json_name(at), keys[i].key);
        at = json_next(at);
    }
    for (int32_t m = 0; m < N_METRICS; m++)
        for (size_t i = 0; i < ARRAY_LEN(of_metric); i++) {
            const char *name = metric_names[m];
            const char *hole = strchr(of_metric[i], '%');
            char want[64];
            (void)snprintf(want, sizeof(want), "%.*s%s%s", (int)(hole - of_metric[i]), of_metric[i],
                           name, hole + 2);
            assert_string_equal(json_name(at), want);
            at = json_next(at);
        }
    assert_string_equal(json_name(at), "firstlight");
    assert_null(json_next(at));
}

static void test_json(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct record r[] = {whole(0), whole(1)};
    struct summary s;
    size_t n = 0;
    double x = 0;
    (void)snprintf(r[1].fault, sizeof(r[1].fault), "cut off");
    assert_int_equal(summary_fill(&s, r, 2, &o, 2, INT64_MAX), OK);
    struct run_report report = report_of(&o, &s, r, 2);
    for (int detailed = 0; detailed < 2; detailed++) {
        struct cJSON *top = json_of(&report, detailed);
        check_keys(top, detailed);
        assert_string_equal(json_string(json_member(top, "request_rate"), &n), "inf");
        assert_true(json_number(json_member(top, "request_throughput"), &x) && x == 0.5);
        assert_true(json_number(json_member(top, "mean_ttft_ms"), &x) && near(x, 100));
        assert_int_equal(json_kind(json_member(top, "label")), JSON_NULL);
        json_free(top);
    }
    struct cJSON *top = json_of(&report, true);
    const struct cJSON *texts = json_member(top, "generated_texts");
    assert_string_equal(json_string(json_first(texts), &n), "a\"\n");
    const struct cJSON *error = json_first(json_member(top, "errors"));
    assert_string_equal(json_string(error, &n), "");
    assert_string_equal(json_string(json_next(error), &n), "cut off");
    assert_true(json_number(json_first(json_member(top, "ttfts")), &x) && near(x, 0.1));
    const struct cJSON *gaps = json_first(json_member(top, "itls"));
    assert_int_equal(json_count(gaps), 3);
    assert_true(json_number(json_first(gaps), &x) && near(x, 0.01));
    json_free(top);
    summary_free(&s);
}

static void test_json_of_nothing(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct summary s;
    assert_int_equal(summary_fill(&s, NULL, 0, &o, 0, 0), OK);
    struct run_report report = report_of(&o, &s, NULL, 0);
    struct cJSON *top = json_of(&report, true);
    check_keys(top, true);
    assert_int_equal(json_kind(json_member(top, "mean_ttft_ms")), JSON_NULL);
    assert_int_equal(json_kind(json_member(top, "request_throughput")), JSON_NULL);
    json_free(top);
    summary_free(&s);
}

static void test_path(void **state)
{
    (void)state;
    struct serve_options o = all_options();
    struct summary s;
    struct buf b = {0};
    assert_int_equal(summary_fill(&s, NULL, 0, &o, 0, 0), OK);
    struct run_report report = report_of(&o, &s, NULL, 0);
    o.result_dir = "d";
    report_path(&b, &report);
    buf_add(&b, "", 1);
    assert_string_equal(b.data, "d/openai-infqps-concurrency3-m-20260102-030405.json");
    buf_free(&b);
    summary_free(&s);
}

/* ---- the server's counters ---- */

static const char metrics[] = "# HELP vllm:prompt_tokens_total vllm:prompt_tokens_total 5\n"
                              "vllm:prompt_tokens_total{model=\"a\"} 100\n"
                              "vllm:prompt_tokens_total{model=\"b} 7\\\"\"} 1e2\r\n"
                              "vllm:prompt_tokens_total_created 3\n"
                              "xvllm:prompt_tokens_total 3\n"
                              "sglang:prompt_tokens_total 900\n"
                              "vllm:request_success_total 3 1700000000\n"
                              "vllm:generation_tokens_total{open=\"\n"
                              "vllm:generation_tokens_total NaN\n"
                              "vllm:generation_tokens_total\n"
                              "vllm:time_to_first_token_seconds_sum 0.5\n"
                              "vllm:time_to_first_token_seconds_count 2";

static void test_metrics_read(void **state)
{
    (void)state;
    struct server_counts c;
    assert_true(metrics_read(&c, metrics, sizeof(metrics) - 1));
    assert_true(c.value[SERVER_PROMPT_TOKENS] == 200);
    assert_true(c.value[SERVER_REQUESTS] == 3);
    assert_true(isnan(c.value[SERVER_ANSWER_TOKENS]));
    assert_true(c.value[SERVER_TTFT_SUM] == 0.5);
    assert_true(c.value[SERVER_TTFT_N] == 2);
    assert_false(metrics_read(&c, "nothing here\n", 13));
    assert_false(metrics_read(&c, "", 0));
    for (size_t n = 0; n < sizeof(metrics); n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, metrics, n);
        (void)metrics_read(&c, cut, n);
        free(cut);
    }
}

static void test_metrics_compare(void **state)
{
    (void)state;
    static const struct {
        double requests;
        double tokens;
        double ttft_s;
        int64_t cancelled;
        enum check_verdict want;
    } cases[] = {
        {10, 50, 0.1, 0, CHECKED_EQUAL},          {10, 50, 0.125, 0, CHECKED_EQUAL},
        {10, 50, 0.075, 0, CHECKED_EQUAL},        {10, 50, 0.15, 0, CHECKED_DIFFERENT},
        {11, 50, 0.1, 0, CHECKED_DIFFERENT},      {11, 60, 0.1, 1, CHECKED_EQUAL},
        {9, 50, 0.1, 1, CHECKED_DIFFERENT},       {10, 51, 0.1, 0, CHECKED_DIFFERENT},
        {(double)NAN, 50, 0.1, 0, CHECKED_EQUAL},
    };
    const struct summary base = {
        .all_whole = 10, .all_input = 50, .all_output = 50, .first_sum_s = 1, .first_n = 10};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct summary s = base;
        struct metrics_check check;
        const struct server_counts before = {{5, 5, 5, 1, 7}};
        const struct server_counts after = {{5 + cases[i].requests, 5 + cases[i].tokens,
                                             5 + cases[i].tokens, 1 + cases[i].ttft_s * 10, 17}};
        s.cancelled = cases[i].cancelled;
        metrics_compare(&check, &before, &after, &s);
        if (check.verdict != cases[i].want)
            fail_msg("case %zu: %d", i, (int)check.verdict);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_kinds_of_ends),
        cmocka_unit_test(test_peak_is_no_less_than_mean),
        cmocka_unit_test(test_one_after_another),
        cmocka_unit_test(test_one_token),
        cmocka_unit_test(test_slos),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_beside_long),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_of_nothing),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_metrics_read),
        cmocka_unit_test(test_metrics_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
