/* Aim: what the head gate lets through has one meaning: every promise of gate.h and of the rules in
 * gate.c is looked for again in the bytes, by other code. What it refuses has a code and a reason.
 * The head is judged as a whole, so whatever is put behind it is refused. */
#include "server/gate.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct conn_limits limits = {
    .head_bytes_max = 4096, .head_fields_max = 12, .target_bytes_max = 128};

static void must(bool fact)
{
    if (!fact)
        abort();
}

/* Lines end in CRLF and nowhere else, none is empty but the last, none begins with a blank. */
static int check_lines(const char *head, size_t n)
{
    int lines = 0;
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        must(head[i] != '\0');
        must((head[i] == '\r') == (i + 1 < n && head[i + 1] == '\n'));
        if (head[i] != '\n')
            continue;
        must(i > start && head[i - 1] == '\r');
        must(i - start > 1 || i + 1 == n);
        must(head[start] != ' ' && head[start] != '\t');
        start = i + 1;
        lines++;
    }
    must(start == n);
    return lines - 2;
}

/* How many fields have this name, by the letters alone. */
static int count_fields(const char *head, size_t n, const char *name)
{
    int found = 0;
    size_t bytes = strlen(name);
    for (size_t i = 0; i + bytes + 3 < n; i++)
        found += head[i] == '\r' && strncasecmp(head + i + 2, name, bytes) == 0 &&
                 head[i + 2 + bytes] == ':';
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gate_facts f;
    struct gate_facts more;
    char *head = malloc(size + 1);
    must(head != NULL);
    memcpy(head, data, size);
    bool good = gate_pass(head, size, &limits, &f);
    if (!good) {
        must(f.code >= 400 && f.code <= 505 && f.text && f.text[0]);
        free(head);
        return 0;
    }
    must(f.code == 0);
    must(size <= limits.head_bytes_max);
    must(check_lines(head, size) == f.n_fields);
    must(f.n_fields <= limits.head_fields_max);
    must(count_fields(head, size, "host") == f.n_hosts && f.n_hosts <= 1);
    must(f.minor == 0 || f.n_hosts == 1);
    must(count_fields(head, size, "content-length") == f.has_length);
    must(count_fields(head, size, "transfer-encoding") == f.chunked);
    must(!(f.chunked && f.has_length) && !(f.chunked && f.minor == 0));
    must(f.content_length < 1000000000000000u);
    const char *target = memchr(head, ' ', size);
    must(target && target[1] == '/');
    head[size] = 'x';
    must(!gate_pass(head, size + 1, &limits, &more));
    must(!gate_pass(head, size - 1, &limits, &more));
    free(head);
    return 0;
}
