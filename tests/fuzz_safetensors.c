/* A file's beginning as an enemy writes it: eight bytes of length and a header, judged
 * against a file that claims to go on for as long as the last bytes say. Beside not crashing,
 * what is accepted must lie inside the file. */
#include "models/weights.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct tensor_list *l, uint64_t file_bytes)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct tensor *t = &l->item[i];
        if (t->begin > file_bytes || t->bytes > file_bytes - t->begin || t->rank > RANK_MAX)
            abort();
        uint64_t bytes;
        if (t->rank == 2 && t->dtype != DTYPE_OTHER &&
            (!dtype_bytes((enum dtype)t->dtype, t->dim[0] * t->dim[1], &bytes) ||
             bytes != t->bytes))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char err[256] = "";
    struct tensor_list list = {.n = 0};
    const struct complaint c = {.file = "fuzz", .text = err, .size = sizeof(err)};
    uint16_t more;
    uint64_t bytes;
    if (size < sizeof(uint64_t) + sizeof(more))
        return 0;
    size -= sizeof(more);
    memcpy(&more, data + size, sizeof(more));
    if (safetensors_measure(data, size, &bytes, &c))
        return err[0] ? 0 : (abort(), 0);
    /* In memory of its own length, so that a byte too many is seen. */
    char *header = malloc(bytes ? (size_t)bytes : 1);
    if (!header)
        return 0;
    memcpy(header, data + sizeof(uint64_t), (size_t)bytes);
    uint64_t file_bytes = sizeof(uint64_t) + bytes + more;
    if (safetensors_parse(&list, header, (size_t)bytes, file_bytes, 0, &c) == OK)
        check(&list, file_bytes);
    else if (!err[0])
        abort();
    free(list.item);
    free(header);
    return 0;
}
