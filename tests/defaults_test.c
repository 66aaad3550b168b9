/* Aim: what generation_config.json says holds where a request says nothing, and only there.
 *
 * Negative space: a format that has defaults of its own; a model that says nothing; an answer
 * that is longer than the context has room for. */
#include "models/config.h"
#include "server/prompt.h"
#include "tests/lies.h"
#include "tests/tiny_model.h"

enum { CONTEXT = 100, N_PROMPT = 40 };

static const struct tiny small = {8, 12, 1, 2, 1, 4, 16, CONTEXT, true, "F32", NULL, .seed = 1};

static const char all[] = "{\"temperature\":0.5,\"top_p\":0.75,\"top_k\":7,\"min_p\":0.25,"
                          "\"repetition_penalty\":1.5,\"max_new_tokens\":30,"
                          "\"eos_token_id\":[3,5],\"do_sample\":true}";

static void read_model(struct served *m, const char *generation)
{
    char dir[64];
    char err[256];
    struct config c;
    tiny_dir(dir);
    tiny_save_config(dir, &small);
    tiny_save(dir, "generation_config.json", generation, strlen(generation));
    if (config_load(&c, dir, err, sizeof(err)))
        fail_msg("%s", err);
    memset(m, 0, sizeof(*m));
    m->info = c.info;
    tiny_drop(dir);
}

static struct gen_request request(const struct wire *w)
{
    struct gen_request r = {.wire = w};
    r.params.max_new_tokens = TOKENS_NO_LIMIT;
    r.params.sampling = (struct sampling){.temperature = 1, .top_p = 1, .repetition = 1};
    return r;
}

static void the_model_fills_in(void **state)
{
    struct served m;
    struct sched_params p;
    struct gen_request r = request(&wire_chat);
    (void)state;
    read_model(&m, all);
    /* Both files name end tokens. */
    assert_int_equal(m.info.n_eos, 3);
    prompt_params(&p, &m, &r, N_PROMPT);
    assert_true(p.sampling.temperature == 0.5f && p.sampling.top_p == 0.75f);
    assert_true(p.sampling.min_p == 0.25f && p.sampling.repetition == 1.5f);
    assert_int_equal(p.sampling.top_k, 7);
    assert_int_equal(p.max_new_tokens, 30);
    /* There is room for 10 more. */
    prompt_params(&p, &m, &r, CONTEXT - 10);
    assert_int_equal(p.max_new_tokens, 10);
}

static void the_request_wins(void **state)
{
    struct served m;
    struct sched_params p;
    struct gen_request r = request(&wire_chat);
    (void)state;
    read_model(&m, all);
    r.temperature_given = r.top_p_given = r.top_k_given = true;
    r.min_p_given = r.repetition_given = true;
    r.params.max_new_tokens = 50;
    prompt_params(&p, &m, &r, N_PROMPT);
    assert_true(p.sampling.temperature == 1 && p.sampling.top_p == 1);
    assert_true(p.sampling.min_p == 0 && p.sampling.repetition == 1);
    assert_int_equal(p.sampling.top_k, 0);
    assert_int_equal(p.max_new_tokens, 50);
}

static void silence_changes_nothing(void **state)
{
    struct served m;
    struct sched_params p;
    struct gen_request r = request(&wire_chat);
    (void)state;
    read_model(&m, "{}");
    prompt_params(&p, &m, &r, N_PROMPT);
    assert_true(p.sampling.temperature == 1 && p.sampling.top_p == 1);
    assert_true(p.sampling.min_p == 0 && p.sampling.repetition == 1);
    assert_int_equal(p.max_new_tokens, CONTEXT - N_PROMPT);
    /* A format with defaults of its own keeps them. */
    read_model(&m, all);
    r = request(&wire_workers_rest);
    prompt_params(&p, &m, &r, N_PROMPT);
    assert_true(p.sampling.temperature == 1 && p.sampling.min_p == 0);
    assert_int_equal(p.max_new_tokens, CONTEXT - N_PROMPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_fills_in),
        cmocka_unit_test(the_request_wins),
        cmocka_unit_test(silence_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
