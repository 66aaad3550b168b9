/* Three ways in: messages through the template, a prompt as one user message through the
 * same template (Workers AI), and a plain text that gets nothing but BOS. */
#include "server/prompt.h"

#include "server/output.h"
#include "server/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Workers AI's documented system prompt for a bare prompt to a Llama 2 chat model. */
static const char workers_system[] =
    "A chat between a curious human and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the human's questions.";

size_t prompt_bytes(const struct gen_request *r)
{
    size_t most = chat_input_bytes(&r->chat);
    for (int32_t i = 0; i < r->n_prompts; i++)
        if (r->prompt[i].bytes > most)
            most = r->prompt[i].bytes;
    return most;
}

int32_t prompt_count(const struct gen_request *r)
{
    return r->chat.messages ? 1 : r->n_prompts;
}

static enum status ids_alloc(int32_t **ids, size_t n)
{
    size_t bytes = 0;
    if (!size_add(n, 1, &n) || !size_mul(n, sizeof(**ids), &bytes))
        return E_NOMEM;
    *ids = malloc(bytes);
    return *ids ? OK : E_NOMEM;
}

static enum status encode_chat(const struct served *m, const struct chat_input *in, int32_t **ids,
                               size_t *n, char *text, size_t text_size)
{
    if (m->chat)
        return chat_encode(m->chat, in, ids, n, text, text_size);
    (void)snprintf(text, text_size,
                   "The chat template of this model cannot be used by this server; "
                   "send a plain completion");
    return E_INVALID;
}

static enum status encode_plain(const struct served *m, const struct gen_request *r,
                                const struct gen_prompt *prompt, int32_t **ids, size_t *n)
{
    size_t room = tokenizer_bound(m->tokenizer, prompt->bytes);
    enum status s = size_add(room, 1, &room) ? ids_alloc(ids, room) : E_NOMEM;
    if (s)
        return s;
    int32_t bos = tokenizer_bos(m->tokenizer);
    *n = 0;
    if (bos >= 0 && !r->no_specials)
        (*ids)[(*n)++] = bos;
    s = tokenizer_encode(m->tokenizer, prompt->text, prompt->bytes, true, *ids, room, n);
    if (s) {
        free(*ids);
        *ids = NULL;
    }
    return s;
}

/* Nothing is added to ids: who sends them has seen to it. */
static enum status take_ids(const struct served *m, const struct gen_prompt *prompt, int32_t **ids,
                            size_t *n, char *text, size_t text_size)
{
    for (size_t i = 0; i < prompt->n_ids; i++) {
        if (prompt->ids[i] < m->info.vocab)
            continue;
        (void)snprintf(text, text_size, "The prompt holds a token id that the model does not have");
        return E_INVALID;
    }
    enum status s = ids_alloc(ids, prompt->n_ids);
    if (s)
        return s;
    for (*n = 0; *n < prompt->n_ids; ++*n)
        (*ids)[*n] = prompt->ids[*n];
    return OK;
}

static enum status encode_question(const struct served *m, const char *system,
                                   const struct gen_request *r, int32_t **ids, size_t *n,
                                   char *text, size_t text_size)
{
    struct cJSON *messages = NULL;
    enum status s = chat_messages(&messages, system, r->prompt->text, r->prompt->bytes);
    struct chat_input in = r->chat;
    in.messages = messages;
    if (s == OK)
        s = encode_chat(m, &in, ids, n, text, text_size);
    chat_messages_free(messages);
    return s;
}

/* Templates without a system role get the prompt alone. */
static enum status encode_workers(const struct served *m, const struct gen_request *r,
                                  int32_t **ids, size_t *n, char *text, size_t text_size)
{
    enum status s = encode_question(m, workers_system, r, ids, n, text, text_size);
    return s == E_INVALID ? encode_question(m, NULL, r, ids, n, text, text_size) : s;
}

/* The end of a prompt matters most. */
static void truncate_left(struct prompt_ids *p, const struct served *m, const struct gen_request *r)
{
    size_t most = r->truncate > 0 ? (size_t)r->truncate : p->n;
    int32_t answer = r->params.max_new_tokens;
    if (r->truncate < 0 && answer < m->info.context_max)
        most = (size_t)(m->info.context_max - answer);
    if (p->n <= most)
        return;
    memmove(p->ids, p->ids + (p->n - most), most * sizeof(*p->ids));
    p->n = most;
}

enum status prompt_encode(struct prompt_ids *out, const struct served *m,
                          const struct gen_request *r, int32_t i, struct api_error *err)
{
    char text[sizeof(err->text)] = "";
    enum status s;
    *out = (struct prompt_ids){.ids = NULL};
    if (r->chat.messages)
        s = encode_chat(m, &r->chat, &out->ids, &out->n, text, sizeof(text));
    else if (r->chat_prompt && !r->raw)
        s = encode_workers(m, r, &out->ids, &out->n, text, sizeof(text));
    else if (r->prompt[i].text)
        s = encode_plain(m, r, &r->prompt[i], &out->ids, &out->n);
    else
        s = take_ids(m, &r->prompt[i], &out->ids, &out->n, text, sizeof(text));
    const char *param = prompt_member(r);
    if (s == E_INVALID)
        api_error_set(err, API_BAD_FIELD, param, text[0] ? text : "The prompt is not valid UTF-8");
    if (s == OK && out->n == 0 && !r->wire->tell) {
        free(out->ids);
        out->ids = NULL;
        api_error_set(err, API_BAD_FIELD, param, "The prompt must not be empty");
        s = E_INVALID;
    }
    if (s == OK)
        truncate_left(out, m, r);
    return s;
}

enum status prompt_tell(struct buf *out, const struct served *m, const struct gen_request *r,
                        const struct prompt_ids *p)
{
    struct details strings = {.room = 0};
    struct buf text = {.data = NULL};
    struct told t = {.ids = p->ids, .n_ids = p->n, .context = m->info.context_max};
    bool fine = true;
    for (size_t i = 0; r->want_strings && i < p->n && fine; i++)
        fine = details_add(&strings, m->tokenizer, p->ids[i], NULL);
    if (!r->chat.messages && !r->prompt->text)
        output_decode(&text, m->tokenizer, p->ids, p->n);
    t.strings = strings.list;
    t.text = text.data;
    t.bytes = text.n;
    r->wire->tell(out, r, &t);
    fine = fine && !text.failed && !out->failed;
    details_free(&strings);
    buf_free(&text);
    return fine ? OK : E_NOMEM;
}

void prompt_params(struct sched_params *p, const struct served *m, const struct gen_request *r,
                   size_t n_prompt)
{
    bool model_defaults = r->wire->model_defaults;
    const struct model_info *info = &m->info;
    struct sampling *how = &p->sampling;
    *p = r->params;
    if (model_defaults && !r->temperature_given && info->temperature >= 0)
        how->temperature = info->temperature;
    if (model_defaults && !r->top_p_given && info->top_p > 0)
        how->top_p = info->top_p;
    if (model_defaults && !r->top_k_given && info->top_k >= 0)
        how->top_k = info->top_k;
    if (model_defaults && !r->repetition_given && info->repetition > 0)
        how->repetition = info->repetition;
    if (model_defaults && !r->min_p_given && info->min_p >= 0)
        how->min_p = info->min_p;
    if (model_defaults && p->max_new_tokens == TOKENS_NO_LIMIT && info->answer_max > 0)
        p->max_new_tokens = info->answer_max;
    /* Where nothing is drawn at random none is needed. */
    if (!r->seed_given && how->temperature > 0)
        how->seed = random_u64();
    p->stop_token = r->stop_tokens.id;
    p->n_stop_tokens = r->stop_tokens.n;
    p->allowed = r->allowed.id;
    p->n_allowed = r->allowed.n;
    p->judge_prompt = judges_prompt(r) || r->echo_only;
    p->prompt_logprobs = r->prompt_logprobs > 0 ? r->prompt_logprobs : 0;
    if (r->echo && how->n_logprobs > p->prompt_logprobs)
        p->prompt_logprobs = how->n_logprobs;
    /* The scheduler refuses a prompt that leaves no room. */
    size_t context = (size_t)info->context_max;
    size_t left = n_prompt < context ? context - n_prompt : 1;
    if (p->max_new_tokens > 0 && (size_t)p->max_new_tokens > left)
        p->max_new_tokens = (int32_t)left;
    if (p->min_tokens > p->max_new_tokens)
        p->min_tokens = p->max_new_tokens;
}
