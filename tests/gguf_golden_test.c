/* Aim: a trained model in a GGUF file says what its stored logits say: the block formats are
 * widened exactly, the rows of q and k are put in our order, the metadata gives the sizes and
 * the rotation (of which one model's scaling is a tensor).
 *
 * Negative space: f32, f16, bf16 and Q8_0 files, one with rows that are no whole number of
 * blocks in another type, and what int8 adds to Q8_0. */
#include "tests/golden_rig.h"

static const struct golden goldens[] = {
    {"stories260K/gguf/stories260K-F32.gguf", "stories260K", "F32", "p09", 0.3, exact},
    {"stories260K/gguf/stories260K-F16.gguf", "stories260K", "F16", "p09", 0.3, exact},
    {"stories260K/gguf/stories260K-BF16.gguf", "stories260K", "BF16", "p09", 0.3, exact},
    {"stories260K/gguf/stories260K-Q8_0.gguf", "stories260K", "Q8_0", "p09", 0.3, exact},
    {"stories260K-pad192/gguf/stories260K-pad192-F16.gguf", "stories260K", "F16", "p09", 0.3,
     exact},
    {"stories260K-pad192/gguf/stories260K-pad192-Q8_0.gguf", "stories260K-pad192", "Q8_0", "p09",
     0.3, exact},
    {"llama2xs-279K/gguf/llama2xs-279K-F32.gguf", "llama2xs-279K", "F32", "p09", 0.65, exact},
    {"llama2xs-279K/gguf/llama2xs-279K-F16.gguf", "llama2xs-279K", "F16", "p09", 0.65, exact},
    {"llama2xs-279K/gguf/llama2xs-279K-Q8_0.gguf", "llama2xs-279K", "Q8_0", "p09", 0.65, exact},
    {"shakespeare4M-llama3/gguf/shakespeare4M-llama3-BF16.gguf", "shakespeare4M-llama3", "BF16",
     "p08", 0.3, exact},
    {"shakespeare4M-llama3/gguf/shakespeare4M-llama3-Q8_0.gguf", "shakespeare4M-llama3", "Q8_0",
     "p08", 0.3, exact},
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
    for (size_t i = 0; i < ARRAY_LEN(goldens) && have_shared(); i++) {
        if (strcmp(goldens[i].quant, "Q8_0") == 0)
            stay_near(&goldens[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_equals_the_reference),
        cmocka_unit_test(int8_stays_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
