/* Which models are served, where they lie and what they are called. Nothing here reads a weight or
 * opens a backend, so a wrong name or a missing file is told at once.
 *
 * Invariant: after registry_inspect() every model has a name, and a name means one model. */
#include "server/registry.h"

#include "models/find.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FAILURE_BYTES_MAX = 512 };

/* What Workers AI calls the model its first examples use. The bundled model answers to
 * it, so that those examples run as they are. */
static const char *const demo_alias = "@cf/meta/llama-2-7b-chat-int8";

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* share/firstlight/demo beside the folder of the program. */
static bool installed_demo(char out[MODEL_PATH_MAX])
{
    static const char tail[] = "/../share/firstlight/demo";
    char self[MODEL_PATH_MAX - sizeof(tail)];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return false;
    *slash = '\0';
    (void)snprintf(out, MODEL_PATH_MAX, "%s%s", self, tail);
    return is_directory(out);
}

static bool find_demo(char out[MODEL_PATH_MAX])
{
    const char *named = getenv("FIRSTLIGHT_DEMO");
    if (named && named[0]) {
        (void)snprintf(out, MODEL_PATH_MAX, "%s", named);
        return true;
    }
    if (installed_demo(out))
        return true;
    (void)snprintf(out, MODEL_PATH_MAX, "%s", DEMO_DIR);
    return is_directory(out);
}

/* Where the bundled model lies, when path is NULL, or is "demo" and no such folder
 * exists; else path. */
static enum status model_path(char out[MODEL_PATH_MAX], const char *path, char *err,
                              size_t err_size)
{
    bool demo = !path || (strcmp(path, "demo") == 0 && !is_directory(path));
    if (demo && !find_demo(out)) {
        (void)snprintf(err, err_size,
                       "the bundled demo model is neither beside the program nor "
                       "in %s; give --model",
                       DEMO_DIR);
        return E_INVALID;
    }
    if (demo)
        return OK;
    return model_find(out, path, err, err_size);
}

static bool same_folder(const char *a, const char *b)
{
    struct stat sa;
    struct stat sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

static void add_name(struct served_names *names, const char *name)
{
    if (names->n < SERVED_NAMES_MAX)
        (void)snprintf(names->name[names->n++], SERVED_NAME_BYTES_MAX, "%s", name);
}

/* "NAME.gguf", "NAME-00001-of-00003.gguf" are NAME. */
static void cut_file_ending(char *name)
{
    static const char part[] = "-00001-of-";
    size_t n = strlen(name);
    if (n <= 5 || strcmp(name + n - 5, ".gguf") != 0)
        return;
    n -= 5;
    name[n] = '\0';
    size_t tail = strlen(part) + 5;
    if (n > tail && strncmp(name + n - tail, part, strlen(part)) == 0)
        name[n - tail] = '\0';
}

/* The last part of the path, with everything odd replaced: it becomes a label. */
static void name_after_path(struct served_names *names, const char *path)
{
    char full[MODEL_PATH_MAX];
    char name[SERVED_NAME_BYTES_MAX];
    if (!realpath(path, full))
        (void)snprintf(full, sizeof(full), "%s", path);
    const char *slash = strrchr(full, '/');
    (void)snprintf(name, sizeof(name), "%.*s", SERVED_NAME_BYTES_MAX - 1,
                   slash && slash[1] ? slash + 1 : "model");
    cut_file_ending(name);
    for (char *p = name; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '"' || *p == '\\')
            *p = '_';
    add_name(names, name);
}

/* "NAME=PATH" unless such a path exists; where the path begins. */
static const char *path_of(const char *text, size_t *name_bytes)
{
    const char *equals = strchr(text, '=');
    *name_bytes = 0;
    if (!equals || is_directory(text) || is_file(text))
        return text;
    *name_bytes = (size_t)(equals - text);
    return equals + 1;
}

void served_failed(const struct served *m, enum status s, char *err, size_t err_size)
{
    char what[FAILURE_BYTES_MAX];
    if (m->names.n == 0)
        return;
    (void)snprintf(what, sizeof(what), "%s", err[0] ? err : status_text(s));
    (void)snprintf(err, err_size, "model %s: %s", m->names.name[0], what);
}

/* text NULL: the demo. */
static enum status served_inspect(struct served *m, const char *text, char *err, size_t err_size)
{
    size_t name_bytes = 0;
    const char *path = text ? path_of(text, &name_bytes) : NULL;
    if (name_bytes > 0 && !options_name_is_sane(text, name_bytes)) {
        (void)snprintf(err, err_size, "--model %.80s: the name before '=' is not usable", text);
        return E_INVALID;
    }
    if (name_bytes > 0 && m->names.n == SERVED_NAMES_MAX) {
        (void)snprintf(err, err_size, "--model %.80s is one name too many", text);
        return E_INVALID;
    }
    if (name_bytes > 0)
        (void)snprintf(m->names.name[m->names.n++], SERVED_NAME_BYTES_MAX, "%.*s", (int)name_bytes,
                       text);
    m->created = (uint64_t)time(NULL);
    enum status s = model_path(m->path, path, err, err_size);
    if (s)
        return s;
    if (m->names.n == 0)
        name_after_path(&m->names, m->path);
    return model_inspect(&m->info, m->path, err, err_size);
}

static enum status add_alias(struct registry *r, const char *text, char *err, size_t err_size)
{
    const char *equals = strchr(text, '=');
    size_t n = equals ? (size_t)(equals - text) : strlen(text);
    char name[SERVED_NAME_BYTES_MAX];
    struct served *m = registry_find(r, equals ? equals + 1 : NULL);
    const char *wrong = NULL;
    if (!options_name_is_sane(text, n))
        wrong = "is no usable name";
    else if (!m)
        wrong = "is for a model that is not served";
    else if (m->names.n == SERVED_NAMES_MAX)
        wrong = "is one name too many";
    if (wrong) {
        (void)snprintf(err, err_size, "--alias %.120s %s", text, wrong);
        return E_INVALID;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)n, text);
    if (registry_find(r, name) != m)
        add_name(&m->names, name);
    return OK;
}

/* The bundled model answers to it, the first one where it is served twice. */
static void add_demo_alias(struct registry *r)
{
    char demo[MODEL_PATH_MAX];
    for (int32_t i = 0; i < r->n; i++)
        if (find_demo(demo) && same_folder(demo, r->model[i].path) && !registry_find(r, demo_alias))
            add_name(&r->model[i].names, demo_alias);
}

/* A name means one model. */
static enum status check_names(struct registry *r, char *err, size_t err_size)
{
    for (int32_t i = 0; i < r->n; i++) {
        for (int32_t k = 0; k < r->model[i].names.n; k++) {
            const char *name = r->model[i].names.name[k];
            if (registry_find(r, name) == &r->model[i])
                continue;
            (void)snprintf(err, err_size,
                           "two models are called %.100s; give them names: --model NAME=PATH",
                           name);
            return E_INVALID;
        }
    }
    return OK;
}

enum status registry_inspect(struct registry *r, const struct options *o, char *err,
                             size_t err_size)
{
    int32_t n = o->models.n > 0 ? o->models.n : 1;
    enum status s = OK;
    if (n > REGISTRY_MAX) {
        (void)snprintf(err, err_size, "at most %d models are served together", REGISTRY_MAX);
        return E_INVALID;
    }
    r->model[0].names = o->names;
    for (r->n = 0; r->n < n && s == OK; r->n++) {
        s = served_inspect(&r->model[r->n], o->models.item[r->n], err, err_size);
        if (s && n > 1)
            served_failed(&r->model[r->n], s, err, err_size);
    }
    if (s == OK)
        s = check_names(r, err, err_size);
    for (int32_t i = 0; i < o->aliases.n && s == OK; i++)
        s = add_alias(r, o->aliases.item[i], err, err_size);
    if (s == OK)
        add_demo_alias(r);
    return s;
}

struct served *registry_find(struct registry *r, const char *name)
{
    if (!name)
        return r->n ? &r->model[0] : NULL;
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t k = 0; k < r->model[i].names.n; k++)
            if (strcmp(r->model[i].names.name[k], name) == 0)
                return &r->model[i];
    return NULL;
}
