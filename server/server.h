#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "server/options.h"

/* Listens, loads, serves until SIGTERM or SIGINT, drains. Returns the exit status of the
 * process. What went wrong stands in one log line. */
int server_run(const struct options *o);

#endif
