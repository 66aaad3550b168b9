"""Writes a checkpoint of train.py as a Hugging Face directory, weights in BF16.

`python3 export.py CHECKPOINT [--blend CHECKPOINT SHARE] [--out DIR]`

--blend takes the weighted mean with the weights of a second run that started from the first: it
keeps what the short second run unlearns and has most of what it adds.
"""
import argparse
import json
import os
import struct

import torch

import tokenizer
from model import CONFIG

# ChatML.
TEMPLATE = ("{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'"
            " + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def replace(path, data):
    """A server that reads the folder meanwhile sees the old file or the new one."""
    with open(path + ".new", "wb") as f:
        f.write(data)
    os.replace(path + ".new", path)


def as_json(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def safetensors(tensors):
    """8 bytes of header length, a JSON header padded to 8 bytes, then the raw data."""
    header, parts, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        raw = tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape),
                        "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(parts)


def special(content):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--blend", nargs=2, metavar=("CHECKPOINT", "SHARE"))
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = parser.parse_args()
    state = torch.load(args.checkpoint)["model"]
    if args.blend:
        other, share = torch.load(args.blend[0])["model"], float(args.blend[1])
        state = {k: (1 - share) * v + share * other[k] for k, v in state.items()}
    names = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    files = {
        "model.safetensors": safetensors({f"model.{k}": v for k, v in state.items()}),
        "config.json": as_json(CONFIG),
        "generation_config.json": as_json({
            "bos_token_id": tokenizer.BOS, "eos_token_id": [tokenizer.IM_END, tokenizer.EOS],
            "do_sample": True, "temperature": 0.2, "top_p": 0.9}),
        "tokenizer_config.json": as_json({
            "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
            "add_prefix_space": False, "legacy": False, "clean_up_tokenization_spaces": False,
            "model_max_length": CONFIG["max_position_embeddings"], "bos_token": "<s>",
            "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": None,
            "added_tokens_decoder": {str(i): special(n) for i, n in enumerate(names)},
            "chat_template": TEMPLATE}),
        "special_tokens_map.json": as_json({
            "bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>",
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}),
    }
    for name, data in files.items():
        replace(os.path.join(args.out, name), data)


if __name__ == "__main__":
    main()
