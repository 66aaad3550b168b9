/* Every option of the load generator as a row, which says where in struct serve_options its value
 * goes: a new option is a new row and a new member. */
#include "bench/serve_options_table.h"

#include "bench/serve_wire.h"

#include <math.h>

const char *const metric_names[N_METRICS] = {
    [METRIC_TTFT] = "ttft",
    [METRIC_TPOT] = "tpot",
    [METRIC_ITL] = "itl",
    [METRIC_E2EL] = "e2el",
    [METRIC_QUEUE] = "client_queue_time",
    [METRIC_E2EL_QUEUE] = "e2el_including_client_queue",
};
const char *const dataset_names[] = {"random", "sharegpt", "prefix_repetition", "custom"};
const char *const ramp_names[] = {"none", "linear", "exponential"};
const char *const goal_names[N_GOALS] = {"ttft", "tpot", "e2el"};

#define AT(member)  offsetof(struct serve_options, member)
#define TOKENS_MOST 10000000
#define METRICS     "ttft|tpot|itl|e2el|client_queue_time|e2el_including_client_queue"

static const struct value_row server_rows[] = {
    {"backend", VALUE_CHOICE, AT(backend), 0, 0, "openai", SERVE_WIRE_NAMES,
     "what the server speaks; vllm is another word for openai, the completions API"},
    {"base-url", VALUE_TEXT, AT(base_url), 0, 0, NULL, NULL,
     "http://HOST:PORT[/PATH] instead of host and port"},
    {"host", VALUE_TEXT, AT(host), 0, 0, "127.0.0.1", NULL, "name or address"},
    {"port", VALUE_INT, AT(port), 1, 65535, "8000", NULL, "TCP port"},
    {"endpoint", VALUE_TEXT, AT(endpoint), 0, 0, NULL, NULL,
     "path behind the base (the backend's own; {model} stands for the model's name)"},
    {"model", VALUE_TEXT, AT(model), 0, 0, NULL, NULL, "(the first that /v1/models names)"},
    {"served-model-name", VALUE_TEXT, AT(served_model_name), 0, 0, NULL, NULL,
     "the name to send, where it is not --model"},
    {"tokenizer", VALUE_CHOICE, AT(tokenizer), 0, 0, "auto", "auto|server|usage|ids",
     "who counts prompt tokens: the server's /tokenize; two requests and their usage; ids: "
     "/tokenize, and prompts are sent as token ids; auto: the first of these that works"},
    {"header", VALUE_WORDS, AT(headers), 0, 0, NULL, NULL,
     "KEY=VALUE ... sent with each request; OPENAI_API_KEY of the environment is sent too"},
    {"timeout", VALUE_NUMBER, AT(timeout), 0.1, 1e5, "120", NULL,
     "seconds without a byte after which a request has failed"},
};

static const struct value_row data_rows[] = {
    {"dataset-name", VALUE_CHOICE, AT(dataset), 0, 0, "random",
     "random|sharegpt|prefix_repetition|custom", "where prompts come from"},
    {"dataset-path", VALUE_TEXT, AT(dataset_path), 0, 0, NULL, NULL,
     "sharegpt: a JSON file; custom: JSON lines with \"prompt\""},
    {"input-len", VALUE_INT, AT(input_len), 0, TOKENS_MOST, "0", NULL,
     "the same as --random-input-len"},
    {"output-len", VALUE_INT, AT(output_len), 0, TOKENS_MOST, "0", NULL,
     "answer tokens, for any dataset"},
    {"random-input-len", VALUE_INT, AT(random_input_len), 1, TOKENS_MOST, "1024", NULL,
     "prompt tokens"},
    {"random-output-len", VALUE_INT, AT(random_output_len), 1, TOKENS_MOST, "128", NULL,
     "answer tokens"},
    {"random-range-ratio", VALUE_NUMBER, AT(random_range_ratio), 0, 0.999999, "0", NULL,
     "R draws both lengths from [len * (1 - R), len * (1 + R)]"},
    {"random-prefix-len", VALUE_INT, AT(random_prefix_len), 0, TOKENS_MOST, "0", NULL,
     "tokens before these, the same in all requests"},
    {"prefix-repetition-prefix-len", VALUE_INT, AT(prefix_prefix_len), 0, TOKENS_MOST, "256", NULL,
     "tokens of a prefix"},
    {"prefix-repetition-suffix-len", VALUE_INT, AT(prefix_suffix_len), 1, TOKENS_MOST, "256", NULL,
     "tokens behind it, each request's own"},
    {"prefix-repetition-num-prefixes", VALUE_INT, AT(prefix_num_prefixes), 1, 1e6, "10", NULL,
     "different prefixes"},
    {"prefix-repetition-output-len", VALUE_INT, AT(prefix_output_len), 1, TOKENS_MOST, "128", NULL,
     "answer tokens"},
    {"sharegpt-output-len", VALUE_INT, AT(sharegpt_output_len), 0, TOKENS_MOST, "0", NULL,
     "answer tokens, 0: as many as the file's answer has"},
    {"custom-output-len", VALUE_INT, AT(custom_output_len), -1, TOKENS_MOST, "256", NULL,
     "answer tokens, -1: the line's \"output_tokens\""},
    {"disable-shuffle", VALUE_FLAG, AT(disable_shuffle), 0, 0, NULL, NULL,
     "keep the order of the file"},
    {"no-oversample", VALUE_FLAG, AT(no_oversample), 0, 0, NULL, NULL,
     "send no prompt of a file twice"},
    {"seed", VALUE_INT, AT(seed), 0, 1e9, "0", NULL, "of prompts, arrivals and sampling"},
    {"same-prompts", VALUE_FLAG, AT(same_prompts), 0, 0, NULL, NULL,
     "every run of a sweep sends the prompts of the first: answers must be equal, caches will "
     "help"},
};

static const struct value_row load_rows[] = {
    {"request-rate", VALUE_NUMBER, AT(request_rate), 1e-6, (double)INFINITY, "inf", NULL,
     "arrivals per second; inf: all at once, or as the concurrency allows"},
    {"burstiness", VALUE_NUMBER, AT(burstiness), 1e-6, (double)INFINITY, "1", NULL,
     "shape of the gamma distribution of gaps: 1 Poisson, inf like a clock"},
    {"max-concurrency", VALUE_INT, AT(max_concurrency), 0, 100000, "0", NULL,
     "requests at once, 0: no bound; with --request-rate inf a closed loop"},
    {"ramp-up-strategy", VALUE_CHOICE, AT(ramp), 0, 0, "none", "none|linear|exponential",
     "let the rate grow over the run"},
    {"ramp-up-start-rps", VALUE_NUMBER, AT(ramp_start), 1e-6, 1e6, NULL, NULL, "from"},
    {"ramp-up-end-rps", VALUE_NUMBER, AT(ramp_end), 1e-6, 1e6, NULL, NULL, "to"},
    {"num-prompts", VALUE_INT, AT(num_prompts), 0, 1e8, "0", NULL,
     "requests of a run, 0: 1000, with --duration as many as fit"},
    {"duration", VALUE_NUMBER, AT(duration), 0, 1e6, "0", NULL,
     "seconds in which requests are sent, 0: until all are"},
    {"num-warmups", VALUE_INT, AT(num_warmups), -1, 1e6, "-1", NULL,
     "short answers before each run, -1: one per stream, at least 4"},
    {"ready-check-timeout-sec", VALUE_NUMBER, AT(ready_check_timeout), 0, 1e5, "0", NULL,
     "wait so long for a first answer"},
    {"sweep-request-rate", VALUE_NUMBERS, AT(sweep_rates), 1e-6, (double)INFINITY, NULL, NULL,
     "1,2,4: a run at each rate"},
    {"sweep-max-concurrency", VALUE_NUMBERS, AT(sweep_concurrency), 1, 100000, NULL, NULL,
     "1,4,16: a run at each concurrency"},
    {"cancel-rate", VALUE_NUMBER, AT(cancel_rate), 0, 1, "0", NULL,
     "share of requests that hang up after a random number of tokens"},
    {"slow-readers", VALUE_NUMBER, AT(slow_readers), 0, 1, "0", NULL,
     "share of requests that read little by little"},
    {"slow-bytes", VALUE_INT, AT(slow_bytes), 100, 1e9, "2000", NULL, "bytes they read a second"},
    {"long-prompt", VALUE_INT, AT(long_prompt), 0, TOKENS_MOST, "0", NULL,
     "tokens of a prompt that comes again and again beside --max-concurrency steady streams; "
     "--num-prompts counts these, 20 if it is not given"},
};

static const struct value_row sampling_rows[] = {
    {"ignore-eos", VALUE_FLAG, AT(ignore_eos), 0, 0, NULL, NULL,
     "answers are as long as they may be; the dataset random always wants it"},
    {"temperature", VALUE_NUMBER, AT(temperature), 0, 5, NULL, NULL,
     "(the server's, likewise below)"},
    {"top-p", VALUE_NUMBER, AT(top_p), 0, 1, NULL, NULL, ""},
    {"top-k", VALUE_NUMBER, AT(top_k), -1, 1e6, NULL, NULL, ""},
    {"min-p", VALUE_NUMBER, AT(min_p), 0, 1, NULL, NULL, ""},
    {"frequency-penalty", VALUE_NUMBER, AT(frequency_penalty), -2, 2, NULL, NULL, ""},
    {"presence-penalty", VALUE_NUMBER, AT(presence_penalty), -2, 2, NULL, NULL, ""},
    {"repetition-penalty", VALUE_NUMBER, AT(repetition_penalty), 0, 10, NULL, NULL, ""},
    {"extra-body", VALUE_TEXT, AT(extra_body), 0, 0, NULL, NULL,
     "JSON object whose members go into each request, over ours"},
    {"request-id-prefix", VALUE_TEXT, AT(request_id_prefix), 0, 0, NULL, NULL,
     "of x-request-id (bench- and a random number)"},
};

static const struct value_row result_rows[] = {
    {"percentile-metrics", VALUE_CHOICES, AT(percentile_metrics), 0, 0, "ttft,tpot,itl,e2el",
     METRICS, "what is reported, with commas"},
    {"metric-percentiles", VALUE_NUMBERS, AT(percentiles), 0, 100, "99", NULL,
     "25,50,99: percentiles of each"},
    {"goodput", VALUE_WORDS, AT(goodput), 0, 0, NULL, NULL,
     "ttft:MS tpot:MS e2el:MS: what a good request keeps"},
    {"goodput-min", VALUE_NUMBER, AT(goodput_min), 0, 1, NULL, NULL,
     "share of requests that must be good, else the exit status is 1"},
    {"max-ttft-p99", VALUE_NUMBER, AT(max_p99[METRIC_TTFT]), 0, 1e9, NULL, NULL,
     "milliseconds that may not be exceeded, likewise below"},
    {"max-tpot-p99", VALUE_NUMBER, AT(max_p99[METRIC_TPOT]), 0, 1e9, NULL, NULL, ""},
    {"max-itl-p99", VALUE_NUMBER, AT(max_p99[METRIC_ITL]), 0, 1e9, NULL, NULL, ""},
    {"max-e2el-p99", VALUE_NUMBER, AT(max_p99[METRIC_E2EL]), 0, 1e9, NULL, NULL, ""},
    {"check-metrics", VALUE_CHOICE, AT(check), 0, 0, "auto", "auto|off|require",
     "compare with what the server counted in /metrics; require: a difference is a failure"},
    {"save-result", VALUE_FLAG, AT(save_result), 0, 0, NULL, NULL, "write a JSON file"},
    {"save-detailed", VALUE_FLAG, AT(save_detailed), 0, 0, NULL, NULL,
     "with every request's lengths, times and text"},
    {"append-result", VALUE_FLAG, AT(append_result), 0, 0, NULL, NULL,
     "add a line to the JSON file"},
    {"result-dir", VALUE_TEXT, AT(result_dir), 0, 0, NULL, NULL, "where to (here)"},
    {"result-filename", VALUE_TEXT, AT(result_filename), 0, 0, NULL, NULL,
     "(LABEL-RATEqps[-concurrencyN]-MODEL-DATE.json)"},
    {"label", VALUE_TEXT, AT(label), 0, 0, NULL, NULL, "(the backend)"},
    {"metadata", VALUE_WORDS, AT(metadata), 0, 0, NULL, NULL, "KEY=VALUE ... into the JSON file"},
    {"json", VALUE_FLAG, AT(json), 0, 0, NULL, NULL, "print the JSON object instead of the table"},
    {"csv", VALUE_FLAG, AT(csv), 0, 0, NULL, NULL, "print a line of CSV instead of the table"},
    {"disable-tqdm", VALUE_FLAG, AT(disable_tqdm), 0, 0, NULL, NULL,
     "no line of progress on a terminal"},
    {"help", VALUE_FLAG, AT(help), 0, 0, NULL, NULL, "this"},
};

const struct value_group value_groups[] = {
    {"server", server_rows, ARRAY_LEN(server_rows)},
    {"prompts", data_rows, ARRAY_LEN(data_rows)},
    {"load", load_rows, ARRAY_LEN(load_rows)},
    {"requests", sampling_rows, ARRAY_LEN(sampling_rows)},
    {"results", result_rows, ARRAY_LEN(result_rows)},
};

const size_t n_value_groups = ARRAY_LEN(value_groups);
