/* Aim: the load generator's command line means what `vllm bench serve` means by it, and whatever
 * else is typed is refused in one line.
 *
 * Negative space: values at and beyond their bounds, numbers that are almost numbers, options that
 * contradict each other, values of options that take several, names with underscores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/serve_options.h"
#include "bench/serve_wire.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ARGS_MAX = 32 };

/* A line as a shell would cut it at blanks; it must outlive the options. */
static enum status parse(struct serve_options *o, char *line, char err[OPTION_ERROR_BYTES])
{
    char *argv[ARGS_MAX] = {"bench_serve"};
    int argc = 1;
    err[0] = '\0';
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) {
        assert_true(argc < ARGS_MAX);
        argv[argc++] = word;
    }
    return serve_options_parse(o, argc, argv, err);
}

static struct serve_options take(const char *text, char line[512])
{
    struct serve_options o;
    char err[OPTION_ERROR_BYTES];
    (void)snprintf(line, 512, "%s", text);
    if (parse(&o, line, err))
        fail_msg("%s: %s", text, err);
    return o;
}

static void test_defaults(void **state)
{
    (void)state;
    char line[512];
    struct serve_options o = take("", line);
    assert_int_equal(o.backend, SERVE_OPENAI);
    assert_string_equal(o.host, "127.0.0.1");
    assert_int_equal(o.port, 8000);
    assert_int_equal(o.dataset, DATA_RANDOM);
    assert_int_equal(o.random_input_len, 1024);
    assert_int_equal(o.random_output_len, 128);
    assert_int_equal(o.prefix_prefix_len, 256);
    assert_int_equal(o.prefix_num_prefixes, 10);
    assert_int_equal(o.custom_output_len, 256);
    assert_true(isinf(o.request_rate));
    assert_true(o.burstiness == 1);
    assert_int_equal(o.max_concurrency, 0);
    assert_int_equal(o.seed, 0);
    assert_true(isnan(o.temperature));
    assert_true(o.ignore_eos); /* as the dataset is random */
    assert_int_equal(o.percentiles.n, 1);
    assert_true(o.percentiles.item[0] == 99);
    assert_null(o.model);
}

static void test_values(void **state)
{
    (void)state;
    char line[512];
    struct serve_options o =
        take("--request-rate 2.5 --burstiness=inf --max_concurrency 7 --num-prompts 1e3 "
             "--metric-percentiles 25,50,99.9 --percentile-metrics ttft,e2el --top-k -1 "
             "--custom-output-len -1 --ramp-up-strategy none",
             line);
    assert_true(o.request_rate == 2.5);
    assert_true(isinf(o.burstiness));
    assert_int_equal(o.max_concurrency, 7);
    assert_int_equal(o.num_prompts, 1000);
    assert_int_equal(o.percentiles.n, 3);
    assert_true(o.percentiles.item[2] == 99.9);
    assert_int_equal(o.percentile_metrics, 1u << METRIC_TTFT | 1u << METRIC_E2EL);
    assert_true(o.top_k == -1);
    assert_int_equal(o.custom_output_len, -1);
}

static void test_words(void **state)
{
    (void)state;
    char line[512];
    struct serve_options o = take("--goodput ttft:200 e2el:1e4 --metadata a=1 b=x=y --label z "
                                  "--header x-k=v --goodput tpot:5.5",
                                  line);
    assert_true(o.goal_ms[GOAL_TTFT] == 200);
    assert_true(o.goal_ms[GOAL_TPOT] == 5.5);
    assert_true(o.goal_ms[GOAL_E2EL] == 1e4);
    assert_int_equal(o.metadata.n, 2);
    assert_string_equal(o.metadata.item[1], "b=x=y");
    assert_string_equal(o.label, "z");
    assert_int_equal(o.headers.n, 1);
}

static void test_lengths_for_all(void **state)
{
    (void)state;
    char line[512];
    struct serve_options o = take("--input-len 10 --output-len 20 --backend openai-chat "
                                  "--dataset-name custom --dataset-path f",
                                  line);
    assert_int_equal(o.random_input_len, 10);
    assert_int_equal(o.random_output_len, 20);
    assert_int_equal(o.sharegpt_output_len, 20);
    assert_int_equal(o.custom_output_len, 20);
    assert_int_equal(o.prefix_output_len, 20);
    assert_false(o.ignore_eos); /* only made up prompts want it */
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *told; /* a part of the message */
    } cases[] = {
        {"--streams 4", "unknown option --streams"},
        {"--request-rat 4", "did you mean --request-rate"},
        {"word", "unknown option word"},
        {"--", "unknown option --"},
        {"--port", "a value is missing"},
        {"--port --host", "a value is missing"},
        {"--port 0", "out of range"},
        {"--port 65536", "out of range"},
        {"--port 80x", "not a number"},
        {"--port 8.5", "not a whole number"},
        {"--request-rate nan", "not a number"},
        {"--request-rate 0", "out of range"},
        {"--request-rate -1", "out of range"},
        {"--request-rate 1e999", "not a number"},
        {"--port inf", "out of range"},
        {"--num-prompts 1e99", "out of range"},
        {"--ignore-eos=1", "takes no value"},
        {"--backend tgi", "openai|vllm|openai-chat|workers-ai"},
        {"--percentile-metrics ttft,", "ttft|tpot|itl"},
        {"--percentile-metrics ttfb", "ttft|tpot|itl"},
        {"--metric-percentiles 50,,99", "not a number"},
        {"--metric-percentiles 101", "out of range"},
        {"--metric-percentiles 50;99", "numbers with commas"},
        {"--sweep-max-concurrency 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "too many"},
        {"--goodput ttft", "ttft:MS"},
        {"--goodput itl:5", "ttft:MS"},
        {"--goodput ttft:x", "not a number"},
        {"--goodput ttft:-1", "out of range"},
        {"--goodput-min 0.9", "wants --goodput"},
        {"--dataset-name sharegpt", "--dataset-path"},
        {"--dataset-path f", "has no file"},
        {"--random-range-ratio 1", "out of range"},
        {"--ramp-up-strategy linear", "--ramp-up-start-rps"},
        {"--ramp-up-strategy linear --ramp-up-start-rps 5 --ramp-up-end-rps 1",
         "more than the end"},
        {"--ramp-up-strategy linear --ramp-up-start-rps 0 --ramp-up-end-rps 1", "out of range"},
        {"--ramp-up-strategy linear --ramp-up-start-rps 1 --ramp-up-end-rps 2 --request-rate 3",
         "--request-rate"},
        {"--duration 5", "wants --request-rate"},
        {"--long-prompt 5", "wants --max-concurrency"},
        {"--long-prompt 5 --max-concurrency 2 --request-rate 2", "without a rate"},
        {"--tokenizer ids --backend openai-chat", "--tokenizer ids"},
        {"--header x", "KEY=VALUE"},
        {"--metadata =x", "KEY=VALUE"},
        {"--extra-body [1]", "not a JSON object"},
        {"--extra-body {", "not a JSON object"},
        {"--csv --json", "cannot both"},
        {"--label \xff", "not UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct serve_options o;
        char err[OPTION_ERROR_BYTES];
        char line[512];
        (void)snprintf(line, sizeof(line), "%s", cases[i].line);
        if (parse(&o, line, err) != E_INVALID || !strstr(err, cases[i].told))
            fail_msg("%s: '%s'", cases[i].line, err);
    }
}

static void test_good_together(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "--duration 5 --max-concurrency 3",
        "--duration 5 --sweep-request-rate 1,2",
        "--long-prompt 5 --sweep-max-concurrency 2,4",
        "--extra-body {\"a\":[1]} --tokenizer ids",
        "--ramp-up-strategy exponential --ramp-up-start-rps 1 --ramp-up-end-rps 1 --duration 3",
        "--help --dataset-name sharegpt",
    };
    char line[512];
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        (void)take(lines[i], line);
}

/* Those of vLLM's options that are ours too, spelled as there. */
static void test_vllm_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "backend",
        "base-url",
        "host",
        "port",
        "endpoint",
        "header",
        "max-concurrency",
        "model",
        "input-len",
        "output-len",
        "tokenizer",
        "request-rate",
        "burstiness",
        "disable-tqdm",
        "num-warmups",
        "save-result",
        "save-detailed",
        "append-result",
        "metadata",
        "result-dir",
        "result-filename",
        "ignore-eos",
        "percentile-metrics",
        "metric-percentiles",
        "goodput",
        "request-id-prefix",
        "top-p",
        "top-k",
        "min-p",
        "temperature",
        "frequency-penalty",
        "presence-penalty",
        "repetition-penalty",
        "served-model-name",
        "ramp-up-strategy",
        "ramp-up-start-rps",
        "ramp-up-end-rps",
        "ready-check-timeout-sec",
        "extra-body",
        "label",
        "seed",
        "num-prompts",
        "dataset-name",
        "dataset-path",
        "no-oversample",
        "disable-shuffle",
        "custom-output-len",
        "sharegpt-output-len",
        "random-input-len",
        "random-output-len",
        "random-range-ratio",
        "random-prefix-len",
        "prefix-repetition-prefix-len",
        "prefix-repetition-suffix-len",
        "prefix-repetition-num-prefixes",
        "prefix-repetition-output-len",
    };
    struct buf help = {0};
    serve_options_help(&help);
    buf_add(&help, "", 1);
    assert_false(help.failed);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char want[64];
        (void)snprintf(want, sizeof(want), "\n  --%s ", names[i]);
        if (!strstr(help.data, want))
            fail_msg("--%s is not there", names[i]);
    }
    buf_free(&help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_values),
        cmocka_unit_test(test_words),      cmocka_unit_test(test_lengths_for_all),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_good_together),
        cmocka_unit_test(test_vllm_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
