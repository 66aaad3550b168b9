/* Aim: what the real server does when its engine fails: the program with its loop, its API and
 * its scheduler on a fake model that fails when told to. A failed step and logits that are not
 * finite end their requests with an error and nothing else; an engine that makes no steps is
 * not ready but alive, and ready again when it moves; a lost device ends the process. Negative
 * space: an answer that has already begun; the prefix cache after bad logits. */
#include "server/options.h"
#include "server/server.h"
#include "tests/fake_model.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { ANSWER_BYTES = 1 << 20, WAIT_MS = 20000, PORT_DIGITS = 8 };

struct place {
    struct model *m;
    struct options options;
    pthread_t thread;
    int port;
    int exit_code;
};

static void nap(void)
{
    const struct timespec t = {.tv_nsec = 5000000};
    nanosleep(&t, NULL);
}

static void *serve(void *arg)
{
    struct place *p = arg;
    p->exit_code = server_run(&p->options);
    return NULL;
}

static struct sockaddr_in address_of(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static int free_port(void)
{
    struct sockaddr_in a = address_of(0);
    socklen_t n = sizeof(a);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &n), 0);
    close(s);
    return ntohs(a.sin_port);
}

/* -1: nobody listens yet. */
static int request(const struct place *p, const char *method, const char *path, const char *body)
{
    char head[1024];
    struct sockaddr_in a = address_of(p->port);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&a, sizeof(a))) {
        close(s);
        return -1;
    }
    int n = snprintf(head, sizeof(head),
                     "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: "
                     "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     method, path, strlen(body), body);
    assert_int_equal(send(s, head, (size_t)n, MSG_NOSIGNAL), n);
    return s;
}

/* Reads until the end, or until text has come. */
static bool read_until(int s, char *out, size_t *used, const char *text)
{
    while (!text || !strstr(out, text)) {
        ssize_t n = recv(s, out + *used, ANSWER_BYTES - 1 - *used, 0);
        if (n <= 0)
            break;
        *used += (size_t)n;
        out[*used] = '\0';
    }
    return text && strstr(out, text);
}

/* The status, 0: no answer; the whole of it in out [ANSWER_BYTES]. */
static int ask(const struct place *p, const char *method, const char *path, const char *body,
               char *out)
{
    size_t used = 0;
    out[0] = '\0';
    int s = request(p, method, path, body);
    if (s < 0)
        return 0;
    (void)read_until(s, out, &used, NULL);
    close(s);
    return used > 12 ? (int)strtol(out + 9, NULL, 10) : 0;
}

static int get(const struct place *p, const char *path)
{
    static char out[ANSWER_BYTES];
    return ask(p, "GET", path, "", out);
}

static void wait_for(const struct place *p, const char *path, int status)
{
    for (int i = 0; i < WAIT_MS / 5; i++) {
        if (get(p, path) == status)
            return;
        nap();
    }
    fail_msg("%s is never %d", path, status);
}

static void place_open(struct place *p, struct model *m)
{
    char port[PORT_DIGITS];
    char err[OPTION_ERROR_MAX] = "";
    *p = (struct place){.m = m, .port = free_port(), .exit_code = -1};
    (void)snprintf(port, sizeof(port), "%d", p->port);
    char *argv[] = {(char *)"firstlight", (char *)"serve",
                    (char *)"--port",     port,
                    (char *)"--backend",  (char *)"cpu",
                    (char *)"--threads",  (char *)"1",
                    (char *)"--stall-s",  (char *)"0.2",
                    (char *)"--model",    (char *)REPO_DIR "/models/demo"};
    if (options_parse(&p->options, ARRAY_LEN(argv), argv, err, sizeof(err)))
        fail_msg("%s", err);
    fake_own_thread(m);
    fake_prepared = m;
    assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
    wait_for(p, "/health/ready", 200);
}

static void place_close(struct place *p)
{
    kill(getpid(), SIGTERM);
    pthread_join(p->thread, NULL);
    assert_int_equal(p->exit_code, 0);
}

static struct model *small_model(void)
{
    return fake_open(256, 16, 1024, 512, 256);
}

/* Between two steps, so that the device sees it with the next one. */
static void set(struct place *p, uint32_t *field, uint32_t value)
{
    pthread_mutex_lock(&p->m->device->mutex);
    *field = value;
    pthread_mutex_unlock(&p->m->device->mutex);
}

#define WHOLE  "{\"prompt\":[5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22],\"max_tokens\":4}"
#define STREAM "{\"prompt\":[5,6,7],\"max_tokens\":900,\"stream\":true}"

static int complete(const struct place *p, char *out)
{
    return ask(p, "POST", "/v1/completions", WHOLE, out);
}

static void test_failed_step(void **state)
{
    (void)state;
    static char out[ANSWER_BYTES];
    struct place p;
    place_open(&p, small_model());
    set(&p, &p.m->fail_one_in, 1);
    assert_int_equal(complete(&p, out), 500);
    assert_non_null(strstr(out, "\"error\""));
    assert_int_equal(get(&p, "/health/ready"), 200);
    set(&p, &p.m->fail_one_in, 0);
    assert_int_equal(complete(&p, out), 200);
    place_close(&p);
}

static void test_failed_step_in_a_stream(void **state)
{
    (void)state;
    static char out[ANSWER_BYTES];
    struct place p;
    size_t used = 0;
    struct model *m = small_model();
    m->spin = 100000;
    place_open(&p, m);
    int s = request(&p, "POST", "/v1/completions", STREAM);
    assert_true(read_until(s, out, &used, "data: {"));
    assert_non_null(strstr(out, "HTTP/1.1 200"));
    set(&p, &p.m->fail_one_in, 1);
    (void)read_until(s, out, &used, NULL);
    close(s);
    assert_non_null(strstr(out, "\"error\""));
    set(&p, &p.m->fail_one_in, 0);
    assert_int_equal(complete(&p, out), 200);
    place_close(&p);
}

/* The blocks computed on the way to them are not to be found again. */
static void test_bad_logits(void **state)
{
    (void)state;
    static char out[ANSWER_BYTES];
    struct place p;
    place_open(&p, small_model());
    set(&p, &p.m->bad_one_in, 1);
    assert_int_equal(complete(&p, out), 500);
    set(&p, &p.m->bad_one_in, 0);
    assert_int_equal(complete(&p, out), 200);
    assert_non_null(strstr(out, "\"cached_tokens\":0"));
    assert_int_equal(complete(&p, out), 200);
    assert_non_null(strstr(out, "\"cached_tokens\":16"));
    assert_int_equal(get(&p, "/health/ready"), 200);
    place_close(&p);
}

static void test_stall(void **state)
{
    (void)state;
    static char out[ANSWER_BYTES];
    struct place p;
    size_t used = 0;
    place_open(&p, small_model());
    fake_hold(p.m, true);
    int s = request(&p, "POST", "/v1/completions", WHOLE);
    wait_for(&p, "/health/ready", 503);
    assert_int_equal(get(&p, "/health/live"), 200);
    assert_int_equal(get(&p, "/health"), 503);
    fake_hold(p.m, false);
    (void)read_until(s, out, &used, NULL);
    close(s);
    assert_non_null(strstr(out, "HTTP/1.1 200"));
    wait_for(&p, "/health/ready", 200);
    place_close(&p);
}

/* Nothing here brings a device back: whoever watches the process starts it anew. */
static void test_lost_device(void **state)
{
    (void)state;
    static char out[ANSWER_BYTES];
    struct place p;
    struct model *m = small_model();
    m->lost_at = 3;
    place_open(&p, m);
    assert_int_equal(complete(&p, out), 500);
    pthread_join(p.thread, NULL);
    assert_int_equal(p.exit_code, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_step), cmocka_unit_test(test_failed_step_in_a_stream),
        cmocka_unit_test(test_bad_logits),  cmocka_unit_test(test_stall),
        cmocka_unit_test(test_lost_device),
    };
    log_setup(LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
