/* What the commands have in common. */
#include "server/cli.h"

#include <stdio.h>

int cli_fail(const char *err, enum status status)
{
    (void)fprintf(stderr, "firstlight: %s\n", err[0] ? err : status_text(status));
    return 1;
}
