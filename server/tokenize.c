/* vLLM's /tokenize and /detokenize: requests that generate nothing. Their prompts are read like
 * those of chat and completions and take the same way to the tokenizer, so what is counted is
 * what would be computed. Errors are OpenAI's. */
#include "server/openai.h"

#define AT(member) offsetof(struct gen_request, member)

static const struct field tokenize_fields[] = {
    {"add_special_tokens", FIELD_NOT, .at = AT(no_specials)},
    {"return_token_strs", FIELD_BOOL, .at = AT(want_strings)},
    {"add_generation_prompt", FIELD_BOOL, .at = AT(chat.add_generation_prompt)},
    {"continue_final_message", FIELD_BOOL, .at = AT(chat.continue_final)},
};

static enum status read_tokenize(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    enum status st = model_read(r, top, f);
    if (st == OK)
        st = tools_read(top, f);
    if (st == OK)
        st = fields_read(r, top, tokenize_fields, ARRAY_LEN(tokenize_fields), true, f);
    if (st != OK)
        return st;
    if (json_given(top, "messages"))
        return chat_read(r, top, f);
    const struct cJSON *prompt = json_member(top, "prompt");
    size_t n = 0;
    const char *text = json_string(prompt, &n);
    if (!text)
        return fault_type(f, "prompt", "string", prompt);
    st = prompts_open(r, 1);
    if (st == OK)
        prompt_add(r, text, n);
    return st;
}

static enum status read_detokenize(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *tokens = json_member(top, "tokens");
    enum status st = model_read(r, top, f);
    if (st == OK && json_kind(tokens) != JSON_ARRAY)
        st = fault_type(f, "tokens", "array", tokens);
    if (st == OK)
        st = prompts_open(r, 1);
    if (st != OK)
        return st;
    if (json_first(tokens))
        return prompt_add_ids(r, tokens, "tokens", f);
    prompt_add(r, NULL, 0);
    return OK;
}

static enum status parse_tokenize(struct gen_request *out, const char *body, size_t bytes,
                                  struct api_error *err)
{
    return body_parse(out, &wire_tokenize, body, bytes, read_tokenize, openai_word, err);
}

static enum status parse_detokenize(struct gen_request *out, const char *body, size_t bytes,
                                    struct api_error *err)
{
    return body_parse(out, &wire_detokenize, body, bytes, read_detokenize, openai_word, err);
}

static void tell_tokens(struct buf *out, const struct gen_request *r, const struct told *t)
{
    buf_printf(out, "{\"count\":%zu,\"max_model_len\":%d", t->n_ids, t->context);
    openai_write_ids(out, "tokens", t->ids, (int32_t)t->n_ids);
    buf_text(out, ",\"token_strs\":");
    if (!r->want_strings) {
        buf_text(out, "null}");
        return;
    }
    buf_text(out, "[");
    for (int32_t i = 0; i < t->strings.n; i++) {
        buf_text(out, i ? "," : "");
        openai_write_token(out, r, &t->strings.at[i].drawn);
    }
    buf_text(out, "]}");
}

static void tell_text(struct buf *out, const struct gen_request *r, const struct told *t)
{
    (void)r;
    buf_text(out, "{\"prompt\":");
    buf_json(out, t->bytes ? t->text : "", t->bytes);
    buf_text(out, "}");
}

const struct wire wire_tokenize = {
    .name = "tokenize",
    .id_prefix = "",
    .whole_type = "application/json",
    .parse = parse_tokenize,
    .tell = tell_tokens,
    .error = openai_error,
    .status = openai_status,
    .no_model = {"The model '", "' does not exist"},
    .too_long = {"The request has ", " tokens, but the context of the model is ", " tokens"},
};

const struct wire wire_detokenize = {
    .name = "detokenize",
    .id_prefix = "",
    .whole_type = "application/json",
    .parse = parse_detokenize,
    .tell = tell_text,
    .error = openai_error,
    .status = openai_status,
    .no_model = {"The model '", "' does not exist"},
    .too_long = {"The request has ", " tokens, but the context of the model is ", " tokens"},
};
