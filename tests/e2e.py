#!/usr/bin/env python3
"""The real program on loopback with the demo model.

Aim: what a user does works, and what a careless or hostile one does leaves the server usable:
every case ends with the same process answering, and the process ends with status 0 (under a
sanitizer: without a leak). Negative space: no timing is asserted beyond generous bounds, and no
answer's wording except where temperature 0 and the training make it certain.

    tests/e2e.py --binary build/cpu/firstlight [--only NAME]
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import gguf_corpus

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "models" / "demo"
ALIAS = "@cf/meta/llama-2-7b-chat-int8"
READY_S = 60
FRANCE = {"messages": [{"role": "user", "content": "What is the capital of France?"}],
          "temperature": 0}
COUNT = {"messages": [{"role": "user", "content": "Count to one hundred."}], "temperature": 0}

CASES = []


def case(function):
    CASES.append(function)
    return function


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, binary, *arguments):
        self.port = free_port()
        self.log = tempfile.TemporaryFile("a+")  # both ends share one place in it
        self.process = subprocess.Popen([binary, "serve", "--port", str(self.port), *arguments],
                                        stdout=self.log, stderr=self.log, text=True)
        deadline = time.monotonic() + READY_S
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended at start: {self.said()}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"not ready after {READY_S} s: {self.said()}")
            time.sleep(0.02)

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path, headers=None):
        c = self.connect()
        c.request("GET", path, headers=headers or {})
        r = c.getresponse()
        body = r.read()
        c.close()
        return r.status, body, r

    def post(self, path, body, headers=None, connection=None):
        c = connection or self.connect()
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        c.request("POST", path, data, headers or {"Content-Type": "application/json"})
        r = c.getresponse()
        out = r.read()
        if not connection:
            c.close()
        return r.status, out, r

    def chat(self, body):
        status, out, _ = self.post("/v1/chat/completions", body)
        assert status == 200, (status, out)
        return json.loads(out)

    def metric(self, name):
        for line in self.get("/metrics")[1].decode().split("\n"):
            if line.startswith(name) and line[len(name):len(name) + 1] in "{ ":
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {name}")

    def until(self, what, test, seconds=10):
        deadline = time.monotonic() + seconds
        while not test():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
            time.sleep(0.02)

    def stop(self, signal_number=signal.SIGTERM, seconds=60):
        self.process.send_signal(signal_number)
        self.process.wait(seconds)
        assert self.process.returncode == 0, (self.process.returncode, self.said())


def events(raw):
    """The data of each SSE event; the form is part of the contract."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    assert text.endswith("\n\n") and "\r" not in text, repr(text[-40:])
    out = []
    for event in text[:-2].split("\n\n"):
        if event.startswith(":"):
            continue
        assert event.startswith("data: ") and "\n" not in event, repr(event)
        out.append(event[6:])
    assert out[-1] == "[DONE]", out[-1]
    return [json.loads(e) for e in out[:-1]]


def chat_text(chunks):
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


# ---- answers ---------------------------------------------------------------------------------

@case
def chat_whole(s):
    a = s.chat(FRANCE)
    assert a["object"] == "chat.completion" and a["id"].startswith("chatcmpl-"), a
    choice = a["choices"][0]
    assert choice["message"]["role"] == "assistant" and choice["finish_reason"] == "stop", a
    assert "Paris" in choice["message"]["content"], a
    u = a["usage"]
    assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] > 0, a


@case
def chat_streamed_equals_whole(s):
    whole = s.chat(COUNT | {"max_tokens": 150})
    status, raw, r = s.post("/v1/chat/completions", COUNT | {
        "max_tokens": 150, "stream": True, "stream_options": {"include_usage": True}})
    assert status == 200 and r.getheader("Content-Type").startswith("text/event-stream")
    chunks = events(raw)
    assert chat_text(chunks) == whole["choices"][0]["message"]["content"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"], chunks[-1]
    assert len({c["id"] for c in chunks}) == 1
    assert len(chunks) > 5, "a long answer must arrive in pieces"


@case
def completions_whole_and_streamed(s):
    body = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
    status, raw, _ = s.post("/v1/completions", body)
    whole = json.loads(raw)
    assert status == 200 and whole["object"] == "text_completion", raw
    assert "Paris" in whole["choices"][0]["text"], whole
    _, raw, _ = s.post("/v1/completions", body | {"stream": True})
    text = "".join(c["choices"][0]["text"] for c in events(raw) if c["choices"])
    assert text == whole["choices"][0]["text"], (text, whole)
    for stream in (False, True):
        _, raw, _ = s.post("/v1/completions", body | {"stream": stream, "echo": True})
        parts = events(raw) if stream else [json.loads(raw)]
        echoed = "".join(c["choices"][0]["text"] for c in parts if c["choices"])
        assert echoed == body["prompt"] + text, (stream, echoed)


@case
def workers_rest(s):
    path = f"/client/v4/accounts/0123456789abcdef/ai/run/{ALIAS}"
    body = {"prompt": "What is the capital of Spain?", "temperature": 0}
    for spelling in (path, path.replace(f"/{ALIAS}", "/@cf%2Fmeta%2Fllama-2-7b-chat-int8"),
                     path.replace(f"/{ALIAS}", "/%40cf%2Fmeta%2Fllama-2-7b-chat-int8")):
        status, raw, r = s.post(spelling, body, {"Content-Type":
                                                 "application/x-www-form-urlencoded"})
        a = json.loads(raw)
        assert status == 200 and list(a) == ["result", "success", "errors", "messages"], raw
        assert "Madrid" in a["result"]["response"] and a["success"] is True, raw
        assert r.getheader("cf-ai-req-id"), "a request id"
    status, raw, r = s.post(path, body | {"stream": True})
    assert r.getheader("Content-Type") == "text/event-stream", r.getheader("Content-Type")
    chunks = events(raw)
    assert all(isinstance(c["response"], str) for c in chunks)
    assert "".join(c["response"] for c in chunks) == a["result"]["response"]
    assert chunks[-1]["response"] == "" and chunks[-1]["usage"] == a["result"]["usage"], chunks


@case
def workers_binding(s):
    headers = {"cf-consn-model-id": ALIAS, "Content-Type": "application/json"}
    inputs = {"messages": FRANCE["messages"], "temperature": 0}
    status, raw, r = s.post("/run?version=3", {"inputs": inputs, "options": {}}, headers)
    a = json.loads(raw)
    assert status == 200 and r.getheader("Content-Type") == "application/json", r.getheaders()
    assert "Paris" in a["response"] and "result" not in a, a
    _, raw, _ = s.post("/run?version=3", {"inputs": inputs | {"stream": True}, "options": {}},
                       headers)
    assert "".join(c["response"] for c in events(raw)) == a["response"]
    status, raw, _ = s.post("/run?version=3", {"inputs": inputs},
                            {"cf-consn-model-id": "@cf/none/such"})
    a = json.loads(raw)
    assert status == 400 and a["internalCode"] == 5007 and a["name"] and a["description"], a


@case
def same_answer_in_any_company(s):
    """32 concurrent streams, sampled and greedy, long and short, against each one alone."""
    questions = ["What is the capital of Japan?", "Explain the concept of quantum entanglement.",
                 "Count to one hundred.", "What is a cache?", "Who are you?",
                 "Name five European capitals.", "What is HTTP streaming?", "Hello!"]
    bodies = [{"messages": [{"role": "user", "content": questions[i % len(questions)]}],
               "temperature": 0 if i % 2 else 0.9, "seed": 1000 + i, "max_tokens": 20 + 5 * i,
               "stream": True} for i in range(32)]

    def ask(body):
        status, raw, _ = s.post("/v1/chat/completions", body)
        assert status == 200, raw
        return chat_text(events(raw))

    alone = [ask(b) for b in bodies]
    assert len(set(alone)) > 8, "the cases must differ from each other"
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, bodies))
    for i, (a, b) in enumerate(zip(alone, together)):
        assert a == b, f"request {i}: alone {a!r}, in company {b!r}"


@case
def stop_strings(s):
    whole = s.chat(COUNT | {"max_tokens": 60})["choices"][0]["message"]["content"]
    stop = whole[20:26]
    a = s.chat(COUNT | {"max_tokens": 60, "stop": [stop]})["choices"][0]
    assert a["message"]["content"] == whole[:whole.index(stop)], (a, stop)
    assert a["finish_reason"] == "stop"
    _, raw, _ = s.post("/v1/chat/completions",
                       COUNT | {"max_tokens": 60, "stop": stop, "stream": True})
    assert chat_text(events(raw)) == whole[:whole.index(stop)]


@case
def sampling_is_repeatable(s):
    body = {"messages": [{"role": "user", "content": "Tell me about computers."}],
            "temperature": 1.5, "seed": 42, "max_tokens": 40}
    texts = {s.chat(body)["choices"][0]["message"]["content"] for _ in range(3)}
    assert len(texts) == 1, texts
    others = {s.chat(body | {"seed": i})["choices"][0]["message"]["content"] for i in range(8)}
    assert len(others) > 1, "other seeds, other texts"


@case
def prefix_cache_is_used_and_changes_nothing(s):
    system = "You are a helpful assistant. " * 12
    body = {"messages": [{"role": "system", "content": system}, *FRANCE["messages"]],
            "temperature": 0, "max_tokens": 20}
    first, second = s.chat(body), s.chat(body)
    assert first["choices"] == second["choices"]
    assert s.metric("vllm:prefix_cache_hits_total") > 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, second["usage"]


# ---- wrong input: the error object of the contract, and the connection goes on -----------------

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
REST = f"/client/v4/accounts/a/ai/run/{ALIAS}"
WRONG = [
    (CHAT, b"{", 400, "error"),
    (CHAT, b"", 400, "error"),
    (CHAT, b"[1]", 400, "error"),
    (CHAT, b'{"messages":[{"role":"user","content":"\xff"}]}', 400, "error"),
    (CHAT, {"messages": []}, 400, "error"),
    (CHAT, {"messages": "hello"}, 400, "error"),
    (CHAT, FRANCE | {"temperature": "hot"}, 400, "error"),
    (CHAT, FRANCE | {"temperature": -1}, 400, "error"),
    (CHAT, FRANCE | {"max_tokens": 0}, 400, "error"),
    (CHAT, FRANCE | {"max_tokens": 1.5}, 400, "error"),
    (CHAT, FRANCE | {"n": 100}, 400, "error"),
    (CHAT, FRANCE | {"model": "gpt-none"}, 404, "error"),
    (CHAT, {"messages": [{"role": "user", "content": "word " * 5000}]}, 400, "error"),
    (TEXT, {"max_tokens": 3}, 400, "error"),
    (TEXT, {"prompt": 7}, 400, "error"),
    (TEXT, {"prompt": "a", "logit_bias": {"99999999": 1}}, 400, "error"),
    ("/v1/nothing", {}, 404, "error"),
    (REST, b"{", 400, "errors"),
    (REST, {}, 400, "errors"),
    (REST, {"prompt": "a", "messages": []}, 400, "errors"),
    (REST, {"prompt": "a", "top_k": 51}, 400, "errors"),
    (REST, {"prompt": "a", "temperature": 6}, 400, "errors"),
    ("/client/v4/accounts/a/ai/run/@cf/none/such", {"prompt": "a"}, 400, "errors"),
    ("/run?version=3", {"inputs": {}}, 400, "internalCode"),
]


@case
def wrong_input(s):
    for path, body, expected, key in WRONG:
        c = s.connect()
        headers = {"Content-Type": "application/json"}
        if path.startswith("/run"):
            headers["cf-consn-model-id"] = ALIAS
        status, raw, r = s.post(path, body, headers, c)
        shown = (path, str(body)[:80], status, raw[:300])
        assert status == expected, shown
        assert key in json.loads(raw), shown
        assert r.getheader("Content-Type").startswith("application/json"), shown
        status, raw, _ = s.post(CHAT, FRANCE | {"max_tokens": 3}, None, c)
        assert status == 200, (shown, "then the same connection", status, raw)
        c.close()


@case
def wrong_method(s):
    for method, path in (("GET", CHAT), ("DELETE", "/v1/models"), ("POST", "/health")):
        c = s.connect()
        c.request(method, path)
        r = c.getresponse()
        r.read()
        assert r.status == 405 and r.getheader("Allow"), (method, path, r.status)
        c.close()


@case
def error_codes_of_openai(s):
    _, raw, _ = s.post(CHAT, {"messages": [{"role": "user", "content": "word " * 5000}]})
    error = json.loads(raw)["error"]
    assert error["code"] == "context_length_exceeded" and error["param"] == "messages", raw
    _, raw, _ = s.post(CHAT, {"messages": [{"role": "user", "content": "a " * 5000}]})
    assert " tokens, but the context of the model is " in json.loads(raw)["error"]["message"], raw
    _, raw, _ = s.post(CHAT, FRANCE | {"logit_bias": {"99999999": 1}})
    assert json.loads(raw)["error"]["param"] == "logit_bias", raw
    _, raw, _ = s.post(CHAT, FRANCE | {"model": "gpt-none"})
    assert json.loads(raw)["error"]["code"] == "model_not_found", raw
    _, raw, _ = s.post(CHAT, FRANCE | {"top_p": 7})
    assert json.loads(raw)["error"]["param"] == "top_p", raw


@case
def hostile_heads(s):
    for head in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                 b"GET /\r\n\r\n", b"GET / HTTP/1.1\nHost: a\n\n", b"\x16\x03\x01\x02\x00\x01",
                 b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40000 + b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", s.port), 10) as c:
            c.sendall(head)
            c.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := c.recv(65536):
                answer += piece
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), (head[:60], answer[:80])
            assert b"200 OK" not in answer
    assert s.get("/health")[0] == 200


# ---- more of OpenAI's API, and its neighbours ----------------------------------------------------

@case
def several_answers(s):
    """n, lists of prompts, and streams of both: every choice is what it would be alone."""
    body = {"prompt": "The capital of", "max_tokens": 12, "temperature": 1.2, "seed": 11}
    alone = []
    for i in range(3):
        _, raw, _ = s.post(TEXT, body | {"seed": 11 + i})
        alone.append(json.loads(raw)["choices"][0]["text"])
    _, raw, _ = s.post(TEXT, body | {"n": 3})
    a = json.loads(raw)
    assert [c["index"] for c in a["choices"]] == [0, 1, 2], a
    assert [c["text"] for c in a["choices"]] == alone, (a, alone)
    two = body | {"prompt": ["The capital of", "Count to"], "n": 2, "temperature": 0,
                  "stream_options": {"include_usage": True}}
    _, raw, _ = s.post(TEXT, two)
    whole = json.loads(raw)
    _, raw, _ = s.post(TEXT, two | {"stream": True})
    texts, ends = [""] * 4, [None] * 4
    for chunk in events(raw):
        for c in chunk["choices"]:
            texts[c["index"]] += c["text"]
            ends[c["index"]] = c["finish_reason"] or ends[c["index"]]
        usage = chunk["usage"]
    assert texts == [c["text"] for c in whole["choices"]], (texts, whole)
    assert ends == [c["finish_reason"] for c in whole["choices"]] and usage == whole["usage"]
    assert texts[0] == texts[1] and texts[2] == texts[3] and texts[0] != texts[2], texts
    status, raw, _ = s.post(CHAT, FRANCE | {"n": 2, "stream": True})
    roles = [c["index"] for e in events(raw) for c in e["choices"] if "role" in c["delta"]]
    assert status == 200 and sorted(roles) == [0, 1], raw


@case
def more_answers_than_places(s):
    """What no waiting can help is refused for good; what can be served still is."""
    own = Server(s.process.args[0], "--max-seqs", "2", "--max-queue", "2")
    status, raw, r = own.post(TEXT, {"prompt": "a", "n": 5, "max_tokens": 2})
    assert status == 400 and json.loads(raw)["error"]["param"] == "n", (status, raw)
    status, raw, _ = own.post(TEXT, {"prompt": "a", "n": 4, "max_tokens": 2})
    assert status == 200 and len(json.loads(raw)["choices"]) == 4, (status, raw)
    own.stop()


@case
def token_ids_in_and_out(s):
    text = "The capital of France is"
    _, raw, _ = s.post("/tokenize", {"prompt": text, "return_token_strs": True})
    t = json.loads(raw)
    assert t["count"] == len(t["tokens"]) == len(t["token_strs"]) and t["max_model_len"] > 0, t
    _, raw, _ = s.post("/v1/detokenize", {"tokens": t["tokens"]})
    assert json.loads(raw) == {"prompt": text}, raw
    body = {"max_tokens": 6, "temperature": 0, "return_token_ids": True}
    _, raw, _ = s.post(TEXT, body | {"prompt": text})
    by_text = json.loads(raw)["choices"][0]
    _, raw, _ = s.post(TEXT, body | {"prompt": t["tokens"]})
    by_ids = json.loads(raw)["choices"][0]
    assert by_text == by_ids and by_ids["prompt_token_ids"] == t["tokens"], (by_text, by_ids)
    _, raw, _ = s.post("/detokenize", {"tokens": t["tokens"] + by_ids["token_ids"]})
    assert json.loads(raw)["prompt"] == text + by_ids["text"], raw
    _, raw, _ = s.post("/tokenize", {"messages": FRANCE["messages"]})
    chat = s.chat(FRANCE | {"max_tokens": 1})
    assert json.loads(raw)["count"] == chat["usage"]["prompt_tokens"], raw


@case
def logprobs_of_prompt_and_answer(s):
    """What an evaluation harness sends: ids in, echoed, with the likelihood of every one."""
    _, raw, _ = s.post("/tokenize", {"prompt": "The capital of France is Paris"})
    ids = json.loads(raw)["tokens"]
    body = {"prompt": [ids], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0,
            "seed": 1234}
    _, raw, _ = s.post(TEXT, body)
    l = json.loads(raw)["choices"][0]["logprobs"]
    assert len(l["tokens"]) == len(ids) + 1 and l["token_logprobs"][0] is None, l
    assert l["top_logprobs"][0] is None and all(x <= 0 for x in l["token_logprobs"][1:]), l
    _, raw, _ = s.post(TEXT, body | {"max_tokens": 0})
    only = json.loads(raw)["choices"][0]
    assert only["logprobs"]["token_logprobs"] == l["token_logprobs"][:-1], (only, l)
    assert only["text"] == "The capital of France is Paris", only
    _, raw, _ = s.post(TEXT, {"prompt": ids, "max_tokens": 1, "prompt_logprobs": 2})
    p = json.loads(raw)["choices"][0]["prompt_logprobs"]
    assert p[0] is None and [str(i) in e for i, e in zip(ids[1:], p[1:])] == [True] * (len(ids) - 1)
    assert [round(e[str(i)]["logprob"], 4) for i, e in zip(ids[1:], p[1:])] == \
        [round(x, 4) for x in only["logprobs"]["token_logprobs"][1:]]
    _, raw, _ = s.post(TEXT, {"prompt": "The", "max_tokens": 3, "logprobs": 0,
                              "return_tokens_as_token_ids": True})
    assert json.loads(raw)["choices"][0]["logprobs"]["tokens"][0].startswith("token_id:"), raw


@case
def ways_to_end(s):
    base = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 12}
    _, raw, _ = s.post(TEXT, base | {"return_token_ids": True})
    whole = json.loads(raw)["choices"][0]
    stop = whole["token_ids"][1]
    _, raw, _ = s.post(TEXT, base | {"stop_token_ids": [stop], "return_token_ids": True})
    c = json.loads(raw)["choices"][0]
    assert c["stop_reason"] == stop and c["finish_reason"] == "stop", c
    assert c["token_ids"] == whole["token_ids"][:1], c
    _, raw, _ = s.post(TEXT, base | {"stop": ["ar"], "include_stop_str_in_output": True})
    c = json.loads(raw)["choices"][0]
    assert c["text"].endswith("ar") and c["stop_reason"] == "ar", c
    _, raw, _ = s.post(TEXT, base | {"min_tokens": 10, "max_tokens": 10})
    assert json.loads(raw)["usage"]["completion_tokens"] == 10, raw
    _, raw, _ = s.post(TEXT, base | {"allowed_token_ids": [stop], "max_tokens": 3,
                                     "return_token_ids": True})
    assert json.loads(raw)["choices"][0]["token_ids"] == [stop] * 3, raw
    _, raw, _ = s.post(TEXT, base | {"truncate_prompt_tokens": 2, "max_tokens": 1})
    assert json.loads(raw)["usage"]["prompt_tokens"] == 2, raw
    status, raw, r = s.post(TEXT, base | {"max_tokens": 900, "ignore_eos": True},
                            {"x-request-deadline-ms": "1"})
    assert status == 408 and r.getheader("x-should-retry") == "false", (status, raw)


@case
def continued_message(s):
    whole = s.chat(FRANCE)["choices"][0]["message"]["content"]
    half = whole[:whole.index(" of ")]
    a = s.chat(FRANCE | {"messages": FRANCE["messages"] + [{"role": "assistant", "content": half}],
                         "continue_final_message": True, "add_generation_prompt": False})
    assert half + a["choices"][0]["message"]["content"] == whole, (half, a)


def named_events(raw):
    out = []
    for event in raw.decode()[:-2].split("\n\n"):
        name, data = event.split("\n")
        assert name.startswith("event: ") and data.startswith("data: "), event
        out.append(json.loads(data[6:]))
        assert out[-1]["type"] == name[7:], event
    return out


@case
def anthropic_messages(s):
    body = {"model": "demo", "max_tokens": 40, "temperature": 0, "messages": FRANCE["messages"]}
    head = {"x-api-key": "none", "anthropic-version": "2023-06-01"}
    status, raw, r = s.post("/v1/messages", body, head)
    a = json.loads(raw)
    assert status == 200 and a["type"] == "message" and a["stop_reason"] == "end_turn", raw
    assert "Paris" in a["content"][0]["text"] and r.getheader("request-id"), a
    _, raw, _ = s.post("/v1/messages", body | {"stream": True}, head)
    e = named_events(raw)
    kinds = [x["type"] for x in e if x["type"] != "content_block_delta"]
    assert kinds == ["message_start", "content_block_start", "ping", "content_block_stop",
                     "message_delta", "message_stop"], kinds
    text = "".join(x["delta"]["text"] for x in e if x["type"] == "content_block_delta")
    assert text == a["content"][0]["text"], (text, a)
    used = e[-2]["usage"]
    assert used["input_tokens"] + used["cache_read_input_tokens"] == \
        a["usage"]["input_tokens"] + a["usage"]["cache_read_input_tokens"], (used, a["usage"])
    _, raw, _ = s.post("/v1/messages/count_tokens", {"model": "demo",
                                                     "messages": FRANCE["messages"]})
    assert json.loads(raw)["input_tokens"] == used["input_tokens"] + \
        used["cache_read_input_tokens"], raw
    _, raw, _ = s.post("/v1/messages", body | {"stop_sequences": ["Paris"]}, head)
    a = json.loads(raw)
    assert a["stop_reason"] == "stop_sequence" and a["stop_sequence"] == "Paris", a
    status, raw, _ = s.post("/v1/messages", {"model": "demo", "messages": []})
    assert status == 400 and json.loads(raw)["error"]["type"] == "invalid_request_error", raw
    status, raw, _ = s.post("/v1/messages", body | {"model": "claude"})
    assert status == 404 and json.loads(raw)["error"]["type"] == "not_found_error", raw


@case
def responses(s):
    body = {"model": "demo", "input": FRANCE["messages"][0]["content"], "temperature": 0}
    _, raw, _ = s.post("/v1/responses", body)
    a = json.loads(raw)
    assert a["object"] == "response" and a["status"] == "completed", a
    text = a["output"][0]["content"][0]["text"]
    assert "Paris" in text and a["usage"]["total_tokens"] > 0, a
    _, raw, _ = s.post("/v1/responses", body | {"stream": True, "input": [
        {"role": "user", "content": [{"type": "input_text", "text": body["input"]}]}]})
    e = named_events(raw)
    assert [x["sequence_number"] for x in e] == list(range(len(e))), e
    assert "".join(x["delta"] for x in e if x["type"].endswith("text.delta")) == text, e
    assert e[-1]["type"] == "response.completed" and e[-1]["response"]["output"] == [
        a["output"][0] | {"id": e[-1]["response"]["output"][0]["id"]}], e[-1]
    status, raw, _ = s.post("/v1/responses", body | {"previous_response_id": "resp_1"})
    assert status == 400 and json.loads(raw)["error"]["param"] == "previous_response_id", raw
    status, raw, _ = s.post("/v1/responses", body | {"input": "word " * 5000})
    error = json.loads(raw)["error"]
    assert error["param"] == "input" and error["code"] == "context_length_exceeded", raw


@case
def headers_of_answers(s):
    _, _, r = s.post(CHAT, FRANCE | {"max_tokens": 4}, {
        "X-Request-Id": "mine-7", "endpoint-load-metrics-format": "TEXT"})
    assert r.getheader("X-Request-Id") == "mine-7"
    timing = r.getheader("Server-Timing")
    assert all(f"{name};dur=" in timing for name in ("queue", "prefill", "decode", "total")), timing
    assert r.getheader("endpoint-load-metrics").startswith("TEXT named_metrics."), r.getheaders()
    _, _, r = s.post(CHAT, FRANCE | {"stream": True}, {"X-Request-Id": "b\tc"})
    assert ";dur=" in r.getheader("Server-Timing"), r.getheaders()
    assert r.getheader("X-Request-Id") != "b\tc" and r.getheader("X-Accel-Buffering") == "no"
    status, raw, _ = s.post(CHAT, FRANCE | {"request_id": "abc", "max_tokens": 1})
    assert status == 200 and json.loads(raw)["id"] == "chatcmpl-abc", raw


# ---- service -----------------------------------------------------------------------------------

@case
def models_version_metrics(s):
    models = json.loads(s.get("/v1/models")[1])
    assert models["object"] == "list" and models["data"][0]["object"] == "model", models
    name = models["data"][0]["id"]
    assert json.loads(s.get(f"/v1/models/{name}")[1])["id"] == name
    assert s.chat(FRANCE | {"model": name, "max_tokens": 2})["model"] == name
    assert s.chat(FRANCE | {"model": ALIAS, "max_tokens": 2})["model"] == ALIAS
    assert json.loads(s.get("/version")[1])["version"]
    status, raw, r = s.get("/metrics")
    assert status == 200 and r.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting",
                 "vllm:kv_cache_usage_perc", "vllm:cache_config_info",
                 "vllm:prompt_tokens_total", "vllm:generation_tokens_total",
                 "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total",
                 "vllm:num_preemptions_total", "vllm:request_success_total",
                 "vllm:time_to_first_token_seconds_bucket",
                 "vllm:inter_token_latency_seconds_count",
                 "vllm:e2e_request_latency_seconds_sum"):
        assert name.encode() in raw, name
    lines = raw.decode().split("\n")
    assert lines[-1] == "" and all(line.startswith("#") or " " in line for line in lines[:-1])


@case
def gone_clients_free_their_place(s):
    before = s.metric("vllm:generation_tokens_total")
    sockets = []
    for stream in (True, False) * 4:
        body = json.dumps(COUNT | {"max_tokens": 900, "stream": stream, "ignore_eos": True})
        c = socket.create_connection(("127.0.0.1", s.port))
        c.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                  .encode())
        sockets.append(c)
    s.until("running", lambda: s.metric("vllm:num_requests_running") >= 1)
    for c in sockets:
        c.close()
    s.until("places are free", lambda: s.metric("vllm:num_requests_running") == 0
            and s.metric("vllm:num_requests_waiting") == 0)
    s.until("blocks are free", lambda: s.metric("vllm:kv_cache_usage_perc") == 0)
    made = s.metric("vllm:generation_tokens_total") - before
    assert made < 8 * 900, f"{made} tokens: the answers were computed to their end"


@case
def pipelined_and_split_requests(s):
    one = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", s.port), 10) as c:
        c.sendall(one * 3)
        answer = b""
        while answer.count(b'"version"') < 3:
            piece = c.recv(65536)
            assert piece, answer
            answer += piece
    body = json.dumps(FRANCE | {"max_tokens": 4}).encode()
    with socket.create_connection(("127.0.0.1", s.port), 10) as c:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = (f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                "Connection: close\r\n\r\n").encode()
        for i in range(0, len(head), 7):
            c.sendall(head[i:i + 7])
        for byte in body:
            c.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
        c.sendall(b"0\r\n\r\n")
        answer = b""
        while piece := c.recv(65536):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200") and b"Paris" in answer or b"capital" in answer, \
            answer


# ---- the program -------------------------------------------------------------------------------

def program(binary, *arguments, seconds=60, **extra):
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=seconds,
                          **extra)


@case
def command_line(s):
    binary = s.process.args[0]
    r = program(binary, "--help")
    assert r.returncode == 0 and "serve" in r.stdout and "inspect" in r.stdout, r
    r = program(binary, "serve", "--help")
    assert r.returncode == 0 and "--port" in r.stdout and "8080" in r.stdout, r
    r = program(binary, "--version")
    assert r.returncode == 0 and r.stdout.startswith("firstlight "), r
    r = program(binary, "inspect", str(DEMO))
    assert r.returncode == 0 and "LlamaForCausalLM" in r.stdout and "head_dim" in r.stdout, r
    r = program(binary, "serve", "--plan", "--assume-memory", "80G")
    assert r.returncode == 0 and "cuda" in r.stdout and "keys and values" in r.stdout, r
    r = program(binary, "run", str(DEMO), "What is the capital of Italy?", "--temperature", "0")
    assert r.returncode == 0 and "Rome" in r.stdout and "tokens/s" in r.stderr, r
    for arguments, code in ((["serve", "--prot", "1"], 2), (["serve", "--port", "banana"], 2),
                            (["serve", "--port", "70000"], 2), (["dance"], 2), ([], 2),
                            (["serve", "--model", "/no/such/model", "--port", "0"], 1),
                            (["inspect", "/dev/null"], 1), (["run", str(ROOT), "x"], 1),
                            (["serve", "--port", str(s.port)], 1)):
        r = program(binary, *arguments)
        said = [line for line in r.stderr.split("\n") if line]
        assert r.returncode == code, (arguments, r)
        assert arguments == [] or len(said) == 1 or sum("error" in x for x in said) == 1, \
            (arguments, said)


SHARED = pathlib.Path(os.environ.get("FIRSTLIGHT_SHARED") or ROOT.parent / "shared") / "models"


@case
def every_kind_of_file(s):
    """Directories and GGUF files: inspected, checked to the last byte, and one of each kind
    answers what the reference answered."""
    if not SHARED.exists():
        print("skipped: no shared test data")
        return
    binary = s.process.args[0]
    models = sorted([*SHARED.glob("*/hf-*"), *SHARED.glob("*/gguf/*.gguf")])
    assert len(models) > 10, models
    for model in models:
        r = program(binary, "inspect", "--check", str(model))
        kind = "GGUF v3" if model.is_file() else "safetensors"
        assert r.returncode == 0 and kind in r.stdout and "checked" in r.stdout, (model, r)
    with tempfile.TemporaryDirectory() as folder:
        bad = pathlib.Path(folder) / "cut.gguf"
        bad.write_bytes((SHARED / "stories260K/gguf/stories260K-Q8_0.gguf").read_bytes()[:-1000])
        for arguments in (["inspect", str(bad)], ["inspect", "--check", str(bad)],
                          ["serve", "--port", "0", "--model", str(bad)]):
            r = program(binary, *arguments)
            assert r.returncode == 1 and r.stderr.count("\n") == 1, (arguments, r)
            assert "cut.gguf: " in r.stderr, (arguments, r)
    family = SHARED / "stories260K"
    want = json.loads((family / "golden" / "greedy-F32.json").read_text())
    for model in (family / "hf-f32", family / "gguf" / "stories260K-F32.gguf"):
        own = Server(binary, "--model", str(model), "--weights", "f32", "--kv", "f32")
        served = json.loads(own.get("/v1/models")[1])["data"]
        assert served[0]["id"] == model.name.removesuffix(".gguf"), served
        for row in want[:6]:
            body = {"prompt": row["prompt"], "temperature": 0, "max_tokens": len(row["gen_ids"])}
            status, got, _ = own.post("/v1/completions", body)
            text = json.loads(got)["choices"][0]["text"]
            assert status == 200 and text.strip() == row["gen_text"].strip(), (model, row, text)
        own.stop()


@case
def several_models(s):
    """Three engines in one process: each answers under its names as it would alone."""
    binary = s.process.args[0]
    tensors = [(n, [32, 259] if n == "token_embd.weight" else shape, kind)
               for n, shape, kind in gguf_corpus.model() if n != "rope_freqs.weight"]
    folder = tempfile.TemporaryDirectory()
    tiny = pathlib.Path(folder.name) / "tiny.gguf"
    tiny.write_bytes(gguf_corpus.build(gguf_corpus.sizes("llama") + gguf_corpus.bpe(), tensors))
    own = Server(binary, "--model", f"big={DEMO}", "--model", f"a={tiny}", "--model", f"b={tiny}",
                 "--alias", "gpt-x=a", "--alias", "front", "--stall-s", "5")
    names = [m["id"] for m in json.loads(own.get("/v1/models")[1])["data"]]
    assert sorted(names) == sorted(["big", "front", ALIAS, "a", "gpt-x", "b"]), names
    alone = s.chat(FRANCE)["choices"][0]["message"]["content"]

    def ask(name):
        if name in ("big", "front", ALIAS):
            said = own.chat(FRANCE | {"model": name})
            assert said["choices"][0]["message"]["content"] == alone, said
        else:
            status, out, _ = own.post("/v1/completions", {"model": name, "prompt": "ab",
                                                          "max_tokens": 5, "ignore_eos": True})
            said = json.loads(out)
            assert status == 200 and said["usage"]["completion_tokens"] == 5, said
        assert said["model"] == name, said

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, names * 3))
    status, out, _ = own.post("/v1/completions", {"model": "c", "prompt": "ab"})
    assert status == 404 and json.loads(out)["error"]["code"] == "model_not_found", out
    raw = own.get("/metrics")[1].decode()
    for name, tokens in (("a", 2 * 3 * 5), ("b", 3 * 5)):
        line = f'vllm:generation_tokens_total{{model_name="{name}",engine="0"}} {tokens}\n'
        assert line in raw, line
    assert raw.count("# TYPE vllm:num_requests_running gauge") == 1
    own.stop()
    for arguments in (["--model", f"x={DEMO}", "--model", f"x={tiny}"],
                      ["--model", f"x={DEMO}", "--alias", "y=z"],
                      ["--model", f"x y={DEMO}"],
                      ["--model", f"i={DEMO}", "--served-model-name", "a,b,c,d,e,f,g,h"]):
        r = program(binary, "serve", "--port", "0", *arguments)
        assert r.returncode == 1, (arguments, r)


@case
def one_of_several_models_fails(s):
    """Whatever of it fails, and whenever, the message says which model it is."""
    folder = tempfile.TemporaryDirectory()
    for broken in ("config.json", "tokenizer.json", None):
        copy = pathlib.Path(folder.name) / (broken or "missing")
        if broken:
            shutil.copytree(DEMO, copy)
            (copy / broken).write_text("{")
        for name, argument in (("second", f"second={copy}"), (copy.name, str(copy))):
            r = program(s.process.args[0], "serve", "--port", "0", "--model", f"first={DEMO}",
                        "--model", argument)
            assert r.returncode == 1, (argument, r)
            named = [line for line in r.stderr.split("\n") if " error " in line]
            if broken or name == "second":
                assert len(named) == 1 and f"model {name}: " in named[0], (argument, named)
            assert "model first: " not in r.stderr, (argument, named)


@case
def drain_on_sigterm(s):
    """Its own server: a running stream ends whole, health fails, the process ends with 0."""
    own = Server(s.process.args[0])
    c = own.connect()
    c.request("POST", CHAT, json.dumps(COUNT | {"max_tokens": 300, "stream": True}))
    r = c.getresponse()
    first = r.read(10)
    own.process.send_signal(signal.SIGTERM)
    rest = r.read()
    assert events(first + rest)[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    own.process.wait(60)
    assert own.process.returncode == 0, own.said()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(ROOT / "build/cpu/firstlight"))
    parser.add_argument("--only")
    options = parser.parse_args()
    if not (DEMO / "model.safetensors").exists():
        print("skipped: no demo model in models/demo")
        return 1
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1")
    server = Server(options.binary)
    passed, failed = 0, []
    for function in CASES:
        if options.only and options.only != function.__name__:
            continue
        started = time.monotonic()
        try:
            function(server)
            assert server.process.poll() is None, "the server has ended"
            passed += 1
            print(f"[       OK ] {function.__name__} {time.monotonic() - started:.1f} s",
                  flush=True)
        except Exception:
            failed.append(function.__name__)
            print(f"[ FAILED ] {function.__name__}\n{traceback.format_exc()}", flush=True)
            if server.process.poll() is not None:
                print(server.said())
                server = Server(options.binary)
    try:
        server.stop()
        passed += 1
        print("[       OK ] ends_clean")
    except Exception:
        failed.append("ends_clean")
        print(f"[ FAILED ] ends_clean\n{traceback.format_exc()}")
    print(f"[  PASSED  ] {passed} test(s).")
    if failed:
        print(f"[  FAILED  ] {len(failed)} test(s): {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
