#include "server/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Aim: what a user types becomes the value meant or one line that says what is wrong.
 * Negative space: numbers with tails, out of range, infinite, hexadecimal; words that
 * are near an option and words that are not; options of another command; names that
 * would break a label; an open address without a key. */

enum { ARGS_MAX = 14 };

static enum status parse(struct options *o, char err[OPTION_ERROR_MAX], const char *const *args)
{
    char *argv[ARGS_MAX + 2] = {(char *)"firstlight"};
    int argc = 1;
    for (; argc <= ARGS_MAX && args[argc - 1]; argc++)
        argv[argc] = (char *)args[argc - 1];
    return options_parse(o, argc, argv, err, OPTION_ERROR_MAX);
}

static void defaults(void **state)
{
    (void)state;
    struct options o;
    char err[OPTION_ERROR_MAX];
    const char *const args[ARGS_MAX] = {"serve"};
    assert_int_equal(parse(&o, err, args), OK);
    assert_int_equal(o.command, CMD_SERVE);
    assert_int_equal(o.models.n, 0);
    assert_int_equal(o.names.n, 0);
    assert_string_equal(o.host, "127.0.0.1");
    assert_int_equal(o.port, 8080);
    assert_int_equal(o.api_key.n, 0);
    assert_string_equal(options_backend(&o), "auto");
    assert_int_equal(o.head_bytes, 16384);
    assert_int_equal(o.body_bytes, 8 << 20);
    assert_int_equal(o.idle_ms, 75000);
    assert_int_equal(o.drain_ms, 30000);
    assert_false(o.no_prefix_cache);
    assert_int_equal(o.log_level, LOG_INFO);
}

static void values(void **state)
{
    (void)state;
    struct options o;
    char err[OPTION_ERROR_MAX];
    const char *const args[ARGS_MAX] = {
        "serve",        "--port=0", "--kv-bytes",          "1.5G",
        "--drain-s",    "0.25",     "--served-model-name", "a,b/c",
        "--backend",    "cpu",      "--no-prefix-cache",   "--served-model-name=d",
        "--body-bytes", "64k",
    };
    assert_int_equal(parse(&o, err, args), OK);
    assert_int_equal(o.port, 0);
    assert_true(o.kv_bytes == (size_t)3 << 29);
    assert_int_equal(o.body_bytes, 64 << 10);
    assert_int_equal(o.drain_ms, 250);
    assert_int_equal(o.names.n, 3);
    assert_string_equal(o.names.name[1], "b/c");
    assert_string_equal(o.names.name[2], "d");
    assert_int_equal(o.backend, BACKEND_CPU);
    assert_true(o.no_prefix_cache);
}

static void run_words(void **state)
{
    (void)state;
    struct options o;
    char err[OPTION_ERROR_MAX];
    const char *const args[ARGS_MAX] = {"run", "dir", "--temperature", "0", "--", "--help"};
    assert_int_equal(parse(&o, err, args), OK);
    assert_string_equal(o.models.item[0], "dir");
    assert_string_equal(o.prompt, "--help");
    assert_true(o.temperature == 0);
    const char *const from_stdin[ARGS_MAX] = {"run", "dir", "-"};
    assert_int_equal(parse(&o, err, from_stdin), OK);
    assert_string_equal(o.prompt, "-");
    assert_true(o.temperature < 0);
}

struct bad_case {
    const char *args[ARGS_MAX];
    const char *says;
};

static const struct bad_case bad_cases[] = {
    {{NULL}, "no command"},
    {{"srve"}, "did you mean serve"},
    {{"dance"}, "no command 'dance'; see"},
    {{"serve", "--prot", "1"}, "did you mean --port"},
    {{"serve", "--max-seq=4"}, "did you mean --max-seqs"},
    {{"serve", "--zebra"}, "no option --zebra; see firstlight serve --help"},
    {{"serve", "-p", "1"}, "no option -p;"},
    {{"serve", "--port"}, "--port wants a whole number from 0 to 65535"},
    {{"serve", "--port", "banana"}, "not 'banana'"},
    {{"serve", "--port", "70000"}, "0 to 65535"},
    {{"serve", "--port", "80x"}, "not '80x'"},
    {{"serve", "--port", "0x50"}, "not '0x50'"},
    {{"serve", "--port", "1.5"}, "not '1.5'"},
    {{"serve", "--port", ""}, "not ''"},
    {{"serve", "--drain-s", "inf"}, "wants seconds"},
    {{"serve", "--drain-s", "nan"}, "wants seconds"},
    {{"serve", "--drain-s", "1e999"}, "wants seconds"},
    {{"serve", "--kv-bytes", "5X"}, "wants bytes"},
    {{"serve", "--kv-bytes", "5MM"}, "wants bytes"},
    {{"serve", "--kv-bytes", "-1"}, "wants bytes"},
    {{"serve", "--kv-bytes", "1e30G"}, "wants bytes"},
    {{"serve", "--backend", "gpu"}, "one of auto|cpu|cuda"},
    {{"serve", "--backend", "auto|cpu"}, "one of auto|cpu|cuda"},
    {{"serve", "--insecure=maybe"}, "wants 1 or 0"},
    {{"serve", "--served-model-name", "a\"b"}, "names of printable"},
    {{"serve", "--served-model-name", "a,,b"}, "names of printable"},
    {{"serve", "--served-model-name", "1,2,3,4,5,6,7,8,9"}, "at most 8 names"},
    {{"serve", "--host", "0.0.0.0"}, "give --api-key or --api-keys-file, or --insecure"},
    {{"serve", "--host", "::"}, "give --api-key or --api-keys-file, or --insecure"},
    {{"serve", "--host", "example.com"}, "is not an address"},
    {{"serve", "--listen", "127.0.0.1"}, "is not an address"},
    {{"serve", "--listen", "127.0.0.1:99999"}, "is not an address"},
    {{"serve", "--listen", "::1:80"}, "is not an address"},
    {{"serve", "--listen", "[::1]80"}, "is not an address"},
    {{"serve", "--listen", "unix:"}, "is not an address"},
    {{"serve", "--listen", "127.0.0.1:1", "--listen", "0.0.0.0:1"}, "can be reached by others"},
    {{"serve", "--listen", ""}, "wants a text, at most 16 times"},
    {{"serve", "--unix-mode", "888"}, "octal"},
    {{"serve", "--unix-mode", "7777"}, "octal"},
    {{"serve", "--tls-cert", "a.pem"}, "go together"},
    {{"serve", "--tls-key", "a.pem"}, "go together"},
    {{"serve", "--access-log", "on"}, "one of off|logfmt|json"},
    {{"serve", "model"}, "does not take 'model'; did you mean --model model?"},
    {{"serve", "--model", "a", "b"}, "does not take 'b'; see"},
    {{"serve", "-m", "a"}, "no option -m; did you mean --model?"},
    {{"serve", "--max-model-len=512"}, "no option --max-model-len; did you mean --context?"},
    {{"serve", "-c", "512"}, "did you mean --context?"},
    {{"serve", "--ssl-keyfile", "k"}, "did you mean --tls-key?"},
    {{"run", "--max-num-seqs", "4"}, "no option --max-num-seqs; see"},
    {{"serve", "--temperature", "1"}, "no option --temperature"},
    {{"run", "dir"}, "needs a model and a prompt"},
    {{"run", "dir", "a", "b"}, "does not take 'b'"},
    {{"inspect"}, "needs a model"},
    {{"inspect", "dir", "--port", "1"}, "no option --port"},
};

static void mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_cases); i++) {
        struct options o;
        char err[OPTION_ERROR_MAX];
        if (parse(&o, err, bad_cases[i].args) != E_INVALID)
            fail_msg("case %zu was taken", i);
        if (!strstr(err, bad_cases[i].says))
            fail_msg("case %zu: '%s' does not say '%s'", i, err, bad_cases[i].says);
        assert_null(strchr(err, '\n'));
    }
}

static void open_address(void **state)
{
    (void)state;
    struct options o;
    char err[OPTION_ERROR_MAX];
    const char *const key[ARGS_MAX] = {"serve", "--host", "0.0.0.0", "--api-key", "k"};
    const char *const meant[ARGS_MAX] = {"serve", "--host", "::", "--insecure"};
    const char *const local[ARGS_MAX] = {"serve", "--host", "127.9.9.9"};
    const char *const local6[ARGS_MAX] = {"serve", "--host", "::1"};
    assert_int_equal(parse(&o, err, key), OK);
    assert_int_equal(parse(&o, err, meant), OK);
    assert_int_equal(parse(&o, err, local), OK);
    assert_int_equal(parse(&o, err, local6), OK);
    const char *const file[ARGS_MAX] = {"serve", "--host", "0.0.0.0", "--api-keys-file", "f"};
    const char *const several[ARGS_MAX] = {"serve",       "--listen", "[::1]:0",
                                           "--listen",    "unix:/a",  "--listen=127.1.2.3:80",
                                           "--unix-mode", "660"};
    assert_int_equal(parse(&o, err, file), OK);
    assert_int_equal(parse(&o, err, several), OK);
    assert_int_equal(o.listen.n, 3);
    assert_string_equal(o.listen.item[1], "unix:/a");
    assert_int_equal(o.unix_mode, 0660);
}

static void environment(void **state)
{
    (void)state;
    struct options o;
    char err[OPTION_ERROR_MAX];
    const char *const plain[ARGS_MAX] = {"serve"};
    const char *const given[ARGS_MAX] = {"serve", "--max-seqs", "5", "--served-model-name", "c"};
    const char *const other[ARGS_MAX] = {"inspect", "dir"};
    setenv("FIRSTLIGHT_MAX_SEQS", "7", 1);
    setenv("FIRSTLIGHT_SERVED_MODEL_NAME", "a,b", 1);
    assert_int_equal(parse(&o, err, plain), OK);
    assert_int_equal(o.max_seqs, 7);
    assert_int_equal(o.names.n, 2);
    assert_int_equal(parse(&o, err, given), OK);
    assert_int_equal(o.max_seqs, 5);
    assert_int_equal(o.names.n, 1);
    assert_string_equal(o.names.name[0], "c");
    setenv("FIRSTLIGHT_MAX_SEQS", "many", 1);
    assert_int_equal(parse(&o, err, plain), E_INVALID);
    assert_non_null(strstr(err, "FIRSTLIGHT_MAX_SEQS"));
    assert_int_equal(parse(&o, err, other), OK);
    unsetenv("FIRSTLIGHT_MAX_SEQS");
    unsetenv("FIRSTLIGHT_SERVED_MODEL_NAME");
    const char *const keys[ARGS_MAX] = {"serve", "--api-key", "b", "--api-key", "c"};
    setenv("FIRSTLIGHT_API_KEY", "a", 1);
    assert_int_equal(parse(&o, err, plain), OK);
    assert_int_equal(o.api_key.n, 1);
    assert_int_equal(parse(&o, err, keys), OK);
    assert_int_equal(o.api_key.n, 2);
    assert_string_equal(o.api_key.item[0], "b");
    setenv("FIRSTLIGHT_API_KEY", "", 1);
    assert_int_equal(parse(&o, err, plain), OK);
    assert_int_equal(o.api_key.n, 0);
    unsetenv("FIRSTLIGHT_API_KEY");
}

/* Every option of a command is in its help with its default. */
static void help(void **state)
{
    (void)state;
    static const char *const wanted[] = {"--port N",      "0 to 65535, default 8080",
                                         "--body-bytes",  "1K to 1G, default 8M",
                                         "auto|cpu|cuda", "FIRSTLIGHT_MAX_SEQS"};
    struct options o;
    char err[OPTION_ERROR_MAX];
    char *text = NULL;
    size_t n = 0;
    const char *const args[ARGS_MAX] = {"serve", "--port", "1", "--help"};
    assert_int_equal(parse(&o, err, args), OK);
    assert_int_equal(o.command, CMD_HELP);
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    options_help(f, o.about);
    (void)fclose(f);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        if (!strstr(text, wanted[i]))
            fail_msg("the help does not say '%s'", wanted[i]);
    assert_null(strstr(text, "--temperature"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(values),       cmocka_unit_test(run_words),
        cmocka_unit_test(mistakes), cmocka_unit_test(open_address), cmocka_unit_test(environment),
        cmocka_unit_test(help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
