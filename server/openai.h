#ifndef SERVER_OPENAI_H
#define SERVER_OPENAI_H

#include "server/fields.h"

/* Private to the formats that speak OpenAI's language: what openai.c (reading) and
 * openai_text.c (writing) give to each other and to their neighbours. */

enum status openai_parse_chat(struct gen_request *out, const char *body, size_t bytes,
                              struct api_error *err) MUST_CHECK;
enum status openai_parse_completion(struct gen_request *out, const char *body, size_t bytes,
                                    struct api_error *err) MUST_CHECK;

/* Fills err with OpenAI's words for a fault. */
void openai_word(const struct fault *f, struct api_error *err);
/* chat_template_kwargs and messages. */
enum status chat_read(struct gen_request *r, const struct cJSON *top, struct fault *f) MUST_CHECK;
/* A text, token ids, or a list of either. */
enum status prompts_read(struct gen_request *r, const struct cJSON *v, struct fault *f) MUST_CHECK;
/* Refuses tools unless none of them may be used. */
enum status tools_read(const struct cJSON *top, struct fault *f) MUST_CHECK;

/* ,"name":[1,2] */
void openai_write_ids(struct buf *out, const char *name, const int32_t *id, int32_t n);
/* A JSON string. */
void openai_write_token(struct buf *out, const struct gen_request *r, const struct token_text *t);
/* The object of an error; too_long_param is blamed for a prompt that is too long. */
void openai_write_error(struct buf *out, const struct api_error *e, const char *too_long_param);
void openai_error(struct buf *out, const struct api_error *e, const char *request_id);
/* For an error that brings no text. */
const char *openai_error_text(enum api_error_kind kind);
int openai_status(const struct api_error *e);

#endif
