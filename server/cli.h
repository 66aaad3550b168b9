#ifndef SERVER_CLI_H
#define SERVER_CLI_H

#include "server/options.h"

/* The commands that do not listen. Each returns the exit status of the process and says
 * what went wrong in one line on stderr. */
int cli_run(const struct options *o);
int cli_inspect(const struct options *o);
int cli_convert(const struct options *o);
int cli_plan(const struct options *o); /* serve --plan */

/* Says err, or where it is empty what the status means. Returns the exit status of a failure. */
int cli_fail(const char *err, enum status status);

#endif
