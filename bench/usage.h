#ifndef BENCH_USAGE_H
#define BENCH_USAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --help or -h anywhere among the arguments: how the program is called, on stdout, and the end of
 * it. Asked before anything is measured, so that who only wants to know waits for nothing. */
static inline void usage_if_asked(int argc, char **argv, const char *text)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            (void)fputs(text, stdout);
            exit(0);
        }
}

#endif
