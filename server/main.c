/* Which command, and what holds for all of them before they begin. */
#include "server/cli.h"
#include "server/options.h"
#include "server/server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* Exit status: 0 done, 1 failed, 2 not understood. */
enum { EXIT_USAGE = 2 };

/* Beside an answer on the terminal nobody wants to read how it came about. */
static enum log_level most_shown(const struct options *o)
{
    enum log_level most = (enum log_level)o->log_level;
    return o->command != CMD_SERVE && most == LOG_INFO ? LOG_WARN : most;
}

/* A launcher may have closed them. The next descriptors opened would then be 0, 1 and 2, and
 * log lines would go into a socket or into libuv's own pipes. */
static bool hold_standard_files(void)
{
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_RDWR);
    if (fd < 0)
        return false;
    (void)close(fd);
    return true;
}

int main(int argc, char **argv)
{
    struct options o;
    char err[OPTION_ERROR_MAX];
    if (!hold_standard_files())
        return 1;
    if (options_parse(&o, argc, argv, err, sizeof(err))) {
        (void)fprintf(stderr, "firstlight: %s\n", err);
        return EXIT_USAGE;
    }
    /* A peer or a pipe that goes away is an error code, not the end of the process. */
    (void)signal(SIGPIPE, SIG_IGN);
    log_setup(most_shown(&o), o.log == LOG_FORM_JSON);
    switch (o.command) {
    case CMD_SERVE:
        return o.plan ? cli_plan(&o) : server_run(&o);
    case CMD_RUN:
        return cli_run(&o);
    case CMD_INSPECT:
        return cli_inspect(&o);
    case CMD_CONVERT:
        return cli_convert(&o);
    case CMD_VERSION:
        (void)printf("firstlight %s\n", FIRSTLIGHT_VERSION);
        return 0;
    case CMD_HELP:
    case CMD_NONE:
        options_help(stdout, o.about);
        return 0;
    }
    return 0;
}
