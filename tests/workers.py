#!/usr/bin/env python3
"""Workers AI's ways to ask, as its clients put them on the wire.

Aim: every route of Workers AI answers in its own form, whichever way a request comes (REST,
binding, wrangler's proxy, Miniflare's MF-URL), and every refusal has Cloudflare's number and
status; the schema that is served says what the server accepts. Negative space: the answers'
texts, OpenAI's own routes (openapi.py), the clients themselves (clients/).

    tests/workers.py --binary build/cpu/firstlight
"""
import argparse
import json
import socket
import sys
import traceback

import e2e
import openapi

ALIAS = e2e.ALIAS
ACCOUNT = "/client/v4/accounts/0123456789abcdef0123456789abcdef/ai"
REST = f"{ACCOUNT}/run/{ALIAS}"
HI = [{"role": "user", "content": "Hi"}]
RUN = {"cf-consn-model-id": ALIAS, "cf-consn-sdk-version": "2.0.0"}
ASK = {"inputs": {"prompt": "Hi", "max_tokens": 3, "temperature": 0}, "options": {}}
SEARCH = f"{ACCOUNT}/models/search"
UNKNOWN = "@cf/none/such"


def mf(url, **fields):
    return {"MF-URL": url, "MF-Binding": "AI",
            **{"MF-Header-" + k.replace("_", "-"): v for k, v in fields.items()}}


HOST = "https://workers-binding.ai"
PROXY = f"{ACCOUNT}/run/proxy"
FORWARDED = {"X-Forwarded": f"{HOST}/run?version=3", **RUN}
MF_RUN = mf(f"{HOST}/run?version=3", cf_consn_model_id=ALIAS)
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}

# name, method, path, headers, body, status, code (None: an answer), form
FORMS = ("bare", "envelope", "openai", "both")
ROWS = [
    ("binding", "POST", "/run?version=3", RUN, ASK, 200, None, "bare"),
    ("binding, gateway", "POST", "/ai-gateway/run?version=3", RUN, ASK, 200, None, "bare"),
    ("binding, prefix", "POST", "/run?version=3", {"cf-consn-model-id": "x:" + ALIAS}, ASK, 200,
     None, "bare"),
    ("binding, no options", "POST", "/run?version=3", RUN, {"inputs": ASK["inputs"]}, 200, None,
     "bare"),
    ("binding, session", "POST", "/run?version=3", RUN | {"x-session-affinity": "ses_1"}, ASK, 200,
     None, "bare"),
    ("binding, queueRequest", "POST", "/run?version=3", RUN,
     {**ASK, "options": {"queueRequest": True, "tags": ["a"], "returnRawResponse": True}}, 200,
     None, "bare"),
    ("binding, no model", "POST", "/run?version=3", {}, ASK, 400, 3003, "bare"),
    ("binding, unknown model", "POST", "/run?version=3", {"cf-consn-model-id": UNKNOWN}, ASK, 400,
     5007, "bare"),
    ("binding, no inputs", "POST", "/run?version=3", RUN, {}, 400, 5006, "bare"),
    ("binding of 1.1", "POST", "/run?version=2", {"cf-consn-sdk-version": "1.1.0",
     "content-encoding": "application/json"}, ASK, 405, 5019, "bare"),
    ("binding of 1.0", "POST", "/run", {}, "\x1f\x8b", 405, 5019, "bare"),
    ("binding, websocket", "GET", "/run?version=3&body=%7B%7D", UPGRADE, None, 400, 5006, "bare"),
    ("universal gateway", "POST", "/ai-gateway/universal/run/g", {}, [], 404, 7003, "bare"),
    ("gateway's url", "GET", "/ai-gateway/gateways/g/url/openai", {}, None, 404, 7003, "bare"),
    ("toMarkdown", "POST", "/to-everything/markdown/transformer", {}, "x", 404, 7003, "bare"),
    ("proxy", "POST", PROXY, FORWARDED, ASK, 200, None, "bare"),
    ("proxy, gateway", "POST", PROXY, FORWARDED | {
        "X-Forwarded": f"{HOST}/ai-gateway/run?version=3"}, ASK, 200, None, "bare"),
    ("proxy, unknown model", "POST", PROXY, FORWARDED | {"cf-consn-model-id": UNKNOWN}, ASK, 400,
     5007, "bare"),
    ("proxy, nowhere", "POST", PROXY, RUN, ASK, 404, 7003, "envelope"),
    ("proxy to itself", "POST", PROXY, {"X-Forwarded": f"{HOST}{PROXY}"}, ASK, 404, 7003,
     "envelope"),
    ("MF-URL", "POST", "/", MF_RUN, ASK, 200, None, "bare"),
    ("MF-URL, any path", "POST", "/what/ever?x=1", MF_RUN, ASK, 200, None, "bare"),
    ("MF-URL, no model", "POST", "/", mf(f"{HOST}/run?version=3"), ASK, 400, 3003, "bare"),
    ("MF-URL to a proxy", "POST", "/", mf(f"{HOST}{PROXY}"), ASK, 404, 7003, "envelope"),
    ("MF-URL, no URL", "POST", "/", mf("run"), ASK, 404, 7003, "envelope"),
    ("MF-URL, websocket", "GET", "/?MF-Binding=AI", UPGRADE | mf(f"{HOST}/run?version=3"), None,
     400, 5006, "bare"),
    ("REST", "POST", REST, {}, ASK["inputs"], 200, None, "envelope"),
    ("REST, unknown parameters", "POST", REST + "?queueRequest=true&safePrompt=1", {},
     ASK["inputs"], 200, None, "envelope"),
    ("REST, form type", "POST", REST, {"Content-Type": "application/x-www-form-urlencoded"},
     ASK["inputs"], 200, None, "envelope"),
    ("REST, Accept", "POST", REST, {"Accept": "text/html"}, ASK["inputs"], 200, None, "envelope"),
    ("REST, %2F", "POST", f"{ACCOUNT}/run/@cf%2Fmeta%2Fllama-2-7b-chat-int8", {}, ASK["inputs"],
     200, None, "envelope"),
    ("REST, %40", "POST", f"{ACCOUNT}/run/%40cf%2Fmeta%2Fllama-2-7b-chat-int8", {}, ASK["inputs"],
     200, None, "envelope"),
    ("REST, decoded once", "POST", f"{ACCOUNT}/run/%2540cf%2Fmeta%2Fllama-2-7b-chat-int8", {},
     ASK["inputs"], 400, 5007, "envelope"),
    ("REST, broken name", "POST", f"{ACCOUNT}/run/@cf%2", {}, ASK["inputs"], 404, 3042, "envelope"),
    ("REST, long name", "POST", f"{ACCOUNT}/run/{'x' * 300}", {}, ASK["inputs"], 404, 3042,
     "envelope"),
    ("REST, unknown model", "POST", f"{ACCOUNT}/run/{UNKNOWN}", {}, ASK["inputs"], 400, 5007,
     "envelope"),
    ("REST, seed", "POST", REST, {}, ASK["inputs"] | {"seed": 9999999999}, 200, None, "envelope"),
    ("REST, both", "POST", REST, {}, {"prompt": "a", "messages": HI}, 400, 5006, "envelope"),
    ("REST, neither", "POST", REST, {}, {}, 400, 5006, "envelope"),
    ("REST, no JSON", "POST", REST, {}, "prompt=x", 400, 5006, "envelope"),
    ("REST, LoRa", "POST", REST, {}, ASK["inputs"] | {"lora": "x"}, 405, 5005, "envelope"),
    ("REST, too long", "POST", REST, {}, {"prompt": "word " * 5000}, 413, 5021, "envelope"),
    ("REST, wrong method", "PUT", REST, {}, {}, 400, 7000, "envelope"),
    ("REST, no route", "POST", f"{ACCOUNT}/nothing", {}, {}, 404, 7003, "envelope"),
    ("OpenAI", "POST", f"{ACCOUNT}/v1/chat/completions", {}, {
        "model": ALIAS, "messages": HI, "max_tokens": 3, "options": {"rejectIfBusy": True}}, 200,
     None, "openai"),
    ("OpenAI, text", "POST", f"{ACCOUNT}/v1/completions", {}, {
        "model": ALIAS, "prompt": "Hi", "max_tokens": 3}, 200, None, "openai"),
    ("OpenAI, models", "GET", f"{ACCOUNT}/v1/models", {}, None, 200, None, "openai"),
    ("OpenAI, unknown model", "POST", f"{ACCOUNT}/v1/chat/completions", {}, {
        "model": UNKNOWN, "messages": HI}, 400, 5007, "both"),
    ("OpenAI, bad field", "POST", f"{ACCOUNT}/v1/chat/completions", {}, {
        "model": ALIAS, "messages": HI, "top_p": 9}, 400, 5006, "both"),
    ("OpenAI, bad options", "POST", f"{ACCOUNT}/v1/chat/completions", {}, {
        "model": ALIAS, "messages": HI, "options": {"rejectIfBusy": 1}}, 400, 5006, "both"),
    ("OpenAI, embeddings", "POST", f"{ACCOUNT}/v1/embeddings", {}, {"input": "x"}, 404, 7003,
     "envelope"),
    ("schema, unknown model", "GET", f"{ACCOUNT}/models/schema?model={UNKNOWN}", {}, None, 400,
     5007, "envelope"),
    ("schema, no model", "GET", f"{ACCOUNT}/models/schema", {}, None, 400, 3003, "envelope"),
]

LOCKED = [
    ("REST, no key", "POST", REST, {}, {}, 400, 9106, "envelope"),
    ("REST, wrong key", "POST", REST, {"Authorization": "Bearer x"}, {}, 401, 10000, "envelope"),
    ("REST, X-Auth-Key", "POST", REST, {"X-Auth-Email": "a@b", "X-Auth-Key": "k"}, ASK["inputs"],
     200, None, "envelope"),
    ("binding, wrong key", "POST", "/run?version=3", RUN | {"Authorization": "Bearer x"}, ASK, 401,
     10000, "bare"),
    ("proxy, wrong key", "POST", PROXY, FORWARDED | {"Authorization": "Bearer x"}, ASK, 403, 1031,
     "envelope"),
    ("OpenAI, wrong key", "POST", f"{ACCOUNT}/v1/chat/completions", {"Authorization": "Bearer x"},
     {}, 401, 10000, "both"),
    ("MF-URL, wrong key", "POST", "/", MF_RUN | {"Authorization": "Bearer x"}, ASK, 401, 10000,
     "bare"),
    ("MF-URL, key", "POST", "/", MF_RUN | {"MF-Header-authorization": "Bearer k"}, ASK, 200, None,
     "bare"),
    ("MF-URL past the key", "POST", "/health", MF_RUN, ASK, 400, 9106, "bare"),
]


def code_in(body, form):
    if form == "bare":
        assert set(body) == {"internalCode", "httpCode", "message", "name", "description",
                             "requestId"}, body
        return body["internalCode"]
    assert body["success"] is False and body["messages"] == [], body
    assert ("error" in body) == (form == "both"), body
    assert body["result"] in ({}, None), body
    return body["errors"][0]["code"]


def row(s, name, method, path, headers, body, status, code, form):
    assert form in FORMS
    c = s.connect()
    data = body if body is None or isinstance(body, str) else json.dumps(body)
    c.request(method, path, data, headers)
    r = c.getresponse()
    raw = r.read()
    c.close()
    assert r.status == status, (r.status, raw)
    assert r.getheader("Content-Type") == "application/json", r.getheader("Content-Type")
    told = json.loads(raw)
    if path.startswith(("/client/v4/", "/run", "/ai-")) and "models" not in path:
        assert r.getheader("cf-ai-req-id"), r.getheaders()
    if code is not None:
        assert code_in(told, form) == code, told
    elif form == "bare":
        assert list(told)[:2] == ["response", "usage"], told
    elif form == "envelope":
        assert list(told) == ["result", "success", "errors", "messages"], told
        assert told["success"] is True and told["errors"] == [], told
    else:
        assert "object" in told and "success" not in told, told


def search(s):
    def page(query):
        status, raw, _ = s.get(SEARCH + "?" + query)
        assert status == 200, raw
        return json.loads(raw)

    whole = page("per_page=50")
    info = whole["result_info"]
    assert list(whole) == ["result", "success", "errors", "messages", "result_info"], whole
    assert info == {"count": 2, "page": 1, "per_page": 50, "total_count": 2}, info
    assert {m["name"] for m in whole["result"]} == {"demo", ALIAS}, whole
    assert all(m["source"] == 1 and m["task"]["name"] == "Text Generation" and m["tags"] == []
               and m["properties"][0]["property_id"] == "context_window"
               for m in whole["result"]), whole
    for query, n in (("per_page=50&page=2", 0), ("per_page=1&page=1", 1), ("per_page=1&page=2", 1),
                     ("per_page=1&page=3", 0), ("task=Text%20Generation", 2),
                     ("task=Text+Generation", 2), ("task=Text%20Embeddings", 0),
                     ("search=LLAMA", 1), ("search=none", 0), ("author=meta", 1),
                     ("author=met", 0), ("source=1", 2), ("source=2", 0), ("author=&source=", 2),
                     ("hide_experimental=true&include_deprecated=true", 2),
                     ("page=0&per_page=-1", 2), ("page=999999999999999999999", 0)):
        found = page(query)["result"]
        if query != "page=999999999999999999999":
            assert len(found) == n, (query, found)
    bound = json.loads(s.get("/ai-api/models/search")[1])
    assert bound["success"] is True and bound["result"] == whole["result"], bound


# Bodies, and whether the server takes them: the schema must say the same.
P = {"prompt": "Hi", "max_tokens": 1}
PARTS = [{"type": "text", "text": "Hi"}]
BODIES = [
    (P, True), ({"messages": HI, "max_tokens": 1}, True), ({}, False), ({"prompt": ""}, False),
    ({"prompt": 5}, False), ({"prompt": "a", "messages": HI}, False), ({"messages": []}, False),
    ({"messages": "x"}, False), ({"messages": [{"role": "user"}]}, False),
    ({"messages": [{"content": "x"}]}, False), ({"messages": [{"role": "x", "content": ""}]}, False),
    ({"messages": [{"role": "user", "content": PARTS}], "max_tokens": 1}, True),
    ({"messages": [{"role": "user", "content": []}]}, False),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, False),
    ({"messages": [{"role": "user", "content": None}]}, False),
    ({"messages": [*HI, {"role": "assistant", "content": None}, *HI], "max_tokens": 1}, True),
    ({"messages": [*HI, {"role": "assistant", "content": "x", "tool_calls": [{"id": "a"}]}]}, False),
    ({"messages": HI, "tools": [{"name": "f"}]}, False),
    ({"messages": HI, "tools": [], "max_tokens": 1}, True),
    (P | {"lora": "x"}, False), (P | {"lora": ""}, True),
    (P | {"response_format": {"type": "json_object"}}, False),
    (P | {"response_format": {"type": "text"}}, True),
    (P | {"raw": "true"}, True), (P | {"raw": "yes"}, False), (P | {"raw": True}, True),
    (P | {"options": {"rejectIfBusy": False}}, True), (P | {"options": {"rejectIfBusy": 1}}, False),
    (P | {"options": []}, False), (P | {"unknown": [1]}, True),
    (P | {"functions": [{"name": "f", "code": "x"}]}, True),
]
RANGES = {"max_tokens": (1, 2147483647, 1), "temperature": (0, 5, 0.01), "top_p": (0.001, 1, 0.001),
          "top_k": (1, 50, 1), "seed": (1, 9999999999, 1), "repetition_penalty": (0, 2, 0.01),
          "frequency_penalty": (-2, 2, 0.01), "presence_penalty": (-2, 2, 0.01)}


def schema(s):
    openapi.KNOWN.update({"title", "contentType", "format"})
    _, raw, _ = s.get(f"{ACCOUNT}/models/schema?model=%40cf%2Fmeta%2Fllama-2-7b-chat-int8")
    told = json.loads(raw)
    assert list(told) == ["result", "success", "errors", "messages"], told
    asks, answers = told["result"]["input"], told["result"]["output"]
    fields = asks["oneOf"][0]["properties"]
    numbers = {n: (f["minimum"], f["maximum"]) for n, f in fields.items() if "minimum" in f}
    assert numbers == {n: r[:2] for n, r in RANGES.items()}, "every number of the contract"
    assert all("description" in fields[n] for n in RANGES), "every number has words"
    bodies = list(BODIES)
    for name, (low, high, step) in RANGES.items():
        short = {} if name == "max_tokens" else {"max_tokens": 1}
        at_high = [] if name == "max_tokens" else [(P | {name: high}, True)]
        bodies += [({"prompt": "Hi", **short, name: low}, True), *at_high,
                   (P | {name: low - step}, False), (P | {name: high + step}, False),
                   (P | {name: "1"}, False), (P | {name: None}, False)]
    for body, good in bodies:
        status, raw, _ = s.post(REST, body)
        assert (status == 200) == good, (body, status, raw)
        wrong = list(openapi.faults(body, asks, {}))
        assert (not wrong) == good, (body, good, wrong)
        if good:
            result = json.loads(raw)["result"]
            assert not list(openapi.faults(result, answers["oneOf"][0], {})), result


def streams(s):
    """Event by event, through each way in; cut by max_tokens."""
    inputs = {"prompt": "Count to one hundred.", "max_tokens": 20, "temperature": 0}
    whole = json.loads(s.post(REST, inputs)[1])["result"]
    assert whole["finish_reason"] == "length" and whole["usage"]["completion_tokens"] == 20, whole
    ways = [(REST, inputs | {"stream": True}, {})]
    ways += [(path, {"inputs": inputs | {"stream": True}, "options": {}}, headers) for path, headers
             in (("/run?version=3", RUN), ("/ai-gateway/run?version=3", RUN), (PROXY, FORWARDED),
                 ("/x", MF_RUN))]
    for path, body, headers in ways:
        status, raw, r = s.post(path, body, headers | {"Accept": "application/json"})
        assert status == 200 and r.getheader("Content-Type") == "text/event-stream", (path, raw)
        assert not r.getheader("Content-Length") and r.getheader("cf-ai-req-id"), r.getheaders()
        events = e2e.events(raw)
        assert all(isinstance(e["response"], str) for e in events), events
        assert "".join(e["response"] for e in events) == whole["response"], (path, events)
        last = {k: v for k, v in events[-1].items() if k != "usage"}
        assert last == {"response": "", "finish_reason": "length"}, last
        assert all(list(e) == ["response"] for e in events[:-1]), events


def padded(s):
    def ask():
        return e2e.events(s.post(REST, {"prompt": "Count to one hundred.", "max_tokens": 30,
                                        "temperature": 0, "stream": True})[1])

    events = ask() + ask()
    assert all(1 <= len(e["p"]) <= 32 and e["p"].isalpha() for e in events), events
    assert len({len(e["p"]) for e in events}) > 3, "the lengths differ"


def continued(s):
    """curl asks before it sends much; chunked, as wrangler sends."""
    body = json.dumps(ASK).encode()
    head = (f"POST /run?version=3 HTTP/1.1\r\nHost: workers-binding.ai\r\n"
            f"cf-consn-model-id: {ALIAS}\r\nExpect: 100-continue\r\n"
            f"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n").encode()
    with socket.create_connection(("127.0.0.1", s.port), 20) as c:
        c.sendall(head)
        assert c.recv(100).startswith(b"HTTP/1.1 100 "), "asked to go on"
        for i in range(0, len(body), 7):
            part = body[i:i + 7]
            c.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        c.sendall(b"0\r\n\r\n")
        raw = b""
        while part := c.recv(65536):
            raw += part
    assert raw.startswith(b"HTTP/1.1 200 ") and b'"response":' in raw, raw


def busy(s):
    """One place: who does not want to wait is told at once, the others wait."""
    long = {"prompt": "Count to one hundred.", "max_tokens": 200, "temperature": 0, "stream": True}
    short = {"prompt": "Hi", "max_tokens": 1, "temperature": 0}
    c = s.connect()
    c.request("POST", REST, json.dumps(long))
    r = c.getresponse()
    r.read(10)
    now = {"rejectIfBusy": True}
    for path, body, headers, form in (
            (REST, short | {"options": now}, {}, "envelope"),
            ("/run?version=3", {"inputs": short, "options": now}, RUN, "bare"),
            (f"{ACCOUNT}/v1/chat/completions", {"messages": HI, "max_tokens": 1, "options": now},
             {}, "both")):
        status, raw, reply = s.post(path, body, headers)
        assert status == 429 and code_in(json.loads(raw), form) == 3040, (path, status, raw)
        assert reply.getheader("Retry-After"), reply.getheaders()
    status, raw, _ = s.post(REST, short | {"options": {"rejectIfBusy": False}})
    assert status == 200, raw
    r.read()
    c.close()
    assert s.post(REST, short | {"options": now})[0] == 200, "nobody is there"


def doors(s):
    """Too large, in words that every family of clients understands."""
    status, raw, _ = s.post(REST, "x" * 5000)
    told = json.loads(raw)
    assert status == 413 and told["errors"][0]["code"] == 3006, raw
    assert told["success"] is False and told["error"]["message"], raw


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(e2e.ROOT / "build/cpu/firstlight"))
    options = parser.parse_args()
    plain = e2e.Server(options.binary)
    locked = e2e.Server(options.binary, "--api-key", "k", "--workers-padding", "--body-bytes", "4K")
    steps = [(r[0], row, plain, *r) for r in ROWS] + [(r[0], row, locked, *r) for r in LOCKED]
    steps += [(f.__name__, f, plain) for f in (search, schema, streams, continued)]
    passed, failed = 0, 0
    for name, step, *arguments in steps:
        try:
            step(*arguments)
            passed += 1
        except Exception:
            failed += 1
            print(f"[ FAILED ] {name}: {traceback.format_exc(limit=-1)}")
    open_door = e2e.Server(options.binary, "--workers-padding", "--body-bytes", "4K",
                           "--max-seqs", "1")
    for step in (padded, doors, busy):
        try:
            step(open_door)
            passed += 1
        except Exception:
            failed += 1
            print(f"[ FAILED ] {step.__name__}: {traceback.format_exc(limit=-1)}")
    for server in (plain, locked, open_door):
        server.stop()
    print(f"[  PASSED  ] {passed} test(s).")
    if failed:
        print(f"[  FAILED  ] {failed} test(s).")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
