/* Aim: trained models say what they were trained to say. In f32 their logits are the stored
 * ones of an independent implementation and their greedy answers the same ids; in int8 they
 * stay near that, judged teacher-forced, because one flipped rounding moves everything
 * behind it.
 *
 * Negative space: checkpoints in f32, bf16 and sharded f16, a feed-forward width that is no
 * multiple of 32, two kinds of rope, a prompt of one token and prompts over many blocks, read
 * in pieces of 7. */
#include "tests/golden_rig.h"

/* Where the bound is wide, the stored logits are of f32 norm gains, and the checkpoint's
 * are rounded to 16 bit. */
static const struct golden goldens[] = {
    {"stories260K/hf-f32", "stories260K", "F32", "p09", 0.3, exact},
    {"stories260K/hf-f16-sharded", "stories260K", "F16", "p09", 0.3, 0.02},
    {"stories260K/hf-bf16", "stories260K", "BF16", "p09", 0.3, 0.2},
    {"llama2xs-279K/hf-f32", "llama2xs-279K", "F32", "p09", 0.65, exact},
    {"shakespeare4M-llama3/hf-bf16", "shakespeare4M-llama3", "BF16", "p08", 0.3, exact},
};

static void f32_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(goldens) && have_shared(); i++)
        follow_reference(&goldens[i]);
}

static void int8_stays_near(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(goldens) && have_shared(); i++)
        stay_near(&goldens[i]);
}

/* --- the model that comes with the program --- */

static bool demo_golden(cJSON **list)
{
    char err[256];
    const struct complaint c = {.file = "golden.json", .text = err, .size = sizeof(err)};
    const char *dir = getenv("FIRSTLIGHT_DEMO_GOLDEN");
    dir = dir && *dir ? dir : REPO_DIR "/models/demo";
    if (!file_present(dir, c.file) || !file_present(REPO_DIR "/models/demo", "model.safetensors")) {
        print_message("skipped: the demo model is not there\n");
        return false;
    }
    if (json_load(list, dir, 1 << 22, 1000000, &c))
        fail_msg("%s", err);
    return true;
}

/* The answer ends with its first end token; what is stored behind that is nothing. */
static int32_t ended(const struct model_info *f, const struct prompt *p)
{
    for (int32_t i = p->n_prompt; i < p->n; i++) {
        for (int32_t e = 0; e < f->n_eos; e++) {
            if (p->ids[i] == f->eos[e])
                return i + 1;
        }
    }
    return p->n;
}

/* Greedy from the prompt on; how many tokens are as the training code says. */
static int32_t follow(struct rig *r, const struct prompt *p, const int32_t *table)
{
    float *logits = malloc((size_t)r->info->vocab * sizeof(*logits));
    assert_non_null(logits);
    feed(r, p->ids, 0, p->n_prompt, ROWS, table, logits);
    int32_t i = p->n_prompt;
    while (i < p->n && r->out[0].token == p->ids[i]) {
        const int32_t handed = ~0;
        add(r, &handed, i++, 1, table, PICK_LAST);
        run(r);
    }
    free(logits);
    return i - p->n_prompt;
}

static void the_demo_answers(void **state)
{
    cJSON *list = NULL;
    int32_t table[STRIDE];
    (void)state;
    if (!demo_golden(&list))
        return;
    table_up(table, 0);
    for (int f32 = 1; f32 >= 0; f32--) {
        struct rig *r = rig_open(&(struct setup){
            .path = REPO_DIR "/models/demo", .f32 = f32, .kv = f32 ? KV_F32 : KV_Q8});
        int32_t n = 0;
        int32_t same = 0;
        const cJSON *o;
        cJSON_ArrayForEach(o, list)
        {
            struct prompt p = {.name = json_get(o, "prompt")->valuestring};
            p.n_prompt = read_ids(json_get(o, "ids"), p.ids, 0);
            p.n = read_ids(json_get(o, "output"), p.ids, p.n_prompt);
            p.n = ended(r->info, &p);
            int32_t followed = follow(r, &p, table);
            n++;
            same += followed == p.n - p.n_prompt;
            if (followed < p.n - p.n_prompt)
                print_message("%s: another token at %d of %d: %s\n", f32 ? "f32" : "int8", followed,
                              p.n - p.n_prompt, p.name);
        }
        print_message("demo %s: %d of %d answers the same\n", f32 ? "f32" : "int8", same, n);
        assert_true(f32 ? same == n : same * 10 >= n * 9);
        rig_close(r);
    }
    cJSON_Delete(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_equals_the_reference),
        cmocka_unit_test(int8_stays_near),
        cmocka_unit_test(the_demo_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
