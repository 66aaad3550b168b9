#!/usr/bin/env python3
"""Writes tests/corpus/gguf: small GGUF files, right and wrong, that a fuzzer starts from.

    python3 tests/gguf_corpus.py

The files are committed; this says what they are made of. The same script gives the same bytes.
"""
import pathlib
import struct

OUT = pathlib.Path(__file__).resolve().parent / "corpus" / "gguf"
U32, I32, F32, BOOL, STRING, ARRAY, U16 = 4, 5, 6, 7, 8, 9, 2
BLOCKS = {"F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2), "Q4_0": (2, 32, 18),
          "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34),
          "Q2_K": (10, 256, 84), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
          "Q6_K": (14, 256, 210), "IQ4_NL": (20, 32, 18)}


def text(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, value):
    if kind == STRING:
        return text(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U16: "<H"}[kind], value)


def pair(key, kind, value, element=None):
    if kind != ARRAY:
        return text(key) + struct.pack("<I", kind) + scalar(kind, value)
    body = b"".join(scalar(element, v) for v in value)
    return text(key) + struct.pack("<IIQ", ARRAY, element, len(value)) + body


def build(pairs, tensors=(), version=3, alignment=32, data=True):
    infos, offset = b"", 0
    for name, shape, kind in tensors:
        number, values, each = BLOCKS[kind]
        offset = -(-offset // alignment) * alignment
        infos += text(name) + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", number, offset)
        n = 1
        for d in shape:
            n *= d
        offset += n // values * each
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    head += b"".join(pairs) + infos
    if not tensors or not data:
        return head
    return head + bytes(-len(head) % alignment) + bytes(offset)


def letters():
    """GPT-2's alphabet: the character that stands for each byte."""
    plain = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    out, extra = [], 256
    for b in range(256):
        out.append(chr(b) if b in plain else chr(extra))
        extra += b not in plain
    return out


def sizes(arch):
    rows = [("block_count", 1), ("context_length", 64), ("embedding_length", 32),
            ("feed_forward_length", 32), ("attention.head_count", 2),
            ("attention.head_count_kv", 1), ("rope.dimension_count", 16)]
    return ([pair("general.architecture", STRING, arch)]
            + [pair(f"{arch}.{k}", U32, v) for k, v in rows]
            + [pair(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5)])


def spm():
    pieces = ["<unk>", "<s>", "</s>", "<0x41>", "\u2581", "a", "b", "ab", "\u2581a", "<|im_end|>"]
    kinds = [2, 3, 3, 6, 1, 1, 1, 1, 1, 4]
    return [pair("tokenizer.ggml.model", STRING, "llama"),
            pair("tokenizer.ggml.tokens", ARRAY, pieces, STRING),
            pair("tokenizer.ggml.scores", ARRAY, [-float(i) for i in range(10)], F32),
            pair("tokenizer.ggml.token_type", ARRAY, kinds, I32),
            pair("tokenizer.ggml.bos_token_id", U32, 1),
            pair("tokenizer.ggml.eos_token_id", U32, 2),
            pair("tokenizer.ggml.add_bos_token", BOOL, 1),
            pair("tokenizer.ggml.add_space_prefix", BOOL, 0),
            pair("tokenizer.chat_template", STRING, "{{ bos_token }}{{ messages[0].content }}")]


def bpe():
    alphabet = letters()
    pieces = alphabet + ["ab", "\u0120a", "<|eot_id|>"]
    return [pair("tokenizer.ggml.model", STRING, "gpt2"),
            pair("tokenizer.ggml.pre", STRING, "llama-bpe"),
            pair("tokenizer.ggml.tokens", ARRAY, pieces, STRING),
            pair("tokenizer.ggml.token_type", ARRAY, [1] * 258 + [3], I32),
            pair("tokenizer.ggml.merges", ARRAY, ["a b", "\u0120 a"], STRING),
            pair("tokenizer.ggml.bos_token_id", U32, 0),
            pair("tokenizer.ggml.eot_token_id", U32, 258)]


def model():
    names = [("attn_norm", [32]), ("attn_q", [32, 32]), ("attn_k", [32, 16]), ("attn_v", [32, 16]),
             ("attn_output", [32, 32]), ("ffn_norm", [32]), ("ffn_gate", [32, 32]),
             ("ffn_up", [32, 32]), ("ffn_down", [32, 32])]
    tensors = [("token_embd.weight", [32, 10], "Q4_0")]
    tensors += [(f"blk.0.{n}.weight", s, "Q4_0" if len(s) > 1 else "F32") for n, s in names]
    return tensors + [("output_norm.weight", [32], "F32"), ("rope_freqs.weight", [8], "F32")]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    yarn = [pair("llama.rope.scaling.type", STRING, "yarn"),
            pair("llama.rope.scaling.factor", F32, 4.0),
            pair("llama.rope.scaling.original_context_length", U32, 16)]
    split = [pair("split.no", U16, 0), pair("split.count", U16, 2),
             pair("split.tensors.count", I32, 12)]
    kinds = [(f"t{i}", [256, 1], k) for i, k in enumerate(BLOCKS)]
    whole = build(sizes("llama") + spm(), model())
    files = {
        "model": whole,
        "cut": whole[:-1],
        "short": whole[:600],
        "version2": build(sizes("llama") + spm(), version=2),
        "version1": build(sizes("llama"), version=1),
        "qwen2": build(sizes("qwen2") + bpe()),
        "kinds": build([pair("general.alignment", U32, 8)], kinds, alignment=8),
        "unaligned": build([pair("general.alignment", U32, 24)], kinds[:1], alignment=24),
        "yarn": build(sizes("llama") + yarn),
        "split": build(sizes("llama") + split, model()[:2]),
        "twice": build(sizes("llama") + sizes("llama")),
        "nested": build([text("a") + struct.pack("<IIQ", ARRAY, ARRAY, 1)
                         + struct.pack("<IQ", U32, 0)]),
        "huge_count": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
        "huge_text": build([text("a") + struct.pack("<IQ", STRING, 2**64 - 1)]),
        "huge_array": build([text("a") + struct.pack("<IIQ", ARRAY, F32, 2**62 + 1)]),
        "huge_shape": build([], [("a", [2**40, 2**40], "F32")], data=False),
        "empty_key": build([pair("", U32, 1)]),
        "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "bare": build([]),
    }
    for name, raw in files.items():
        (OUT / name).write_bytes(raw)


if __name__ == "__main__":
    main()
