#include "models/safetensors_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Tensors of large elements come first, so with a header of whole eight bytes everything is
 * aligned. Rows that are stored in another type pass through a buffer, all others are written
 * from where they are, or copied as bytes. */

enum { PIECE_BYTES = 4 << 20, HEADER_ALIGN = 8 };

enum status new_file_add(struct new_file *f, const struct new_tensor *t)
{
    if (f->n == f->room) {
        size_t room = f->room ? 2 * f->room : 64;
        struct new_tensor *grown = realloc(f->tensor, room * sizeof(*grown));
        if (!grown)
            return E_NOMEM;
        f->tensor = grown;
        f->room = room;
    }
    struct new_tensor *mine = &f->tensor[f->n];
    *mine = *t;
    uint64_t values = t->dim[0] * (t->rank > 1 ? t->dim[1] : 1);
    if (!dtype_bytes(t->dtype, values, &mine->bytes))
        return E_INVALID;
    f->n++;
    return OK;
}

void new_file_free(struct new_file *f)
{
    free(f->tensor);
    *f = (struct new_file){.n = 0};
}

uint16_t half_of(float x)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = x};
    uint16_t sign = (uint16_t)(v.u >> 16 & 0x8000);
    v.u &= 0x7fffffff;
    if (v.f >= 65520.0f)
        return sign | 0x7bff;
    if (v.f < 0x1p-14f) {
        /* Subnormal: adding a power whose last bit is worth 2^-24 rounds in place. */
        v.f += 0.5f;
        return (uint16_t)(sign | (v.u & 0x7ff));
    }
    uint32_t odd = v.u >> 13 & 1;
    v.u += 0xfff + odd;
    return (uint16_t)(sign | ((v.u - 0x38000000) >> 13));
}

enum status write_all(int fd, const void *data, size_t bytes, const struct complaint *c)
{
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return complain(c, E_IO, "cannot be written: %s", strerror(n < 0 ? errno : ENOSPC));
        p += n;
        bytes -= (size_t)n;
    }
    return OK;
}

static int by_element(const void *a, const void *b)
{
    const struct new_tensor *x = a;
    const struct new_tensor *y = b;
    uint32_t bx = dtype_info(x->dtype)->block_bytes;
    uint32_t by = dtype_info(y->dtype)->block_bytes;
    return bx != by ? (bx > by ? -1 : 1) : strcmp(x->name, y->name);
}

static char *make_header(const struct new_file *f, size_t *bytes)
{
    char *text = NULL;
    uint64_t at = 0;
    FILE *to = open_memstream(&text, bytes);
    if (!to)
        return NULL;
    (void)fputs("{\"__metadata__\":{\"format\":\"pt\"}", to);
    for (size_t i = 0; i < f->n; i++) {
        const struct new_tensor *t = &f->tensor[i];
        (void)fprintf(to, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%" PRIu64, t->name,
                      dtype_info(t->dtype)->name, t->dim[0]);
        if (t->rank > 1)
            (void)fprintf(to, ",%" PRIu64, t->dim[1]);
        (void)fprintf(to, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t->bytes);
        at += t->bytes;
    }
    (void)fputc('}', to);
    (void)fflush(to);
    while (*bytes % HEADER_ALIGN) {
        (void)fputc(' ', to);
        (void)fflush(to);
    }
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

/* Rows begin .. begin + n of the stored tensor into to, as they shall be. */
static enum status stored_rows(const struct new_file *f, const struct new_tensor *t, uint64_t begin,
                               size_t n, void *raw, float *wide, uint16_t *to)
{
    uint64_t each = 0;
    size_t values = n * (size_t)t->cols;
    if (!dtype_bytes((enum dtype)t->stored->dtype, (uint64_t)t->cols, &each))
        return E_FORMAT;
    enum status s = weights_read(f->weights, t->stored, begin * each, raw, n * (size_t)each);
    if (s)
        return s;
    if (!dtype_info((enum dtype)t->stored->dtype)->widen(wide, raw, values))
        return E_FORMAT;
    for (size_t i = 0; i < values; i++)
        to[i] = half_of(wide[i]);
    return OK;
}

static enum status write_narrowed(const struct new_file *f, const struct new_tensor *t, int fd,
                                  const struct complaint *c)
{
    size_t cols = (size_t)t->cols;
    size_t rows = (size_t)t->dim[0] * (t->rank > 1 ? (size_t)t->dim[1] : 1) / cols;
    /* No stored value takes more than four bytes. */
    size_t most = PIECE_BYTES / (cols * sizeof(float)) + 1;
    void *raw = malloc(most * cols * sizeof(float));
    float *wide = malloc(most * cols * sizeof(float));
    uint16_t *half = malloc(most * cols * sizeof(*half));
    enum status s = raw && wide && half ? OK : complain(c, E_NOMEM, "no memory");
    for (size_t at = 0; at < rows && !s; at += most) {
        size_t n = rows - at < most ? rows - at : most;
        s = stored_rows(f, t, at, n, raw, wide, half);
        if (s)
            s = complain(c, s, "tensor \"%s\" cannot be read", t->name);
        else
            s = write_all(fd, half, n * cols * sizeof(*half), c);
    }
    free(raw);
    free(wide);
    free(half);
    return s;
}

static enum status write_stored(const struct new_file *f, const struct new_tensor *t, int fd,
                                const struct complaint *c)
{
    if (t->dtype != (enum dtype)t->stored->dtype)
        return write_narrowed(f, t, fd, c);
    enum status s = OK;
    void *piece = malloc(PIECE_BYTES);
    if (!piece)
        return complain(c, E_NOMEM, "no memory");
    for (uint64_t at = 0; at < t->bytes && !s; at += PIECE_BYTES) {
        size_t n = t->bytes - at < PIECE_BYTES ? (size_t)(t->bytes - at) : PIECE_BYTES;
        if (weights_read(f->weights, t->stored, at, piece, n))
            s = complain(c, E_IO, "tensor \"%s\" cannot be read", t->name);
        else
            s = write_all(fd, piece, n, c);
    }
    free(piece);
    return s;
}

static enum status write_data(const struct new_file *f, int fd, const struct complaint *c)
{
    uint64_t total = 0;
    uint64_t done = 0;
    enum status s = OK;
    for (size_t i = 0; i < f->n; i++)
        total += f->tensor[i].bytes;
    for (size_t i = 0; i < f->n && !s; i++) {
        const struct new_tensor *t = &f->tensor[i];
        s = t->data ? write_all(fd, t->data, (size_t)t->bytes, c) : write_stored(f, t, fd, c);
        done += t->bytes;
        if (f->progress)
            f->progress(f->progress_arg, done, total);
    }
    return s;
}

enum status new_file_write(struct new_file *f, const char *path, const struct complaint *c)
{
    size_t bytes = 0;
    if (f->n > 1)
        qsort(f->tensor, f->n, sizeof(*f->tensor), by_element);
    char *header = make_header(f, &bytes);
    if (!header)
        return complain(c, E_NOMEM, "no memory for a header");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        free(header);
        return complain(c, E_IO, "cannot be created: %s", strerror(errno));
    }
    uint64_t length = bytes;
    enum status s = write_all(fd, &length, sizeof(length), c);
    if (!s)
        s = write_all(fd, header, bytes, c);
    if (!s)
        s = write_data(f, fd, c);
    /* Some file systems say only here that there was no room. */
    if (!s && fsync(fd) != 0)
        s = complain(c, E_IO, "cannot be written: %s", strerror(errno));
    if (close(fd) != 0 && !s)
        s = complain(c, E_IO, "cannot be written: %s", strerror(errno));
    free(header);
    return s;
}
