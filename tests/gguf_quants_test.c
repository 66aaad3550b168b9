/* Aim: a trained model quantized to every block type still says nearly what it said, and int8
 * rows made of those blocks add little to that. The figures are printed; models/NOTES.md has
 * them in a table.
 *
 * Negative space: rows of 256 and 768 values, a tied head, rows of q and k in the order of
 * GGUF, frequencies scaled by a tensor of divisors. Wording is not judged: at this size four
 * bits are coarse. */
#include "tests/gguf_twin.h"
#include "tests/golden_rig.h"

static const char source_model[] = "shakespeare4M-llama3/hf-bf16";
static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    tiny_dir(folder);
    return 0;
}

static int remove_folder(void **state)
{
    char path[128];
    (void)state;
    snprintf(path, sizeof(path), "%s/x.gguf", folder);
    (void)unlink(path);
    return rmdir(folder);
}

/* Mean KL of one model to another over the answer to the first prompt. */
static double divergence_of(struct rig *ref, struct rig *r, const cJSON *list)
{
    const struct golden g = {.model = "", .quant = "", .noise = 1e9};
    struct judged j = {.n = 0};
    const cJSON *o;
    int left = 1;
    cJSON_ArrayForEach(o, list)
    {
        struct prompt *p = calloc(1, sizeof(*p));
        assert_non_null(p);
        read_prompt(p, o);
        if (left-- > 0)
            judge(ref, r, &g, p, &j);
        free(p);
    }
    return j.divergence / j.n;
}

/* What each type may lose and what int8 may add: four times what was measured. */
static const struct {
    const char *type;
    double lost;
    double added;
} bounds[] = {
    {"Q8_0", 0.001, 0.004}, {"Q6_K", 0.004, 0.004}, {"Q5_K", 0.02, 0.004}, {"Q5_1", 0.02, 0.004},
    {"Q5_0", 0.03, 0.004},  {"Q4_K", 0.08, 0.004},  {"Q4_1", 0.1, 0.004},  {"Q4_0", 0.15, 0.004},
};

static void little_is_lost(void **state)
{
    char from[512];
    char path[128];
    (void)state;
    if (!have_shared())
        return;
    shared(from, sizeof(from), source_model);
    snprintf(path, sizeof(path), "%s/x.gguf", folder);
    const struct golden g = {.folder = "shakespeare4M-llama3", .quant = "BF16"};
    cJSON *list = greedy_load(&g);
    struct rig *whole = rig_open(&(struct setup){.path = from, .f32 = true, .kv = KV_F32});
    print_message("type  weights: stored, int8 adds   KL: stored, int8 adds\n");
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        struct errors e = {.power = 0};
        save_twin(path, from, quant_named(bounds[i].type), &e);
        struct rig *f32 = rig_open(&(struct setup){.path = path, .f32 = true, .kv = KV_F32});
        struct rig *int8 = rig_open(&(struct setup){.path = path});
        double lost = divergence_of(whole, f32, list);
        double added = divergence_of(f32, int8, list);
        print_message("%s   %.4f %.4f   %.5f %.5f\n", bounds[i].type, sqrt(e.stored / e.power),
                      sqrt(e.added / e.power), lost, added);
        assert_true(lost < bounds[i].lost && added < bounds[i].added);
        rig_close(int8);
        rig_close(f32);
    }
    rig_close(whole);
    cJSON_Delete(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_is_lost),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
