/* Templates by name, for models that come without one of their own. */

#include "models/chat_priv.h"

#include <string.h>

#define GENERATE(text) "{% if add_generation_prompt %}{{ '" text "' }}{% endif %}"

const char chat_plain_lines[] =
    "{{ bos_token }}{% for m in messages %}{{ m.role + ': ' + (m.content or '') + '\n' }}"
    "{% endfor %}" GENERATE("assistant:");

static const char chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') + "
    "'<|im_end|>\n' }}{% endfor %}" GENERATE("<|im_start|>assistant\n");

static const char llama2[] =
    "{% set ns = namespace(system='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.system = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}"
    "{% elif m.role == 'user' %}{{ bos_token + '[INST] ' + (ns.system + m.content).strip() + "
    "' [/INST]' }}{% set ns.system = '' %}"
    "{% else %}{{ ' ' + (m.content or '').strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

static const char llama3[] =
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
    "'<|end_header_id|>\n\n' + (m.content or '').strip() + '<|eot_id|>' }}{% endfor %}" GENERATE(
        "<|start_header_id|>assistant<|end_header_id|>\n\n");

static const char mistral[] =
    "{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}"
    "{% elif m.role == 'user' %}{{ '[INST] ' + ns.system + m.content + ' [/INST]' }}"
    "{% set ns.system = '' %}"
    "{% else %}{{ ' ' + (m.content or '') + eos_token }}{% endif %}{% endfor %}";

/* Llama 2 as Workers AI's package has it: nothing is stripped, and no blank before the mark. */
static const char workers_llama2[] =
    "{% set ns = namespace(before='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ (bos_token if loop.first else '') + '[INST] <<SYS>>\n' + "
    "m.content + '\n<</SYS>>\n\n' }}"
    "{% elif m.role == 'user' %}{{ ('' if ns.before == 'system' else bos_token + '[INST] ') + "
    "m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + (m.content or '') + eos_token }}{% endif %}"
    "{% set ns.before = m.role %}{% endfor %}";

static const char zephyr[] =
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + (m.content or '') + eos_token + '\n' }}"
    "{% endfor %}" GENERATE("<|assistant|>\n");

static const char vicuna[] =
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content + ' ' }}"
    "{% elif m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + (m.content or '') + eos_token }}{% endif %}{% endfor %}" GENERATE(
        "ASSISTANT:");

static const char alpaca[] =
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\n\n' }}"
    "{% elif m.role == 'user' %}{{ '### Instruction:\n' + m.content + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + (m.content or '') + eos_token + '\n\n' }}{% endif %}"
    "{% endfor %}" GENERATE("### Response:\n");

static const struct {
    const char *name;
    const char *text;
} builtins[] = {
    {"alpaca", alpaca}, {"chatml", chatml},   {"llama2", llama2},
    {"llama3", llama3}, {"mistral", mistral}, {"plain", chat_plain_lines},
    {"vicuna", vicuna}, {"zephyr", zephyr},   {"workers-llama2", workers_llama2},
};

const char *chat_builtin(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(builtins); i++) {
        if (strcmp(builtins[i].name, name) == 0)
            return builtins[i].text;
    }
    return NULL;
}
