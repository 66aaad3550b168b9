/* Aim: what stands at the door and needs no socket: addresses to listen on, keys and their file,
 * origins of other sites, connections counted by address, lines of the access log.
 *
 * Negative space: addresses that look like others; a keys file that is empty, too open, too long in
 * a line, broken after good lines, a folder; keys that are prefixes of each other; origins that
 * differ in a letter; networks that share their first bits; text that would break a log line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/access.h"
#include "server/address.h"
#include "server/cors.h"
#include "server/keys.h"
#include "server/peers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ERR_MAX = 256, TEXT_MAX = 4096 };

static char folder[] = "/tmp/door_test_XXXXXX";

static int set_up(void **state)
{
    (void)state;
    log_setup(LOG_ERROR, false);
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text, size_t n, mode_t mode)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
    assert_int_equal(chmod(path_of(name), mode), 0);
}

/* -- addresses -- */

static const struct {
    const char *text;
    const char *printed; /* NULL: refused */
    bool local;
} addresses[] = {
    {"127.0.0.1:8080", "127.0.0.1:8080", true},
    {"127.9.9.9:0", "127.9.9.9:0", true},
    {"localhost:1", "127.0.0.1:1", true},
    {"0.0.0.0:65535", "0.0.0.0:65535", false},
    {"10.0.0.1:80", "10.0.0.1:80", false},
    {"[::1]:80", "[::1]:80", true},
    {"[::]:80", "[::]:80", false},
    {"[2001:DB8::1]:80", "[2001:db8::1]:80", false},
    /* Reaches other machines' IPv4 through an IPv6 socket, so it is not taken for local. */
    {"[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", false},
    {"127.0.0.1", NULL, false},
    {"127.0.0.1:", NULL, false},
    {"127.0.0.1:65536", NULL, false},
    {"127.0.0.1:000080", NULL, false},
    {"127.0.0.1:+80", NULL, false},
    {"127.0.0.1: 80", NULL, false},
    {"127.0.0.1:80 ", NULL, false},
    {"127.1:80", NULL, false},
    {"0x7f.0.0.1:80", NULL, false},
    {"::1:80", NULL, false},
    {"[::1]", NULL, false},
    {"[::1:80", NULL, false},
    {"[]:80", NULL, false},
    {"[127.0.0.1:80", NULL, false},
    {":80", NULL, false},
    {"example.com:80", NULL, false},
    {"localhost.:80", NULL, false},
    {"", NULL, false},
    {"unix:", NULL, false},
    {"[fe80::1111:2222:3333:4444:5555:6666:7777:8888:9999]:80", NULL, false},
};

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct address a;
        char text[ADDRESS_TEXT_MAX];
        bool good = address_parse(&a, addresses[i].text);
        if (good != (addresses[i].printed != NULL))
            fail_msg("'%s' was %s", addresses[i].text, good ? "taken" : "refused");
        if (!good)
            continue;
        address_print(text, &a.at);
        assert_string_equal(text, addresses[i].printed);
        assert_int_equal(a.local, addresses[i].local);
    }
}

static void test_unix_paths(void **state)
{
    (void)state;
    struct address a;
    char text[256] = "unix:/";
    assert_true(address_parse(&a, "unix:/run/a:b.sock"));
    assert_string_equal(a.path, "/run/a:b.sock");
    assert_true(a.local);
    assert_int_equal(a.at.ss_family, 0);
    memset(text + 6, 'x', 106);
    assert_true(address_parse(&a, text));
    text[6 + 106] = 'x';
    assert_false(address_parse(&a, text));
}

static void test_join(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    address_join(text, "::1", 5);
    assert_string_equal(text, "[::1]:5");
    address_join(text, "127.0.0.1", 5);
    assert_string_equal(text, "127.0.0.1:5");
}

/* -- keys -- */

static const struct {
    const char *text;
    mode_t mode;
    const char *says; /* NULL: good */
} key_files[] = {
    {"abc\n", 0600, NULL},
    {"abc", 0400, NULL},
    {"# comment\n\n  abc \t alice  \r\ndef bob\n", 0640, NULL},
    {"abc\n", 0644, NULL}, /* with a warning */
    {"abc\n", 0620, "written by others"},
    {"abc\n", 0602, "written by others"},
    {"", 0600, "holds no key"},
    {"# only a comment\n", 0600, "holds no key"},
    {"abc\nabc def ghi\n", 0600, "line 2: more than a key and a name"},
    {"abc\nd\x80g\n", 0600, "line 2: a key is"},
    {"abc\nd\x01g\n", 0600, "line 2: a key is"},
    {"abc na\"me\n", 0600, "line 1: a name is"},
    {"abc 0123456789012345678901234567890\n", 0600, NULL},
    {"abc 01234567890123456789012345678901\n", 0600, "line 1: a name is"},
};

static void test_key_files(void **state)
{
    (void)state;
    const struct text_list none = {.n = 0};
    for (size_t i = 0; i < ARRAY_LEN(key_files); i++) {
        char err[ERR_MAX] = "";
        struct keys *k = NULL;
        write_file("keys", key_files[i].text, strlen(key_files[i].text), key_files[i].mode);
        enum status s = keys_open(&k, &none, path_of("keys"), err, sizeof(err));
        if ((s == OK) != !key_files[i].says)
            fail_msg("case %zu: %s", i, err);
        if (s && !strstr(err, key_files[i].says))
            fail_msg("case %zu says '%s'", i, err);
        /* The message must not hold the key. */
        assert_true(s == OK || !strstr(err, "abc"));
        assert_null(strchr(err, '\n'));
        if (s == OK) {
            struct key_holder h;
            assert_true(keys_find(k, "abc", &h));
            assert_false(keys_find(k, "alice", &h));
            assert_false(keys_find(k, "#", &h));
        }
        keys_close(k);
        unlink(path_of("keys"));
    }
}

static void test_odd_key_files(void **state)
{
    (void)state;
    const struct text_list none = {.n = 0};
    char err[ERR_MAX];
    struct keys *k = NULL;
    assert_int_equal(keys_open(&k, &none, path_of("absent"), err, sizeof(err)), E_IO);
    assert_non_null(strstr(err, "No such file"));
    assert_int_equal(keys_open(&k, &none, folder, err, sizeof(err)), E_INVALID);
    assert_non_null(strstr(err, "is not a file"));
    /* Opening a pipe must not wait for somebody to write to it. */
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_int_equal(keys_open(&k, &none, path_of("fifo"), err, sizeof(err)), E_INVALID);
    unlink(path_of("fifo"));
    char *big = malloc(2 << 20);
    assert_non_null(big);
    memset(big, '\n', 2 << 20);
    write_file("keys", big, 2 << 20, 0600);
    assert_int_equal(keys_open(&k, &none, path_of("keys"), err, sizeof(err)), E_INVALID);
    assert_non_null(strstr(err, "larger than"));
    memset(big, 'k', 300);
    big[257] = '\n';
    write_file("keys", big, 258, 0600);
    assert_int_equal(keys_open(&k, &none, path_of("keys"), err, sizeof(err)), E_INVALID);
    big[256] = '\n';
    write_file("keys", big, 257, 0600);
    assert_int_equal(keys_open(&k, &none, path_of("keys"), err, sizeof(err)), OK);
    keys_close(k);
    free(big);
    unlink(path_of("keys"));
}

static void test_keys(void **state)
{
    (void)state;
    const struct text_list given = {.item = {"key", "keyy", "other"}, .n = 3};
    const struct text_list none = {.n = 0};
    const struct text_list bad = {.item = {"with blank"}, .n = 1};
    char err[ERR_MAX];
    struct keys *k = NULL;
    struct key_holder a = {0};
    struct key_holder b = {0};
    write_file("keys", "filed carol\n", 12, 0600);
    assert_int_equal(keys_open(&k, &given, path_of("keys"), err, sizeof(err)), OK);
    assert_true(keys_asked(k));
    assert_true(keys_find(k, "key", &a));
    assert_true(keys_find(k, "keyy", &b));
    assert_true(a.id && b.id && a.id != b.id);
    assert_string_equal(a.name, "");
    assert_true(keys_find(k, "key", &b));
    assert_true(a.id == b.id);
    assert_true(keys_find(k, "filed", &b));
    assert_string_equal(b.name, "carol");
    static const char *const wrong[] = {"", "ke", "keyyy", "Key", "key ", " key", "filed carol"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(keys_find(k, wrong[i], &b));
    keys_close(k);
    unlink(path_of("keys"));
    assert_int_equal(keys_open(&k, &none, "", err, sizeof(err)), OK);
    assert_false(keys_asked(k));
    keys_close(k);
    assert_int_equal(keys_open(&k, &bad, "", err, sizeof(err)), E_INVALID);
    assert_null(strstr(err, "with blank"));
    keys_close(NULL);
}

/* -- origins -- */

static void test_cors(void **state)
{
    (void)state;
    const struct text_list none = {.n = 0};
    const struct text_list two = {.item = {"https://a.example", "http://b:8080"}, .n = 2};
    const struct text_list any = {.item = {"https://a.example", "*"}, .n = 2};
    struct cors *c;
    char err[ERR_MAX];
    assert_int_equal(cors_open(&c, &none, err, sizeof(err)), OK);
    assert_false(cors_is_on(c));
    assert_false(cors_allows(c, "https://a.example"));
    assert_string_equal(cors_lines(c, "https://a.example"), "");
    cors_close(c);
    assert_int_equal(cors_open(&c, &two, err, sizeof(err)), OK);
    assert_true(cors_is_on(c));
    assert_non_null(
        strstr(cors_lines(c, "http://b:8080"), "Access-Control-Allow-Origin: http://b:8080\r\n"));
    assert_non_null(strstr(cors_lines(c, "http://b:8080"), "Vary: Origin\r\n"));
    assert_non_null(strstr(cors_lines(c, "http://b:8080"), "X-Request-Id"));
    static const char *const foreign[] = {"https://a.example.evil",
                                          "http://a.example",
                                          "https://A.example",
                                          "https://a.example/",
                                          "null",
                                          "",
                                          "http://b",
                                          NULL};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        assert_false(cors_allows(c, foreign[i]));
        assert_string_equal(cors_lines(c, foreign[i]), "Vary: Origin\r\n");
    }
    cors_close(c);
    assert_int_equal(cors_open(&c, &any, err, sizeof(err)), OK);
    assert_true(cors_allows(c, "https://whoever"));
    assert_non_null(strstr(cors_lines(c, "https://whoever"), "Allow-Origin: *\r\n"));
    assert_null(strstr(cors_lines(c, "https://whoever"), "Vary"));
    cors_close(c);
    cors_close(NULL);
}

static void test_bad_origins(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "a.example",          "https://",    "https://a/",        "https://a.example/path",
        "https://*.example",  "https://a b", "https://a\r\nX: 1", "://a",
        "https://a,https://b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct text_list list = {.item = {bad[i]}, .n = 1};
        struct cors *c;
        char err[ERR_MAX];
        assert_int_equal(cors_open(&c, &list, err, sizeof(err)), E_INVALID);
        assert_non_null(strstr(err, "--cors-origin wants"));
    }
}

/* -- addresses counted -- */

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage at = {0};
    bool six = strchr(text, ':') != NULL;
    at.ss_family = six ? AF_INET6 : AF_INET;
    void *to = six ? (void *)&((struct sockaddr_in6 *)&at)->sin6_addr
                   : (void *)&((struct sockaddr_in *)&at)->sin_addr;
    assert_int_equal(inet_pton(at.ss_family, text, to), 1);
    return at;
}

static const struct {
    const char *a;
    const char *b;
    bool same; /* they share one count */
} neighbours[] = {
    {"10.0.0.1", "10.0.0.1", true},
    {"10.0.0.1", "10.0.0.2", false},
    {"10.0.0.1", "::ffff:10.0.0.1", true},
    {"2001:db8::1", "2001:db8::ffff:1", true},
    {"2001:db8:0:1::1", "2001:db8:0:2::1", false},
    /* The first bits of one are the other's address. */
    {"32.1.13.184", "2001:db8::", false},
    {"184.13.1.32", "2001:db8::", false},
};

static void test_neighbours(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(neighbours); i++) {
        struct peers *p;
        struct peer *first = NULL;
        struct peer *second = NULL;
        struct sockaddr_storage a = address_of(neighbours[i].a);
        struct sockaddr_storage b = address_of(neighbours[i].b);
        assert_int_equal(peers_open(&p), OK);
        assert_int_equal(peers_take(p, (struct sockaddr *)&a, 1, &first), OK);
        assert_non_null(first);
        enum status s = peers_take(p, (struct sockaddr *)&b, 1, &second);
        if ((s == E_AGAIN) != neighbours[i].same)
            fail_msg("%s and %s", neighbours[i].a, neighbours[i].b);
        peers_drop(second);
        peers_drop(first);
        assert_int_equal(peers_take(p, (struct sockaddr *)&b, 1, &second), OK);
        peers_drop(second);
        peers_close(p);
    }
    peers_close(NULL);
    peers_drop(NULL);
}

static void test_uncounted(void **state)
{
    (void)state;
    static const char *const local[] = {"127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"};
    struct sockaddr_storage other = {.ss_family = AF_UNIX};
    struct peer *peer;
    struct peers *p;
    assert_int_equal(peers_open(&p), OK);
    for (size_t i = 0; i < ARRAY_LEN(local); i++) {
        struct sockaddr_storage at = address_of(local[i]);
        assert_int_equal(peers_take(p, (struct sockaddr *)&at, 1, &peer), OK);
        assert_null(peer);
    }
    assert_int_equal(peers_take(p, (struct sockaddr *)&other, 1, &peer), OK);
    assert_null(peer);
    peers_close(p);
}

/* Many addresses, some full, against plain counters. */
static void test_many_peers(void **state)
{
    (void)state;
    enum { ADDRESSES = 3000, MOST = 3, ROUNDS = 40000 };
    static struct peer *held[ADDRESSES][MOST];
    static int n_held[ADDRESSES];
    struct peers *p;
    uint32_t seed = 1;
    assert_int_equal(peers_open(&p), OK);
    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t who = (seed >> 8) % ADDRESSES;
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(0x0a000000u + who)}};
        if (seed >> 30 && n_held[who]) {
            peers_drop(held[who][--n_held[who]]);
            continue;
        }
        struct peer *peer;
        enum status s = peers_take(p, (struct sockaddr *)&at, MOST, &peer);
        assert_int_equal(s, n_held[who] == MOST ? E_AGAIN : OK);
        if (s == OK)
            held[who][n_held[who]++] = peer;
    }
    for (int i = 0; i < ADDRESSES; i++)
        while (n_held[i])
            peers_drop(held[i][--n_held[i]]);
    peers_close(p);
}

/* -- the access log -- */

static size_t read_file(const char *name, char out[TEXT_MAX])
{
    FILE *f = fopen(path_of(name), "r");
    assert_non_null(f);
    size_t n = fread(out, 1, TEXT_MAX - 1, f);
    out[n] = '\0';
    fclose(f);
    return n;
}

static const struct access_entry entry = {
    .id = "a\"b=c",
    .address = "10.0.0.1",
    .key = "alice",
    .method = "POST",
    .route = "/v1/chat/completions",
    .code = 200,
    .body_bytes = 12,
    .n_prompt = 3,
    .n_answer = 4,
    .first_ms = 1.25,
    .total_ms = 2.5,
};

static void test_access(void **state)
{
    (void)state;
    static const struct {
        int32_t form;
        const char *want; /* after the time */
    } forms[] = {
        {ACCESS_LOGFMT, " id=\"a\\\"b=c\" addr=10.0.0.1 key=alice method=POST "
                        "route=/v1/chat/completions status=200 body=12 prompt=3 completion=4 "
                        "first_ms=1.2 ms=2.5\n"},
        {ACCESS_JSON, "\",\"id\":\"a\\\"b=c\",\"addr\":\"10.0.0.1\",\"key\":\"alice\","
                      "\"method\":\"POST\",\"route\":\"/v1/chat/completions\",\"status\":200,"
                      "\"body\":12,\"prompt\":3,\"completion\":4,\"first_ms\":1.2,\"ms\":2.5}\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct access_log *a = NULL;
        char path[128];
        char err[ERR_MAX];
        char text[TEXT_MAX];
        snprintf(path, sizeof(path), "%s", path_of("access"));
        assert_int_equal(access_open(&a, forms[i].form, path, err, sizeof(err)), OK);
        access_write(a, &entry);
        access_flush(a);
        read_file("access", text);
        const char *at = strchr(text, 'Z');
        assert_non_null(at);
        assert_string_equal(at + 1, forms[i].want);
        /* Moved away, it is still written to until it is opened again. */
        char moved[128];
        snprintf(moved, sizeof(moved), "%s", path_of("access.1"));
        assert_int_equal(rename(path, moved), 0);
        access_write(a, &entry);
        access_reopen(a);
        access_write(a, &entry);
        access_close(a);
        size_t new = read_file("access", text);
        size_t old = read_file("access.1", text);
        assert_int_equal(old, 2 * new);
        unlink(path);
        unlink(moved);
    }
}

static void test_access_trouble(void **state)
{
    (void)state;
    struct access_log *a = NULL;
    char err[ERR_MAX];
    assert_int_equal(access_open(&a, ACCESS_OFF, "", err, sizeof(err)), OK);
    assert_null(a);
    access_write(NULL, &entry);
    access_flush(NULL);
    access_reopen(NULL);
    access_close(NULL);
    assert_int_equal(access_open(&a, ACCESS_JSON, folder, err, sizeof(err)), E_IO);
    /* A pipe that nobody reads must not stop the server. */
    char path[128];
    snprintf(path, sizeof(path), "%s", path_of("fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(access_open(&a, ACCESS_JSON, path, err, sizeof(err)), OK);
    for (int i = 0; i < 5000; i++)
        access_write(a, &entry);
    access_close(a);
    close(reader);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),      cmocka_unit_test(test_unix_paths),
        cmocka_unit_test(test_join),           cmocka_unit_test(test_key_files),
        cmocka_unit_test(test_odd_key_files),  cmocka_unit_test(test_keys),
        cmocka_unit_test(test_cors),           cmocka_unit_test(test_bad_origins),
        cmocka_unit_test(test_neighbours),     cmocka_unit_test(test_uncounted),
        cmocka_unit_test(test_many_peers),     cmocka_unit_test(test_access),
        cmocka_unit_test(test_access_trouble),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
