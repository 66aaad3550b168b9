/* One answer on the terminal, by the same way a request of the server goes: template,
 * scheduler, decoding. Only the text goes to stdout. */
#include "server/cli.h"
#include "server/output.h"
#include "server/progress.h"
#include "server/prompt.h"
#include "server/registry.h"
#include "server/reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { PROMPT_BYTES_MAX = 8 << 20, READ_BYTES = 4096 };

struct run {
    const struct options *options;
    struct registry registry;
    struct served *model; /* the only one */
    struct progress progress;
    uv_loop_t loop;
    uv_async_t news;
    uv_signal_t interrupt;
    struct buf stdin_text;
    struct cJSON *messages;
    struct gen_request request;
    struct gen_prompt prompt;
    struct sched_req *req;
    struct output output;
    struct sched_timing timing;
    enum sched_finish finish;
    int32_t n_prompt;
    int32_t n_tokens;
    bool broken_pipe;
};

static enum status read_stdin(struct buf *out)
{
    char piece[READ_BYTES];
    for (;;) {
        size_t n = fread(piece, 1, sizeof(piece), stdin);
        buf_add(out, piece, n);
        if (n == 0)
            break;
        if (out->failed || out->n > PROMPT_BYTES_MAX)
            return E_INVALID;
    }
    /* The line end that echo adds is not meant. */
    while (out->n > 0 && out->data[out->n - 1] == '\n')
        out->n--;
    return ferror(stdin) ? E_IO : OK;
}

/* The prompt as a request of no wire format: every default is the model's own. */
static enum status make_request(struct run *r)
{
    const struct options *o = r->options;
    struct gen_request *q = &r->request;
    const char *text = o->prompt;
    size_t bytes = strlen(text);
    if (strcmp(text, "-") == 0) {
        enum status s = read_stdin(&r->stdin_text);
        if (s)
            return s;
        text = r->stdin_text.data ? r->stdin_text.data : "";
        bytes = r->stdin_text.n;
    }
    q->wire = &wire_chat;
    q->n = 1;
    q->prompt_logprobs = -1;
    q->params.max_new_tokens = o->max_tokens;
    q->params.sampling = (struct sampling){
        .temperature = o->temperature >= 0 ? (float)o->temperature : 1,
        .top_p = o->top_p > 0 ? (float)o->top_p : 1,
        .top_k = o->top_k >= 0 ? o->top_k : 0,
        .repetition = 1,
        .seed = (uint64_t)o->seed,
        .n_logprobs = -1,
    };
    q->temperature_given = o->temperature >= 0;
    q->top_p_given = o->top_p > 0;
    q->top_k_given = o->top_k >= 0;
    q->seed_given = o->seed != 0;
    if (o->raw) {
        r->prompt = (struct gen_prompt){.text = text, .bytes = bytes};
        q->prompt = &r->prompt;
        q->n_prompts = 1;
        return OK;
    }
    enum status s = chat_messages(&r->messages, o->system[0] ? o->system : NULL, text, bytes);
    q->chat = (struct chat_input){
        .messages = r->messages, .add_generation_prompt = true, .now = (int64_t)time(NULL)};
    return s;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void print_text(struct run *r)
{
    struct buf *text = &r->output.text;
    if (text->n == 0)
        return;
    if (fwrite(text->data, 1, text->n, stdout) != text->n || fflush(stdout)) {
        r->broken_pipe = true;
        sched_cancel(r->model->sched, r->req);
    }
    output_sent(&r->output);
}

static void on_news(uv_async_t *handle)
{
    struct run *r = handle->data;
    struct sched_news news;
    /* Polled until NULL, as the contract wants; the only request is ours. */
    while (sched_poll(r->model->sched))
        ;
    if (!r->req)
        return;
    sched_read(r->model->sched, r->req, &news);
    for (int32_t i = 0; i < news.n; i++)
        output_token(&r->output, news.token[i], NULL);
    r->n_tokens += news.n;
    if (news.finish)
        output_end(&r->output);
    if (!r->broken_pipe)
        print_text(r);
    if (!news.finish)
        return;
    r->finish = news.finish;
    sched_timing(r->req, &r->timing);
    sched_release(r->model->sched, r->req);
    r->req = NULL;
    uv_walk(&r->loop, close_handle, NULL);
}

static void wake(void *arg)
{
    uv_async_send(arg);
}

static void on_interrupt(uv_signal_t *handle, int number)
{
    struct run *r = handle->data;
    (void)number;
    if (r->req)
        sched_cancel(r->model->sched, r->req);
}

static void print_speed(const struct run *r)
{
    const struct sched_timing *t = &r->timing;
    double first = t->first_ns > t->submitted_ns ? (double)(t->first_ns - t->submitted_ns) : 0;
    double rest = t->last_ns > t->first_ns ? (double)(t->last_ns - t->first_ns) : 0;
    (void)fprintf(stderr, "[%d + %d tokens, first after %.0f ms, %.1f tokens/s%s]\n", r->n_prompt,
                  r->n_tokens, first * 1e-6,
                  rest > 0 ? (double)(r->n_tokens - 1) * 1e9 / rest : 0.0,
                  r->finish == SCHED_LENGTH ? ", cut by the length limit" : "");
}

static int generate(struct run *r)
{
    struct prompt_ids prompt;
    struct api_error err;
    struct sched_params params;
    memset(&err, 0, sizeof(err));
    enum status s = prompt_encode(&prompt, r->model, &r->request, 0, &err);
    if (s)
        return cli_fail(err.text, s);
    r->n_prompt = (int32_t)prompt.n;
    prompt_params(&params, r->model, &r->request, prompt.n);
    s = output_open(&r->output, r->model->tokenizer, &r->request);
    if (s == OK)
        s = sched_submit(r->model->sched, &params, prompt.ids, r->n_prompt, r, &r->req);
    free(prompt.ids);
    if (s)
        return cli_fail(s == E_INVALID ? "the prompt is too long for the context" : "", s);
    /* Only now: until here Ctrl-C simply ends the process. */
    (void)uv_signal_start(&r->interrupt, on_interrupt, SIGINT);
    (void)uv_run(&r->loop, UV_RUN_DEFAULT);
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
    if (r->finish == SCHED_FAILED)
        return cli_fail("the model has failed", E_DEVICE);
    if (r->broken_pipe)
        return cli_fail("the answer could not be written", E_IO);
    print_speed(r);
    return 0;
}

static bool open_loop(struct run *r)
{
    if (uv_loop_init(&r->loop))
        return false;
    if (uv_async_init(&r->loop, &r->news, on_news) || uv_signal_init(&r->loop, &r->interrupt))
        return false;
    r->news.data = r;
    r->interrupt.data = r;
    return true;
}

static void close_all(struct run *r)
{
    sched_close(r->model->sched);
    r->model->sched = NULL;
    uv_walk(&r->loop, close_handle, NULL);
    (void)uv_run(&r->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&r->loop);
    output_close(&r->output);
    registry_close(&r->registry);
    chat_messages_free(r->messages);
    buf_free(&r->stdin_text);
}

static enum status load(struct run *r, const struct options *o, char *err, size_t err_size)
{
    enum status s = registry_inspect(&r->registry, o, err, err_size);
    if (s)
        return s;
    progress_start(&r->progress, "loading");
    s = registry_load(&r->registry, o, progress_update, &r->progress, err, err_size);
    progress_end(&r->progress);
    return s ? s : sched_open(&r->model->sched, r->model->model, &r->model->limits, wake, &r->news);
}

int cli_run(const struct options *o)
{
    char err[512] = "";
    struct options one = *o;
    struct run *r = calloc(1, sizeof(*r));
    if (!r)
        return cli_fail("", E_NOMEM);
    one.max_seqs = 1;
    one.max_queue = 0;
    r->options = &one;
    r->model = &r->registry.model[0];
    if (!open_loop(r)) {
        free(r);
        return cli_fail("cannot open an event loop", E_IO);
    }
    int code = 1;
    enum status s = make_request(r);
    if (s)
        (void)snprintf(err, sizeof(err),
                       "cannot read the prompt: it is too long, or no UTF-8 text");
    else
        s = load(r, &one, err, sizeof(err));
    if (s == OK)
        code = generate(r);
    else
        (void)cli_fail(err, s);
    close_all(r);
    free(r);
    return code;
}
