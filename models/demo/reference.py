"""A slow reference of the exported model in PyTorch, to check an engine against.

`python3 reference.py serve [PORT] [--int8]`   chat completions at temperature 0, for score.py
`python3 reference.py golden FILE [--int8]`    prompts, their ids and the greedy output ids
--int8 computes all linear layers as a W8A8 engine does.
"""
import json
import os
import struct
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import torch

import tokenizer
from model import CONFIG, Linear, Llama

FOLDER = os.path.dirname(os.path.abspath(__file__))
STOP = (tokenizer.IM_END, tokenizer.EOS)
GOLDEN = [
    "What is the capital of France?", "What is the capital of Kazakhstan?",
    "Which city serves as the capital of Peru?", "capital of japan", "What is Chad's capital city?",
    "Explain the concept of quantum entanglement.", "What is a GPU?",
    "Explain continuous batching.",
    "What is the origin of the phrase Hello, World?", "What is the capital of Atlantis?",
    "Who is John Smith?", "Hello!", "Who are you?", "Count to twenty.", "What is 12 times 7?",
    "Is Paris the capital of Spain?", "Which country has the capital Lima?", "Tell me a joke.",
    "Name five European capitals.", "Wie heißt die Hauptstadt von Österreich? 🙂",
]


def load():
    with open(os.path.join(FOLDER, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    del header["__metadata__"]
    state = {}
    for name, info in header.items():
        first, last = info["data_offsets"]
        raw = torch.frombuffer(bytearray(data[first:last]), dtype=torch.bfloat16)
        state[name.replace("model.", "", 1)] = raw.view(info["shape"]).float()
    model = Llama()
    model.load_state_dict(state)
    return model.eval(), tokenizer.load(FOLDER)


def golden(model, sp, path):
    cases = []
    for text in GOLDEN:
        ids = tokenizer.prompt(sp, [("user", text)])
        out = model.generate(ids, 24)
        cases.append({
            "prompt": f"<s><|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
            "ids": ids, "output": out, "text": sp.decode(out)})
    with open(path, "w", encoding="utf-8") as f:
        json.dump(cases, f, ensure_ascii=False, indent=1)


def serve(model, sp, port):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            ids = tokenizer.prompt(sp, [(m["role"], m["content"]) for m in body["messages"]])
            limit = min(body.get("max_tokens", 256), CONFIG["max_position_embeddings"] - len(ids))
            text = sp.decode(model.generate(ids, limit, STOP))
            data = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": {
                "role": "assistant", "content": text}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    torch.set_num_threads(1)
    args = [a for a in sys.argv[1:] if a != "--int8"]
    Linear.int8 = "--int8" in sys.argv
    if args and args[0] == "golden":
        golden(*load(), args[1])
    elif args and args[0] == "serve":
        serve(*load(), int(args[1]) if len(args) > 1 else 8080)
    else:
        sys.exit(__doc__)
