#include "models/weights.h"

#include "models/gguf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Files of a model and the list of their tensors. Each file is parsed by its format's
 * reader (safetensors.c, gguf.c), which vouches for every tensor lying inside; after
 * weights_open() the list is sorted by name and no name occurs twice. */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are read as they lie");

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

enum {
    LENGTH_BYTES = 8,
    INDEX_BYTES_MAX = 32 << 20,
    INDEX_NODES_MAX = TENSORS_MAX + 1024,
    NAME_SHOWN_MAX = 128,
    NAME_MAX_BYTES = 256,
    TYPES_COUNTED_MAX = 64,
};

struct shard {
    char *name;
    char *header;
    uint64_t bytes;
    int fd;
    struct gguf gguf; /* its head is what the names point into */
};

struct weights {
    struct tensor_list list;
    struct shard *shard; /* [n_shards] */
    int32_t n_shards;
    bool is_gguf;
};

enum status tensor_append(struct tensor_list *l, const struct tensor *t, const struct complaint *c)
{
    if (l->n == TENSORS_MAX)
        return complain(c, E_FORMAT, "more than %d tensors", TENSORS_MAX);
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct tensor *item = realloc(l->item, room * sizeof(*item));
        if (!item)
            return complain(c, E_NOMEM, "no memory for %zu tensors", room);
        l->item = item;
        l->room = room;
    }
    l->item[l->n++] = *t;
    return OK;
}

int tensor_name_shown(const struct tensor *t)
{
    return t->name_bytes < NAME_SHOWN_MAX ? (int)t->name_bytes : NAME_SHOWN_MAX;
}

static int by_name(const void *a, const void *b)
{
    const struct tensor *x = a;
    const struct tensor *y = b;
    size_t n = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    int order = memcmp(x->name, y->name, n);
    if (order)
        return order;
    return x->name_bytes < y->name_bytes ? -1 : x->name_bytes > y->name_bytes;
}

/* --- files --- */

static enum status read_at(int fd, uint64_t offset, void *to, size_t bytes)
{
    char *p = to;
    while (bytes > 0) {
        ssize_t n = pread(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return E_IO;
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return OK;
}

static enum status read_safetensors(struct weights *w, struct shard *sh, const struct complaint *c)
{
    uint8_t first[LENGTH_BYTES] = {0};
    uint64_t bytes = 0;
    if (sh->bytes >= LENGTH_BYTES && read_at(sh->fd, 0, first, sizeof(first)))
        return complain(c, E_IO, "cannot read");
    enum status s = safetensors_measure(first, sh->bytes, &bytes, c);
    if (s)
        return s;
    sh->header = malloc((size_t)bytes + 1);
    if (!sh->header)
        return complain(c, E_NOMEM, "no memory for a header of %llu bytes",
                        (unsigned long long)bytes);
    if (read_at(sh->fd, LENGTH_BYTES, sh->header, (size_t)bytes))
        return complain(c, E_IO, "cannot read");
    return safetensors_parse(&w->list, sh->header, (size_t)bytes, sh->bytes,
                             (uint16_t)(w->n_shards - 1), c);
}

static enum status open_shard(struct weights *w, const char *dir, const char *name, char *err,
                              size_t err_size)
{
    struct complaint c = complaint_in(name, err, err_size);
    struct shard *sh = &w->shard[w->n_shards];
    *sh = (struct shard){.fd = -1};
    w->n_shards++;
    sh->name = strdup(name);
    if (!sh->name)
        return complain(&c, E_NOMEM, "no memory");
    enum status s = file_open(&sh->fd, &sh->bytes, dir, &c);
    if (s)
        return s;
    if (w->is_gguf)
        return gguf_read(&sh->gguf, sh->fd, sh->bytes, &w->list, (uint16_t)(w->n_shards - 1), &c);
    return read_safetensors(w, sh, &c);
}

static bool plain_name(const char *name)
{
    static const char end[] = ".safetensors";
    size_t n = strlen(name);
    return n > strlen(end) && n < 256 && name[0] != '.' && !strchr(name, '/') &&
           strcmp(name + n - strlen(end), end) == 0;
}

static const struct shard *find_shard(const struct weights *w, const char *name)
{
    /* Neighbours in the map mostly share a file. */
    for (int32_t i = w->n_shards - 1; i >= 0; i--) {
        if (strcmp(w->shard[i].name, name) == 0)
            return &w->shard[i];
    }
    return NULL;
}

static enum status open_shards(struct weights *w, const char *dir, const cJSON *map, char *err,
                               size_t err_size)
{
    struct complaint c = complaint_in(index_name, err, err_size);
    if (!cJSON_IsObject(map) || !map->child)
        return complain(&c, E_FORMAT, "\"weight_map\" must be an object of file names");
    const cJSON *v;
    cJSON_ArrayForEach(v, map)
    {
        if (!cJSON_IsString(v) || !plain_name(v->valuestring))
            return complain(&c, E_FORMAT, "tensor \"%.128s\" is not given a plain file name",
                            v->string);
        if (find_shard(w, v->valuestring))
            continue;
        if (w->n_shards == SHARDS_MAX)
            return complain(&c, E_FORMAT, "more than %d files", SHARDS_MAX);
        enum status s = open_shard(w, dir, v->valuestring, err, err_size);
        if (s)
            return s;
    }
    return OK;
}

static enum status check_map(const struct weights *w, const cJSON *map, const struct complaint *c)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, map)
    {
        const struct tensor *t = weights_find(w, v->string);
        if (!t || strcmp(weights_file(w, t), v->valuestring) != 0)
            return complain(c, E_FORMAT, "tensor \"%.128s\" is not in %s", v->string,
                            v->valuestring);
    }
    return OK;
}

static enum status sort_names(struct weights *w, char *err, size_t err_size)
{
    struct tensor *t = w->list.item;
    if (w->list.n > 1)
        qsort(t, w->list.n, sizeof(*t), by_name);
    for (size_t i = 1; i < w->list.n; i++) {
        struct complaint c = complaint_in(weights_file(w, &t[i]), err, err_size);
        if (by_name(&t[i - 1], &t[i]) == 0)
            return complain(&c, E_FORMAT, "tensor \"%.*s\" occurs twice", tensor_name_shown(&t[i]),
                            t[i].name);
    }
    return OK;
}

static enum status open_index(struct weights *w, const char *dir, char *err, size_t err_size)
{
    struct complaint c = complaint_in(index_name, err, err_size);
    cJSON *root = NULL;
    enum status s = json_load(&root, dir, INDEX_BYTES_MAX, INDEX_NODES_MAX, &c);
    if (s)
        return s;
    const cJSON *map = json_get(root, "weight_map");
    s = open_shards(w, dir, map, err, err_size);
    if (!s)
        s = sort_names(w, err, err_size);
    if (!s)
        s = check_map(w, map, &c);
    cJSON_Delete(root);
    return s;
}

static enum status open_single(struct weights *w, const char *dir, char *err, size_t err_size)
{
    enum status s = open_shard(w, dir, single_name, err, err_size);
    return s ? s : sort_names(w, err, err_size);
}

/* "-00001-of-00003.gguf" at the end of a name: the other parts differ in the number. */
static bool part_name(char out[NAME_MAX_BYTES], const char *first, int64_t part, int64_t parts)
{
    char tail[32];
    char other[32];
    size_t n = strlen(first);
    (void)snprintf(tail, sizeof(tail), "-00001-of-%05d.gguf", (int)parts);
    (void)snprintf(other, sizeof(other), "-%05d-of-%05d.gguf", (int)part, (int)parts);
    if (n < strlen(tail) || n >= NAME_MAX_BYTES || strcmp(first + n - strlen(tail), tail) != 0)
        return false;
    (void)snprintf(out, NAME_MAX_BYTES, "%.*s%s", (int)(n - strlen(tail)), first, other);
    return true;
}

/* A part says which it is; the first also says how many tensors all of them hold. */
static enum status check_part(const struct weights *w, int64_t part, int64_t parts,
                              const struct complaint *c)
{
    const struct gguf *g = &w->shard[w->n_shards - 1].gguf;
    int64_t no = 0;
    int64_t count = 1;
    enum status s = gguf_int(g, "split.no", 0, SHARDS_MAX - 1, &no, c);
    if (!s)
        s = gguf_int(g, "split.count", 1, SHARDS_MAX, &count, c);
    if (!s && (no != part - 1 || count != parts))
        s = complain(c, E_FORMAT, "is part %d of %d, not part %d of %d", (int)no + 1, (int)count,
                     (int)part, (int)parts);
    return s;
}

static enum status open_parts(struct weights *w, const char *dir, const char *first, char *err,
                              size_t err_size)
{
    struct complaint c = complaint_in(first, err, err_size);
    char name[NAME_MAX_BYTES];
    int64_t parts = 1;
    int64_t tensors = -1;
    enum status s = gguf_int(&w->shard[0].gguf, "split.count", 1, SHARDS_MAX, &parts, &c);
    if (!s)
        s = gguf_int(&w->shard[0].gguf, "split.tensors.count", 0, TENSORS_MAX, &tensors, &c);
    if (!s)
        s = check_part(w, 1, parts, &c);
    for (int64_t part = 2; part <= parts && !s; part++) {
        if (!part_name(name, first, part, parts))
            return complain(&c, E_FORMAT,
                            "is part 1 of %d, but is not called ...-00001-of-%05d.gguf", (int)parts,
                            (int)parts);
        struct complaint other = complaint_in(name, err, err_size);
        s = open_shard(w, dir, name, err, err_size);
        if (!s)
            s = check_part(w, part, parts, &other);
    }
    if (!s && parts > 1 && tensors >= 0 && (size_t)tensors != w->list.n)
        s = complain(&c, E_FORMAT, "the parts hold %zu tensors instead of %d", w->list.n,
                     (int)tensors);
    return s;
}

static bool name_ends(const struct tensor *t, const char *end)
{
    size_t n = strlen(end);
    return t->name_bytes > n && memcmp(t->name + t->name_bytes - n, end, n) == 0;
}

/* Which tensors have their rows in another order. */
static void mark_heads(struct weights *w)
{
    uint32_t head_rows = gguf_head_rows(&w->shard[0].gguf);
    for (size_t i = 0; i < w->list.n; i++) {
        struct tensor *t = &w->list.item[i];
        if (name_ends(t, ".attn_q.weight") || name_ends(t, ".attn_k.weight"))
            t->head_rows = head_rows;
    }
}

static enum status open_gguf(struct weights *w, const char *path, char *err, size_t err_size)
{
    char dir[MODEL_PATH_MAX];
    const char *name = gguf_file_name(path);
    struct complaint c = complaint_in(name, err, err_size);
    w->is_gguf = true;
    if (gguf_folder(dir, path))
        return complain(&c, E_INVALID, "the path is too long");
    enum status s = open_shard(w, dir, name, err, err_size);
    if (!s)
        s = open_parts(w, dir, name, err, err_size);
    if (!s)
        mark_heads(w);
    return s ? s : sort_names(w, err, err_size);
}

static enum status open_folder(struct weights *w, const char *dir, char *err, size_t err_size)
{
    /* The single file wins, as it does elsewhere; its absence is what is reported when
     * neither is there. */
    bool sharded = !file_present(dir, single_name) && file_present(dir, index_name);
    return sharded ? open_index(w, dir, err, err_size) : open_single(w, dir, err, err_size);
}

enum status weights_open(struct weights **out, const char *path, char *err, size_t err_size)
{
    struct complaint c = complaint_in("model", err, err_size);
    enum status s = E_NOMEM;
    struct weights *w = calloc(1, sizeof(*w));
    if (!w)
        return complain(&c, E_NOMEM, "no memory");
    w->shard = calloc(SHARDS_MAX, sizeof(*w->shard));
    if (!w->shard) {
        (void)complain(&c, E_NOMEM, "no memory");
        goto fail;
    }
    s = gguf_is_path(path) ? open_gguf(w, path, err, err_size)
                           : open_folder(w, path, err, err_size);
    if (s)
        goto fail;
    *out = w;
    return OK;
fail:
    weights_close(w);
    return s;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    for (int32_t i = 0; i < w->n_shards; i++) {
        if (w->shard[i].fd >= 0)
            close(w->shard[i].fd);
        gguf_free(&w->shard[i].gguf);
        free(w->shard[i].header);
        free(w->shard[i].name);
    }
    free(w->shard);
    free(w->list.item);
    free(w);
}

const struct tensor *weights_find(const struct weights *w, const char *name)
{
    char own[TENSOR_NAME_MAX];
    const char *spelled = weights_spelling(w, name, own);
    struct tensor key = {.name = spelled, .name_bytes = (uint32_t)strlen(spelled)};
    if (w->list.n == 0)
        return NULL;
    return bsearch(&key, w->list.item, w->list.n, sizeof(key), by_name);
}

const char *weights_spelling(const struct weights *w, const char *name, char out[TENSOR_NAME_MAX])
{
    return w->is_gguf ? gguf_tensor_name(name, out) : name;
}

const char *weights_file(const struct weights *w, const struct tensor *t)
{
    if (!t)
        return w->is_gguf ? w->shard[0].name : "model";
    return w->shard[t->shard].name;
}

enum status weights_read(const struct weights *w, const struct tensor *t, uint64_t offset, void *to,
                         size_t bytes)
{
    if (offset > t->bytes || bytes > t->bytes - offset)
        return E_IO;
    return read_at(w->shard[t->shard].fd, t->begin + offset, to, bytes);
}

/* Tensors of one type, while they are counted. */
struct tally {
    const char *type;
    size_t n;
    uint64_t bytes;
};

static int by_bytes(const void *a, const void *b)
{
    const struct tally *x = a;
    const struct tally *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

void weights_describe(const struct weights *w, char *format, size_t format_size, char *types,
                      size_t types_size)
{
    struct tally tally[TYPES_COUNTED_MAX] = {{.n = 0}};
    size_t n = 0;
    char files[32] = "";
    if (w->n_shards > 1)
        (void)snprintf(files, sizeof(files), ", %d files", w->n_shards);
    if (w->is_gguf)
        (void)snprintf(format, format_size, "GGUF v%u%s", w->shard[0].gguf.version, files);
    else
        (void)snprintf(format, format_size, "safetensors%s", files);
    for (size_t i = 0; i < w->list.n; i++) {
        const struct tensor *t = &w->list.item[i];
        size_t at = 0;
        while (at < n && strcmp(tally[at].type, t->type) != 0)
            at++;
        /* There are fewer names of types than this. */
        if (at == TYPES_COUNTED_MAX)
            continue;
        n = at == n ? n + 1 : n;
        tally[at].type = t->type;
        tally[at].n++;
        tally[at].bytes += t->bytes;
    }
    qsort(tally, n, sizeof(tally[0]), by_bytes);
    size_t used = 0;
    types[0] = '\0';
    for (size_t i = 0; i < n && used < types_size; i++) {
        int wrote = snprintf(types + used, types_size - used, "%s%s %zu", i ? ", " : "",
                             tally[i].type, tally[i].n);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}
