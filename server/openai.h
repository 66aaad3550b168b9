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

void openai_error(struct buf *out, const struct api_error *e, const char *request_id);
int openai_status(const struct api_error *e);

#endif
