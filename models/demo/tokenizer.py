"""Trains the BPE tokenizer with SentencePiece and writes it in both usual forms.

`python3 tokenizer.py [DIR]` writes tokenizer.model and the equivalent tokenizer.json.
"""
import io
import json
import os
import sys

import sentencepiece as spm

import corpus
from model import CONFIG

BOS, EOS, IM_START, IM_END = 1, 2, 3, 4
SEED, LINES = 7, 40000


def lines():
    for system, turns in corpus.samples(SEED, LINES):
        if isinstance(turns, str):
            yield turns
            continue
        for _, text in corpus.messages(system, turns):
            yield text
    yield from ["system", "user", "assistant"] * 1000


def train():
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=lines(), model_writer=model, model_type="bpe",
        vocab_size=CONFIG["vocab_size"], byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        split_digits=True, unk_id=0, bos_id=BOS, eos_id=EOS, pad_id=-1,
        control_symbols=["<|im_start|>", "<|im_end|>"], num_threads=1, minloglevel=1)
    return model.getvalue()


def fast_form(sp):
    """The tokenizer.json of the same vocabulary. A BPE merge is any pair of pieces that makes
    another piece; its rank is that of the piece made, as Hugging Face converts it."""
    pieces = [sp.id_to_piece(i) for i in range(len(sp))]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    normal = [i for i in range(len(sp))
              if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i))]
    plain = {pieces[i] for i in normal}
    merges = []
    for i in sorted(normal, key=lambda i: -sp.get_score(i)):
        cuts = [(pieces[i][:k], pieces[i][k:]) for k in range(1, len(pieces[i]))]
        merges += sorted((c for c in cuts if c[0] in plain and c[1] in plain),
                         key=lambda c: (vocab[c[0]], vocab[c[1]]))
    special = [i for i in range(len(sp)) if sp.is_control(i) or sp.is_unknown(i)]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i], "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True} for i in special],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "<s>", "type_id": 1}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                  "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
                  "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
                  "merges": [f"{a} {b}" for a, b in merges]},
    }


def load(folder):
    return spm.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))


def message(sp, role, text):
    return [IM_START] + sp.encode(f"{role}\n{text}") + [IM_END] + sp.encode("\n")


def prompt(sp, messages):
    """Token ids of the chat template with the generation prompt."""
    ids = [BOS]
    for role, text in messages:
        ids += message(sp, role, text)
    return ids + [IM_START] + sp.encode("assistant\n")


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    data = train()
    with open(os.path.join(folder, "tokenizer.model"), "wb") as f:
        f.write(data)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(fast_form(spm.SentencePieceProcessor(model_proto=data)), f, ensure_ascii=False,
                  indent=1)
        f.write("\n")
