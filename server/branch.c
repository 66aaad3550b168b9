/* Nothing is queued here: tokens wait in the scheduler's log until they are read, so a slow
 * client costs no memory. Invariant: req is NULL as soon as finish is set. */
#include "server/branch.h"

#include <string.h>

enum status branch_open(struct branch *b, const struct tokenizer *t)
{
    b->choice->stop_token = -1;
    if (b->gen->return_ids) {
        b->choice->prompt = b->prompt->ids;
        b->choice->n_prompt = (int32_t)b->prompt->n;
    }
    return output_open(&b->output, t, b->gen);
}

void branch_close(struct branch *b)
{
    output_close(&b->output);
    details_free(&b->judged);
}

/* -- reading -- */

void branch_on_news(struct branch *b)
{
    b->news = true;
    b->news_ns = now_ns();
}

static enum metric_finish metric_of(const struct branch *b)
{
    if (b->output.stopped || b->finish == SCHED_STOP)
        return METRIC_STOP;
    if (b->finish == SCHED_LENGTH)
        return METRIC_LENGTH;
    return b->finish == SCHED_CANCELLED ? METRIC_ABORT : METRIC_ERROR;
}

/* The finish has been read: nothing of the scheduler is needed any more. */
static void release(struct branch *b)
{
    sched_timing(b->req, &b->timing);
    sched_release(b->sched, b->req);
    b->req = NULL;
    output_end(&b->output);
    metrics_request(b->metrics, metric_of(b), seconds_between(b->arrived_ns, b->news_ns),
                    &b->timing, (int32_t)b->prompt->n, b->output.n_seen);
}

/* By the clock of the news: a client that reads slowly has its tokens read late, and that says
 * nothing about the engine. */
static void count_tokens(struct branch *b, int32_t n)
{
    struct model_metrics *m = b->metrics;
    if (n == 0)
        return;
    m->generation_tokens += (uint64_t)n;
    if (b->counted_ns)
        metrics_add_n(m, HIST_BETWEEN, seconds_between(b->counted_ns, b->news_ns) / n, (uint64_t)n);
    else
        metrics_add(m, HIST_FIRST, seconds_between(b->arrived_ns, b->news_ns));
    b->counted_ns = b->news_ns;
}

static bool judge(struct branch *b, struct details *d, const struct picked *p, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (!details_add(d, b->output.tokenizer, b->prompt->ids[i], i ? &p[i] : NULL))
            return false;
    return true;
}

static void echo(struct branch *b, const struct gen_prompt *p)
{
    if (p->text)
        buf_add(&b->output.text, p->text, p->bytes);
    else
        output_decode(&b->output.text, b->output.tokenizer, p->ids, p->n_ids);
}

/* The prompt, and what is known of its tokens, before the first token. */
static void take_prompt(struct branch *b, const struct sched_news *news)
{
    int32_t n = news->n_prompt_detail;
    bool fine = true;
    b->echoed = true;
    if (b->gen->prompt_logprobs >= 0)
        fine = judge(b, &b->judged, news->prompt_detail, n);
    if (b->gen->echo && b->gen->params.sampling.n_logprobs >= 0)
        fine = judge(b, &b->output.detail, news->prompt_detail, n) && fine;
    if (b->gen->echo)
        echo(b, &b->gen->prompt[b->choice->index / b->gen->n]);
    b->output.failed = b->output.failed || b->output.text.failed || !fine;
}

bool branch_read(struct branch *b)
{
    struct sched_news news;
    if (!b->news || !b->req)
        return false;
    b->news = false;
    sched_read(b->sched, b->req, &news);
    count_tokens(b, news.n);
    if (!b->echoed && (news.n > 0 || news.n_prompt_detail > 0 || news.finish))
        take_prompt(b, &news);
    for (int32_t i = 0; i < news.n && !b->output.stopped; i++)
        output_token(&b->output, news.token[i], news.detail ? &news.detail[i] : NULL);
    b->finish = news.finish;
    if (news.finish) {
        b->choice->stop_token = b->output.stopped ? -1 : news.stop_token;
        release(b);
    } else if (b->output.stopped || b->output.failed) {
        branch_cancel(b);
    }
    return true;
}

void branch_cancel(struct branch *b)
{
    if (b->req)
        sched_cancel(b->sched, b->req);
}

bool branch_ended_well(struct branch *b, struct api_error *err)
{
    b->choice->finish = FINISH_STOP;
    if (b->output.failed)
        api_error_set(err, API_ENGINE, NULL, "out of memory");
    else if (b->output.stopped || b->finish == SCHED_STOP)
        return true;
    else if (b->finish == SCHED_EXPIRED)
        api_error_set(err, API_TIMEOUT, NULL, NULL);
    else if (b->finish != SCHED_LENGTH)
        api_error_set(err, API_ENGINE, NULL, NULL);
    else {
        b->choice->finish = FINISH_LENGTH;
        return true;
    }
    return false;
}

/* -- showing -- */

bool branch_show(struct branch *b)
{
    const struct output *o = &b->output;
    struct choice *c = b->choice;
    c->text = o->text.data ? o->text.data : "";
    c->bytes = o->text.n;
    c->detail = o->detail.list;
    c->token = o->token;
    c->n_token = o->n_token;
    c->prompt_detail = b->judged.list;
    if (o->stops)
        c->stop_text = stops_found(o->stops, &c->stop_bytes);
    if (b->told)
        return false;
    return c->bytes > 0 || c->detail.n > 0 || c->n_token > 0 || c->finish;
}

void branch_sent(struct branch *b)
{
    output_sent(&b->output);
    b->told = b->choice->finish != FINISH_NONE;
}
