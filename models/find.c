#include "models/find.h"

#include "models/jsonfile.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A folder is looked through once. What it turns out to be is either a model path that the
 * readers take, or a line that says what was found instead and what to do about it. */

enum { NAMES_MAX = 1024, ENTRIES_MAX = 1 << 16, SHOWN_MAX = 6, SHOWN_BYTES = 256 };

#define PICKLES                                                                                    \
    "%s a PyTorch pickle, a program that is not run here; save the model as safetensors "          \
    "(transformers: save_pretrained) or as GGUF"

struct found {
    char *gguf[NAMES_MAX]; /* [n_gguf] whole files and first parts */
    size_t n_gguf;
    size_t n_parts;       /* other parts of split files */
    size_t n_safetensors; /* of any name */
    size_t n_pickles;     /* PyTorch's */
};

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name);
    return n > strlen(end) && strcmp(name + n - strlen(end), end) == 0;
}

/* "-00002-of-00005.gguf": which part it is; 0: none of several. */
static int part_of(const char *name)
{
    static const char form[] = "-00000-of-00000.gguf";
    size_t n = strlen(name);
    int part = 0;
    if (n < sizeof(form))
        return 0;
    const char *tail = name + n - strlen(form);
    for (size_t i = 0; form[i]; i++) {
        bool digit = tail[i] >= '0' && tail[i] <= '9';
        if (form[i] == '0' ? !digit : tail[i] != form[i])
            return 0;
        part = i <= 5 && digit ? 10 * part + tail[i] - '0' : part;
    }
    return part;
}

static bool is_pickle(const char *name)
{
    return ends_in(name, ".bin") || ends_in(name, ".pth") || ends_in(name, ".pt");
}

static enum status count(struct found *f, const char *name)
{
    if (name[0] == '.')
        return OK;
    if (ends_in(name, ".safetensors"))
        f->n_safetensors++;
    if (is_pickle(name))
        f->n_pickles++;
    if (!ends_in(name, ".gguf"))
        return OK;
    if (part_of(name) > 1) {
        f->n_parts++;
        return OK;
    }
    if (f->n_gguf == NAMES_MAX)
        return OK;
    f->gguf[f->n_gguf] = strdup(name);
    return f->gguf[f->n_gguf++] ? OK : E_NOMEM;
}

static int by_text(const void *a, const void *b)
{
    char *const *x = a;
    char *const *y = b;
    return strcmp(*x, *y);
}

static enum status look_through(struct found *f, const char *path)
{
    DIR *d = opendir(path);
    enum status s = d ? OK : E_IO;
    for (int i = 0; s == OK && i < ENTRIES_MAX; i++) {
        const struct dirent *e = readdir(d);
        if (!e)
            break;
        s = count(f, e->d_name);
    }
    if (d)
        closedir(d);
    if (f->n_gguf > 1)
        qsort(f->gguf, f->n_gguf, sizeof(f->gguf[0]), by_text);
    return s;
}

static void forget(struct found *f)
{
    for (size_t i = 0; i < f->n_gguf; i++)
        free(f->gguf[i]);
    free(f);
}

static enum status list_them(const struct found *f, const struct complaint *c)
{
    char names[SHOWN_BYTES] = "";
    size_t n = 0;
    for (size_t i = 0; i < f->n_gguf && i < SHOWN_MAX && n < sizeof(names); i++) {
        int w = snprintf(names + n, sizeof(names) - n, "%s%.64s", i ? ", " : "", f->gguf[i]);
        n += w > 0 ? (size_t)w : 0;
    }
    return complain(c, E_INVALID, "holds %zu models, name one of the files: %s%s", f->n_gguf, names,
                    f->n_gguf > SHOWN_MAX || n >= sizeof(names) ? ", ..." : "");
}

/* A folder whose weights are not where they are looked for. */
static enum status explain(const struct found *f, const char *path, const struct complaint *c)
{
    if (f->n_parts)
        return complain(c, E_INVALID, "holds parts of a split GGUF file, but not the first");
    if (file_present(path, "adapter_config.json"))
        return complain(c, E_UNSUPPORTED,
                        "holds an adapter (LoRA) without the model it belongs to; merge it into "
                        "that model and save the whole (peft: merge_and_unload)");
    if (f->n_pickles && !f->n_safetensors)
        return complain(c, E_UNSUPPORTED, PICKLES, "holds");
    if (f->n_safetensors)
        return complain(c, E_INVALID,
                        "holds safetensors files, but neither model.safetensors nor "
                        "model.safetensors.index.json; the download may be incomplete");
    if (file_present(path, "config.json"))
        return complain(c, E_INVALID,
                        "has a config.json but no weights (model.safetensors); the download may "
                        "be incomplete");
    return complain(c, E_INVALID,
                    "is no model: neither config.json and model.safetensors nor a GGUF file is in "
                    "it");
}

static bool has_weights(const char *path)
{
    return file_present(path, "model.safetensors") ||
           file_present(path, "model.safetensors.index.json");
}

/* Files that are known not to be GGUF by their names; of others their first bytes decide. */
static enum status judge_file(const char *path, const struct complaint *c)
{
    if (ends_in(path, ".safetensors") || ends_in(path, ".json"))
        return complain(c, E_INVALID, "a file of a model; name the folder that it is in");
    if (is_pickle(path))
        return complain(c, E_UNSUPPORTED, PICKLES, "is");
    return OK;
}

static enum status find_in(char out[MODEL_PATH_MAX], const char *path, const struct complaint *c)
{
    struct found *f = calloc(1, sizeof(*f));
    if (!f)
        return complain(c, E_NOMEM, "no memory");
    enum status s = look_through(f, path);
    if (s)
        s = complain(c, s, "cannot be read");
    else if (f->n_gguf > 1)
        s = list_them(f, c);
    else if (f->n_gguf == 0)
        s = explain(f, path, c);
    else if (path_join(out, path, f->gguf[0]))
        s = complain(c, E_INVALID, "the path is too long");
    forget(f);
    return s;
}

static enum status judge_folder(char out[MODEL_PATH_MAX], const char *path,
                                const struct complaint *c)
{
    if (!has_weights(path))
        return find_in(out, path, c);
    if (!file_present(path, "config.json"))
        return complain(c, E_INVALID,
                        "has no config.json beside its weights; the download may be incomplete");
    return OK;
}

enum status model_find(char out[MODEL_PATH_MAX], const char *path, char *err, size_t err_size)
{
    char shown[SHOWN_BYTES];
    const struct complaint c = complaint_in(shown, err, err_size);
    struct stat st;
    size_t n = strlen(path);
    (void)snprintf(shown, sizeof(shown), "%.150s", path);
    if (n >= MODEL_PATH_MAX)
        return complain(&c, E_INVALID, "the path is too long");
    if (stat(path, &st) != 0)
        return complain(&c, E_INVALID, "no such file or folder (models are not downloaded)");
    memmove(out, path, n + 1);
    if (S_ISREG(st.st_mode))
        return judge_file(path, &c);
    if (!S_ISDIR(st.st_mode))
        return complain(&c, E_INVALID,
                        "neither a folder nor a file; a model is a folder with "
                        "config.json or a GGUF file");
    return judge_folder(out, path, &c);
}
