#ifndef SERVER_TALK_H
#define SERVER_TALK_H

#include "server/fields.h"

/* Messages of another API, made into the list that the templates take. Turns of one role that
 * follow each other become one. Zeroed to begin with. */
struct talk {
    struct buf list; /* JSON so far */
    struct buf text; /* of the turn being said */
    const char *role;
};

/* role is a constant. */
void talk_turn(struct talk *t, const char *role);
void talk_say(struct talk *t, const char *text, size_t bytes);
/* r->made and r->chat.messages; frees what t holds, also when st is no OK, which then comes
 * back. An open conversation goes on with its last turn if that is the assistant's. */
enum status talk_end(struct talk *t, struct gen_request *r, enum status st) MUST_CHECK;

/* A string, or a list of parts whose types are of this list, said by t. param names it. */
enum status talk_content(struct talk *t, const struct cJSON *v, const char *param,
                         const char *const types[], struct fault *f) MUST_CHECK;

#endif
