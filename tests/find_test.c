/* Aim: a path that a user would give names one model, or one line says what is there instead and
 * what to do.
 * Negative space: folders with several models, with none, with parts of one, with weights that
 * are programs or an adapter's; files that are only a part of a model; pointers of Git LFS. */
#include "models/find.h"
#include "models/jsonfile.h"
#include "tests/lies.h"
#include "tests/tiny_model.h"

enum { FILES_MAX = 4 };

static const struct place {
    const char *files[FILES_MAX]; /* in the folder, up to a NULL */
    const char *path;             /* behind the folder */
    enum status status;
    const char *says; /* or what is found, behind the folder */
} places[] = {
    {{"config.json", "model.safetensors"}, "", OK, ""},
    {{"config.json", "model.safetensors.index.json", "x.gguf"}, "", OK, ""},
    {{"a.gguf"}, "", OK, "/a.gguf"},
    {{"a.gguf", "config.json", "README.md"}, "", OK, "/a.gguf"},
    {{"a.gguf", ".b.gguf", "c.gguf.part"}, "", OK, "/a.gguf"},
    {{"a-00001-of-00003.gguf", "a-00003-of-00003.gguf", "a-00002-of-00003.gguf"},
     "",
     OK,
     "/a-00001-of-00003.gguf"},
    {{"a.gguf", "b.gguf"}, "/b.gguf", OK, "/b.gguf"},
    {{"weights"}, "/weights", OK, "/weights"},
    {{"b.gguf", "a.gguf"}, "", E_INVALID, "holds 2 models, name one of the files: a.gguf, b.gguf"},
    {{"a-00001-of-00001.gguf", "b.gguf"}, "", E_INVALID, "2 models"},
    {{"a-00002-of-00003.gguf"}, "", E_INVALID, "but not the first"},
    {{NULL}, "", E_INVALID, "is no model: neither config.json"},
    {{"config.json"}, "", E_INVALID, "has a config.json but no weights"},
    {{"model.safetensors"}, "", E_INVALID, "no config.json beside its weights"},
    {{"config.json", "model-00001-of-00002.safetensors"}, "", E_INVALID, "index.json"},
    {{"adapter_config.json", "adapter_model.safetensors"}, "", E_UNSUPPORTED, "merge it into"},
    {{"config.json", "pytorch_model.bin"}, "", E_UNSUPPORTED, "PyTorch pickle"},
    {{"params.json", "consolidated.00.pth"}, "", E_UNSUPPORTED, "as safetensors"},
    {{"pytorch_model.bin"}, "/pytorch_model.bin", E_UNSUPPORTED, "is a PyTorch pickle"},
    {{"model.safetensors"}, "/model.safetensors", E_INVALID, "name the folder that it is in"},
    {{NULL}, "/none", E_INVALID, "no such file or folder"},
};

static char folder[64];

static void put(const char *name, const char *text)
{
    tiny_save(folder, name, text, strlen(text));
}

static void drop(const char *const *names)
{
    char path[128];
    for (size_t i = 0; i < FILES_MAX && names[i]; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        assert_int_equal(unlink(path), 0);
    }
}

static void a_path_names_one_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const struct place *p = &places[i];
        char path[128];
        char want[128];
        char found[MODEL_PATH_MAX] = "";
        char err[512] = "";
        for (size_t k = 0; k < FILES_MAX && p->files[k]; k++)
            put(p->files[k], "{}");
        (void)snprintf(path, sizeof(path), "%s%s", folder, p->path);
        enum status s = model_find(found, path, err, sizeof(err));
        expect(p->files[0] ? p->files[0] : path, s, p->status, err, p->says);
        (void)snprintf(want, sizeof(want), "%s%s", folder, p->says);
        if (s == OK)
            assert_string_equal(found, want);
        else
            assert_int_equal(strncmp(err, folder, strlen(folder)), 0);
        drop(p->files);
    }
}

static void many_are_not_all_listed(void **state)
{
    char err[512] = "";
    char found[MODEL_PATH_MAX];
    char name[80];
    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 40; i++) {
            (void)snprintf(name, sizeof(name), "%s%02d.gguf",
                           round ? "a-long-name-of-a-model-that-fills-the-line-" : "m", i);
            put(name, "");
        }
        expect("many", model_find(found, folder, err, sizeof(err)), E_INVALID, err, ", ...");
        assert_non_null(strstr(err, "00.gguf"));
    }
    for (int i = 0; i < 80; i++) {
        char path[160];
        (void)snprintf(path, sizeof(path), "%s/%s%02d.gguf", folder,
                       i < 40 ? "m" : "a-long-name-of-a-model-that-fills-the-line-", i % 40);
        assert_int_equal(unlink(path), 0);
    }
}

static void no_path_is_too_long(void **state)
{
    static char path[2 * MODEL_PATH_MAX];
    static char found[MODEL_PATH_MAX];
    char err[256] = "";
    (void)state;
    memset(path, 'x', sizeof(path) - 1);
    expect("long", model_find(found, path, err, sizeof(err)), E_INVALID, err, "too long");
    path[1000] = '\0';
    expect("name", model_find(found, path, err, sizeof(err)), E_INVALID, err, "no such file");
}

static void a_pointer_is_no_file(void **state)
{
    static const char *const names[] = {"config.json", NULL};
    char err[256] = "";
    (void)state;
    put(names[0], "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n");
    expect("lfs", inspect(folder, err, sizeof(err)), E_FORMAT, err, "git lfs pull");
    drop(names);
}

static int make_folder(void **state)
{
    (void)state;
    tiny_dir(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_names_one_model),
        cmocka_unit_test(many_are_not_all_listed),
        cmocka_unit_test(no_path_is_too_long),
        cmocka_unit_test(a_pointer_is_no_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
