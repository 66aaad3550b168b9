#ifndef SERVER_OPENAI_H
#define SERVER_OPENAI_H

#include "server/wire.h"

/* Private: what openai.c (reading) gives to the tables in openai_text.c (writing). */

enum status openai_parse_chat(struct gen_request *out, const char *body, size_t bytes,
                              struct api_error *err) MUST_CHECK;
enum status openai_parse_completion(struct gen_request *out, const char *body, size_t bytes,
                                    struct api_error *err) MUST_CHECK;

#endif
