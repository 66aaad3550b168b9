#include "tests/fuzz_tokenizer.h"

/* The first byte chooses one of four vocabularies made once, the next two a trusted range,
 * the rest is text. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SPECIALS                                                                                   \
    "\"added_tokens\":[{\"id\":256,\"content\":\"<s>\",\"special\":true},"                         \
    "{\"id\":271,\"content\":\"<x>\",\"rstrip\":true},{\"id\":272,\"content\":\"\\n\\n\"},"        \
    "{\"id\":273,\"content\":\"word\",\"single_word\":true,\"lstrip\":true}]"

static const char *const around[] = {
    "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
    "{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},"
    "\"added_tokens\":[{\"id\":256,\"content\":\"<s>\",\"special\":true}]",
    "\"normalizer\":{\"type\":\"NFKC\"},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
    "\"\\u2581\",\"prepend_scheme\":\"first\",\"split\":true}," SPECIALS,
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
    "\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},"
    "\"decoder\":{\"type\":\"ByteLevel\"}," SPECIALS,
    "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
    "{\"type\":\"Split\",\"behavior\":\"MergedWithNext\",\"pattern\":{\"Regex\":"
    "\"[\\\\p{Lu}\\\\p{M}]*[\\\\p{Ll}\\\\p{M}]+|\\\\s+(?!\\\\S)|(?=1)\"}},{\"type\":"
    "\"Punctuation\"},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
    "\"decoder\":{\"type\":\"ByteLevel\"}," SPECIALS,
};

enum { VOCABULARIES = ARRAY_LEN(around), HEAD_BYTES = 3 };

static const char blank_pieces[] =
    "\"<s>\":256,\"a\":257,\"b\":258,\"ab\":259,\"aa\":260,\"aaaa\":261,\"\\u2581\":262,"
    "\"\\u2581a\":263,\"<\":264,\"s\":265,\"<s\":266,\"\\u2581\\u2581\":267,\"\\u00e9\":268,"
    "\"\\u00e9\\u00e9\":269,\">\":270";
static const char blank_merges[] = "\"a b\",\"a a\",\"aa aa\",\"\\u2581 a\",\"< s\",\"<s >\","
                                   "\"\\u2581 \\u2581\",\"\\u00e9 \\u00e9\"";

static void put_letter(FILE *f, uint32_t byte)
{
    uint32_t cp = byte;
    for (uint32_t letter = 0x100; byte_of_letter(cp) != (int32_t)byte; letter++)
        cp = letter;
    (void)fprintf(f, "\\u%04x", cp);
}

static struct tokenizer *make(size_t which)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    bool bytes = strstr(around[which], "ByteLevel") != NULL;
    if (!f)
        abort();
    (void)fprintf(f, "{%s,\"model\":{\"byte_fallback\":%s,\"merges\":[%s],\"vocab\":{",
                  around[which], bytes ? "false" : "true",
                  bytes ? "\"a b\",\"a a\",\"aa aa\",\"< s\",\"\\u0120 a\"" : blank_merges);
    for (uint32_t b = 0; b < 256; b++) {
        (void)fprintf(f, "%s\"", b ? "," : "");
        if (bytes)
            put_letter(f, b);
        else
            (void)fprintf(f, "<0x%02X>", b);
        (void)fprintf(f, "\":%u", b);
    }
    (void)fprintf(f, ",%s}}}",
                  bytes ? "\"ab\":257,\"aa\":258,\"aaaa\":259,\"<s\":260,\"\\u0120a\":261"
                        : blank_pieces);
    (void)fclose(f);
    return must_build(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *made[VOCABULARIES];
    if (size < HEAD_BYTES)
        return 0;
    size_t which = data[0] % VOCABULARIES;
    if (!made[which])
        made[which] = make(which);
    const char *text = (const char *)data + HEAD_BYTES;
    size_t n = size - HEAD_BYTES < PIECES_OF_TEXT ? size - HEAD_BYTES : PIECES_OF_TEXT;
    struct text_range range = {data[1], (size_t)data[1] + data[2]};
    bool trusts = range.end <= n && range.begin < range.end;
    bool blank = n >= BLANK_BYTES && memmem(text, n, BLANK, BLANK_BYTES) != NULL;
    check_text(made[which], text, n, trusts ? &range : NULL, which == 0 && !trusts && !blank);
    check_ids(made[which], data, size);
    return 0;
}
