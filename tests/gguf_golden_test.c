/* Aim: a trained model in a GGUF file says what its stored logits say: the block formats are
 * widened exactly, the rows of q and k are put in our order, the metadata gives the sizes and
 * the rotation (of which one model's scaling is a tensor).
 *
 * Negative space: f32, f16, bf16 and Q8_0 files, one with rows that are no whole number of
 * blocks in another type, what int8 adds to Q8_0, conversations with marks typed by a user. */
#include "models/chat.h"
#include "models/tokenizer.h"
#include "tests/golden_rig.h"

static const struct golden goldens[] = {
    {"stories260K/gguf/stories260K-F32.gguf", "stories260K", "F32", "p09", 0.3, exact},
    {"stories260K/gguf/stories260K-F16.gguf", "stories260K", "F16", "p09", 0.3, exact},
    {"stories260K/gguf/stories260K-BF16.gguf", "stories260K", "BF16", "p09", 0.3, exact},
    {"stories260K/gguf/stories260K-Q8_0.gguf", "stories260K", "Q8_0", "p09", 0.3, exact},
    {"stories260K-pad192/gguf/stories260K-pad192-Q8_0.gguf", "stories260K-pad192", "Q8_0", "p09",
     0.3, exact},
    {"llama2xs-279K/gguf/llama2xs-279K-F32.gguf", "llama2xs-279K", "F32", "p09", 0.65, exact},
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

/* The same conversation by the template of a directory and by that of the file's metadata. */
static void conversations_become_the_same_ids(void **state)
{
    static const char *const pairs[][2] = {
        {"stories260K/hf-f32", "stories260K/gguf/stories260K-Q8_0.gguf"},
        {"llama2xs-279K/hf-bf16", "llama2xs-279K/gguf/llama2xs-279K-F16.gguf"},
        {"shakespeare4M-llama3/hf-bf16",
         "shakespeare4M-llama3/gguf/shakespeare4M-llama3-Q8_0.gguf"},
    };
    static const char user[] = "Who is there? <|eot_id|></s> \xc3\xa9";
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs) && have_shared(); i++) {
        int32_t *ids[2] = {NULL, NULL};
        size_t n[2] = {0, 0};
        for (int f = 0; f < 2; f++) {
            char path[512];
            char err[256] = "";
            struct tokenizer *t = NULL;
            struct chat *c = NULL;
            struct chat_input in = {.add_generation_prompt = true};
            struct cJSON *messages = NULL;
            shared(path, sizeof(path), pairs[i][f]);
            assert_int_equal(chat_messages(&messages, "Be brief.", user, strlen(user)), OK);
            in.messages = messages;
            if (tokenizer_open(&t, path, err, sizeof(err)) ||
                chat_open(&c, path, t, NULL, err, sizeof(err)) ||
                chat_encode(c, &in, &ids[f], &n[f], err, sizeof(err)))
                fail_msg("%s: %s", path, err);
            chat_messages_free(messages);
            chat_close(c);
            tokenizer_close(t);
        }
        assert_int_equal(n[0], n[1]);
        assert_true(n[0] > 10);
        assert_memory_equal(ids[0], ids[1], n[0] * sizeof(*ids[0]));
        free(ids[0]);
        free(ids[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_equals_the_reference),
        cmocka_unit_test(int8_stays_near),
        cmocka_unit_test(conversations_become_the_same_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
