/* Every option and command, as rows. A row says where in struct options its value goes, so no other
 * place lists them: a new option is a new row and a new member. */
#include "server/options_private.h"

#define AT(member) offsetof(struct options, member)

static const struct option_row model_rows[] = {
    {"model", AT(models), OPT_LIST, IN_ALL, 0, 0, NULL, NULL,
     "Hugging Face directory or GGUF file (default the bundled demo); serve takes several, "
     "as NAME=PATH"},
    {"served-model-name", AT(names), OPT_NAMES, IN_SERVE, 0, 0, NULL, NULL,
     "name clients use, repeatable (default last part of the path)"},
    {"chat-template", AT(chat_template), OPT_TEXT, IN_ALL, 0, 0, "", NULL,
     "Jinja file, or alpaca|chatml|llama2|llama3|mistral|plain|vicuna|zephyr|"
     "workers-llama2 (default the model's)"},
    {"alias", AT(aliases), OPT_LIST, IN_SERVE, 0, 0, NULL, NULL,
     "one more name, repeatable: NAME of the first model or NAME=MODEL"},
    {"backend", AT(backend), OPT_CHOICE, IN_ALL, 0, 0, "auto", "auto|cpu|cuda",
     "what computes; auto takes a GPU where there is one"},
    {"threads", AT(threads), OPT_INT, IN_ALL | IN_CONVERT, 0, 1024, "0", NULL,
     "threads of the cpu backend, 0: every core this process may use"},
    {"context", AT(context), OPT_INT, IN_ALL, 0, 1 << 20, "0", NULL,
     "longest sequence in tokens, 0: what the model was trained for"},
    {"weights", AT(weights), OPT_CHOICE, IN_MODEL, 0, 0, "q8", "q8|f32",
     "numbers of weights and activations"},
    {"activations", AT(activations), OPT_CHOICE, IN_ALL | IN_CONVERT, 0, 0, "auto", "auto|q8|f32",
     "what enters products with q8 weights; auto: q8 but where a probe finds it too coarse"},
    {"kv", AT(kv), OPT_CHOICE, IN_ALL, 0, 0, "q8", "q8|f32|f16", "numbers of keys and values"},
    {"kv-bytes", AT(kv_bytes), OPT_SIZE, IN_ALL, 0, 16 * TIB, "0", NULL,
     "memory for keys and values, 0: chosen from what is free"},
};

static const struct option_row look_rows[] = {
    {"probe", AT(probe), OPT_FLAG, IN_INSPECT, 0, 0, NULL, NULL,
     "load the weights and print which products read floats, and why"},
};

static const struct option_row sched_rows[] = {
    {"max-seqs", AT(max_seqs), OPT_INT, IN_SERVE, 0, 1024, "0", NULL,
     "sequences computed together in one step, 0: 256"},
    {"max-queue", AT(max_queue), OPT_INT, IN_SERVE, 0, 100000, "256", NULL,
     "requests that may wait beyond those; more are refused with 429"},
    {"max-queue-tokens", AT(max_queue_tokens), OPT_INT, IN_SERVE, 0, 2147483647, "0", NULL,
     "prompt tokens that may wait; more are refused with 429; 0: 1024 for each of --max-queue"},
    {"ttft-slo-ms", AT(ttft_slo_ms), OPT_INT, IN_SERVE, 0, 3600000, "0", NULL,
     "wanted time to the first token; what cannot make it is refused with 429; 0: no wish"},
    {"step-rows", AT(step_rows), OPT_INT, IN_MODEL, 0, 65536, "0", NULL,
     "token rows of one step, answers first, then prompts; 0: 64 more than --max-seqs, on a GPU "
     "2048"},
    {"no-prefix-cache", AT(no_prefix_cache), OPT_FLAG, IN_SERVE, 0, 0, NULL, NULL,
     "do not share computed prompt beginnings between requests"},
    {"plan", AT(plan), OPT_FLAG, IN_SERVE, 0, 0, NULL, NULL,
     "print what memory would be taken at the start, and end"},
    {"assume-memory", AT(assume_memory), OPT_SIZE, IN_SERVE, 0, 16 * TIB, "0", NULL,
     "with --plan: of a device with so much, a GPU unless --backend cpu; 0: of this machine"},
};

static const struct option_row door_rows[] = {
    {"host", AT(host), OPT_TEXT, IN_SERVE, 0, 0, "127.0.0.1", NULL, "address to listen on"},
    {"port", AT(port), OPT_INT, IN_SERVE, 0, 65535, "8080", NULL, "TCP port, 0: any that is free"},
    {"listen", AT(listen), OPT_LIST, IN_SERVE, 0, 0, NULL, NULL,
     "instead of both, repeatable: 127.0.0.1:8080, [::1]:8080, unix:/run/firstlight.sock"},
    {"unix-mode", AT(unix_mode), OPT_MODE, IN_SERVE, 0, 0777, "600", NULL,
     "permissions of Unix sockets"},
    {"api-key", AT(api_key), OPT_LIST, IN_SERVE, 0, 0, NULL, NULL,
     "what clients must send as 'Authorization: Bearer ...', repeatable (safer in a file)"},
    {"api-keys-file", AT(api_keys_file), OPT_TEXT, IN_SERVE, 0, 0, "", NULL,
     "more keys, one a line, a name may follow; read again on SIGHUP"},
    {"insecure", AT(insecure), OPT_FLAG, IN_SERVE, 0, 0, NULL, NULL,
     "allow an address other machines can reach without a key"},
    {"tls-cert", AT(tls_cert), OPT_TEXT, IN_SERVE, 0, 0, "", NULL,
     "certificate chain (PEM): TCP listeners speak TLS; read again on SIGHUP"},
    {"tls-key", AT(tls_key), OPT_TEXT, IN_SERVE, 0, 0, "", NULL, "its private key (PEM)"},
    {"cors-origin", AT(cors_origin), OPT_LIST, IN_SERVE, 0, 0, NULL, NULL,
     "site whose pages may use this server from a browser, repeatable; * is every site"},
    {"workers-padding", AT(workers_padding), OPT_FLAG, IN_SERVE, 0, 0, NULL, NULL,
     "Workers AI events get letters of random number ('p') that hide the lengths of tokens"},
};

static const struct option_row limit_rows[] = {
    {"max-conns", AT(max_conns), OPT_INT, IN_SERVE, 1, 1000000, "10000", NULL,
     "connections at once; never more than the limit of open files less 256"},
    {"address-conns", AT(address_conns), OPT_INT, IN_SERVE, 0, 1000000, "1024", NULL,
     "connections from one address (IPv6: one /64), this machine excepted; 0: no limit"},
    {"conn-requests", AT(conn_requests), OPT_INT, IN_SERVE, 0, 1000000000, "0", NULL,
     "requests of one connection, then it is closed; 0: no limit"},
    {"head-bytes", AT(head_bytes), OPT_SIZE, IN_SERVE, 1024, MIB, "16K", NULL,
     "largest request head"},
    {"head-fields", AT(head_fields), OPT_INT, IN_SERVE, 8, 1024, "64", NULL,
     "most header fields of a request"},
    {"target-bytes", AT(target_bytes), OPT_SIZE, IN_SERVE, 64, MIB, "2K", NULL,
     "longest request target"},
    {"body-bytes", AT(body_bytes), OPT_SIZE, IN_SERVE, 1024, GIB, "8M", NULL,
     "largest request body"},
    {"bodies-bytes", AT(bodies_bytes), OPT_SIZE, IN_SERVE, 1024, TIB, "512M", NULL,
     "all request bodies together"},
    {"ahead-bytes", AT(ahead_bytes), OPT_SIZE, IN_SERVE, 1024, MIB, "16K", NULL,
     "pipelined bytes kept while an answer is made"},
    {"handshake-s", AT(handshake_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "10", NULL,
     "seconds a TLS handshake may take"},
    {"head-s", AT(head_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "10", NULL,
     "seconds from the first byte of a request to the end of its head"},
    {"body-s", AT(body_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "30", NULL,
     "seconds a request body may take"},
    {"body-rate", AT(body_rate), OPT_SIZE, IN_SERVE, 0, GIB, "1K", NULL,
     "bytes a second a request body must bring, looked at every 5 s; 0: any"},
    {"idle-s", AT(idle_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "75", NULL,
     "seconds a connection may wait for its next request"},
    {"write-s", AT(write_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "30", NULL,
     "seconds without progress after which a slow reader counts as gone"},
    {"request-s", AT(request_ms), OPT_SECONDS, IN_SERVE, 0.05, 7 * DAY, "600", NULL,
     "seconds one answer may take, waiting included"},
    {"stall-s", AT(stall_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "120", NULL,
     "seconds without a step while requests wait, after which /health says so"},
    {"ping-s", AT(ping_ms), OPT_SECONDS, IN_SERVE, 1, DAY, "15", NULL,
     "seconds of silence after which a stream gets a comment"},
    {"drain-delay-s", AT(drain_delay_ms), OPT_SECONDS, IN_SERVE, 0, 3600, "0", NULL,
     "seconds after SIGTERM in which /health says 503 but requests are still taken"},
    {"drain-grace-s", AT(drain_grace_ms), OPT_SECONDS, IN_SERVE, 0, 3600, "1", NULL,
     "seconds after that in which a request that has begun to arrive may become whole"},
    {"drain-s", AT(drain_ms), OPT_SECONDS, IN_SERVE, 0, DAY, "30", NULL,
     "seconds running answers have to finish after SIGTERM"},
};

static const struct option_row run_rows[] = {
    {"system", AT(system), OPT_TEXT, IN_RUN, 0, 0, "", NULL, "system message before the prompt"},
    {"raw", AT(raw), OPT_FLAG, IN_RUN, 0, 0, NULL, NULL,
     "the prompt goes in as it is, without the chat template"},
    {"max-tokens", AT(max_tokens), OPT_INT, IN_RUN, 1, 1 << 20, "512", NULL,
     "longest answer in tokens"},
    {"temperature", AT(temperature), OPT_NUMBER, IN_RUN, -1, 5, "-1", NULL,
     "0: always the likeliest token; -1: what the model asks for"},
    {"top-p", AT(top_p), OPT_NUMBER, IN_RUN, -1, 1, "-1", NULL,
     "smallest probability mass to draw from; -1: what the model asks for"},
    {"top-k", AT(top_k), OPT_INT, IN_RUN, -1, 100000, "-1", NULL,
     "most tokens to draw from, 0: all; -1: what the model asks for"},
    {"seed", AT(seed), OPT_INT, IN_RUN, 0, 2147483647, "0", NULL,
     "the same seed gives the same answer, 0: a random one"},
};

static const struct option_row inspect_rows[] = {
    {"check", AT(check), OPT_FLAG, IN_INSPECT, 0, 0, NULL, NULL,
     "read and judge all of it, data, tokenizer and template too"},
};

static const struct option_row log_rows[] = {
    {"log", AT(log), OPT_CHOICE, IN_ALL | IN_CONVERT, 0, 0, "text", "text|json",
     "form of the log lines"},
    {"log-level", AT(log_level), OPT_CHOICE, IN_ALL | IN_CONVERT, 0, 0, "info",
     "error|warn|info|debug", "least important lines to show"},
    {"access-log", AT(access_log), OPT_CHOICE, IN_SERVE, 0, 0, "off", "off|logfmt|json",
     "one line a request, without contents"},
    {"access-log-file", AT(access_file), OPT_TEXT, IN_SERVE, 0, 0, "", NULL,
     "where to, instead of standard error; opened again on SIGHUP"},
};

const struct option_group option_groups[] = {
    {"Model", model_rows, ARRAY_LEN(model_rows)},
    {"Inspection", look_rows, ARRAY_LEN(look_rows)},
    {"Scheduling", sched_rows, ARRAY_LEN(sched_rows)},
    {"Front door", door_rows, ARRAY_LEN(door_rows)},
    {"Limits", limit_rows, ARRAY_LEN(limit_rows)},
    {"Answer", run_rows, ARRAY_LEN(run_rows)},
    {"Inspection", inspect_rows, ARRAY_LEN(inspect_rows)},
    {"Log", log_rows, ARRAY_LEN(log_rows)},
};

const struct command_row option_commands[] = {
    {"serve", CMD_SERVE, IN_SERVE, "serve [options]", "answer HTTP requests"},
    {"run", CMD_RUN, IN_RUN, "run MODEL \"prompt\" [options]",
     "answer one prompt on the terminal (MODEL \"demo\": the bundled one; prompt \"-\": stdin)"},
    {"inspect", CMD_INSPECT, IN_INSPECT, "inspect MODEL [options]",
     "print what a model is and what fits, without loading its weights"},
    {"convert", CMD_CONVERT, IN_CONVERT, "convert SRC DST [options]",
     "write a model as a directory in int8 that loads without work, in the form vLLM reads"},
};

const size_t n_option_groups = ARRAY_LEN(option_groups);
const size_t n_option_commands = ARRAY_LEN(option_commands);
