#include "models/compressed.h"

#include <string.h>

/* Two tables say what each part must be; whatever is there and differs is refused by name,
 * because a scheme that is nearly ours would load and speak nonsense. */

struct demand {
    const char *key;
    const char *text; /* NULL: not a string */
    double number;    /* where text is NULL */
    bool is_bool;     /* number is 0 or 1 */
    bool may_be_absent;
};

static const struct demand weight_demands[] = {
    {.key = "num_bits", .number = 8},
    {.key = "type", .text = "int"},
    {.key = "strategy", .text = "channel"},
    {.key = "symmetric", .number = 1, .is_bool = true, .may_be_absent = true},
    {.key = "dynamic", .number = 0, .is_bool = true, .may_be_absent = true},
};

static const struct demand input_demands[] = {
    {.key = "num_bits", .number = 8},
    {.key = "type", .text = "int"},
    {.key = "strategy", .text = "token"},
    {.key = "symmetric", .number = 1, .is_bool = true, .may_be_absent = true},
    {.key = "dynamic", .number = 1, .is_bool = true},
};

static const char scheme[] = "int8 weights per channel with int8 activations, dynamic per token";
static const char instead[] = "take the checkpoint without quantization, or a GGUF file";

static bool meets(const cJSON *v, const struct demand *d)
{
    if (!v)
        return d->may_be_absent;
    if (d->text)
        return cJSON_IsString(v) && strcmp(v->valuestring, d->text) == 0;
    if (d->is_bool)
        return cJSON_IsBool(v) && cJSON_IsTrue(v) == (d->number > 0);
    int64_t n;
    return json_as_int(v, (int64_t)d->number, (int64_t)d->number, &n);
}

static enum status check(const cJSON *o, const char *part, const struct demand *d, size_t n,
                         const struct complaint *c)
{
    if (!cJSON_IsObject(o))
        return complain(c, E_UNSUPPORTED, "\"quantization_config\" without \"%s\"; known: %s", part,
                        scheme);
    for (size_t i = 0; i < n; i++) {
        if (!meets(json_get(o, d[i].key), &d[i]))
            return complain(c, E_UNSUPPORTED,
                            "\"quantization_config\": another \"%s\" of %s; known: %s", d[i].key,
                            part, scheme);
    }
    return OK;
}

static enum status check_group(const cJSON *g, const struct complaint *c)
{
    if (json_get(g, "output_activations"))
        return complain(c, E_UNSUPPORTED,
                        "\"quantization_config\": \"output_activations\"; known: %s", scheme);
    enum status s =
        check(json_get(g, "weights"), "weights", weight_demands, ARRAY_LEN(weight_demands), c);
    return s ? s
             : check(json_get(g, "input_activations"), "input_activations", input_demands,
                     ARRAY_LEN(input_demands), c);
}

/* Members of the whole that would change what tensors mean. */
static enum status check_rest(const cJSON *q, const struct complaint *c)
{
    static const char *const formats[] = {"int-quantized", "naive-quantized"};
    const char *format = formats[0];
    const char *sparse = "dense";
    enum status s = field_string(q, "format", &format, c);
    const cJSON *sparsity = json_get(q, "sparsity_config");
    if (!s && sparsity)
        s = field_string(sparsity, "format", &sparse, c);
    if (s)
        return s;
    if (strcmp(format, formats[0]) != 0 && strcmp(format, formats[1]) != 0)
        return complain(c, E_UNSUPPORTED, "\"quantization_config\": format \"%.32s\"; known: %s",
                        format, scheme);
    if (strcmp(sparse, "dense") != 0)
        return complain(c, E_UNSUPPORTED, "\"sparsity_config\": format \"%.32s\"", sparse);
    if (json_get(q, "kv_cache_scheme"))
        return complain(c, E_UNSUPPORTED, "\"quantization_config\": \"kv_cache_scheme\"");
    return OK;
}

enum status compressed_read(bool *int8, const cJSON *config, const struct complaint *c)
{
    const cJSON *q = json_get(config, "quantization_config");
    if (!q)
        q = json_get(config, "compression_config"); /* its name in the first files */
    if (!q)
        return OK;
    const char *method = "compressed-tensors";
    enum status s = field_string(q, "quant_method", &method, c);
    if (s)
        return s;
    if (strcmp(method, "compressed-tensors") != 0)
        return complain(c, E_UNSUPPORTED,
                        "\"quantization_config\": method \"%.32s\" is not known; known: "
                        "compressed-tensors, %s; %s",
                        method, scheme, instead);
    s = check_rest(q, c);
    const cJSON *groups = json_get(q, "config_groups");
    if (!s && (!cJSON_IsObject(groups) || !groups->child))
        s = complain(c, E_FORMAT, "\"quantization_config\" needs \"config_groups\"");
    const cJSON *g = groups ? groups->child : NULL;
    for (; g && !s; g = g->next)
        s = check_group(g, c);
    *int8 = s == OK;
    return s;
}

/* As llm-compressor writes it. */
static const char written[] =
    "{\"config_groups\":{\"group_0\":{\"input_activations\":{\"actorder\":null,"
    "\"block_structure\":null,\"dynamic\":true,\"group_size\":null,\"num_bits\":8,"
    "\"observer\":null,\"observer_kwargs\":{},\"strategy\":\"token\",\"symmetric\":true,"
    "\"type\":\"int\"},\"output_activations\":null,\"targets\":[\"Linear\"],\"weights\":{"
    "\"actorder\":null,\"block_structure\":null,\"dynamic\":false,\"group_size\":null,"
    "\"num_bits\":8,\"observer\":\"minmax\",\"observer_kwargs\":{},\"strategy\":\"channel\","
    "\"symmetric\":true,\"type\":\"int\"}}},\"format\":\"int-quantized\","
    "\"global_compression_ratio\":null,\"ignore\":[\"lm_head\"],\"kv_cache_scheme\":null,"
    "\"quant_method\":\"compressed-tensors\",\"quantization_status\":\"compressed\"}";

bool compressed_write(cJSON *config)
{
    cJSON *q = cJSON_Parse(written);
    if (q && cJSON_AddItemToObject(config, "quantization_config", q))
        return true;
    cJSON_Delete(q);
    return false;
}
