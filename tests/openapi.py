#!/usr/bin/env python3
"""The description at /openapi.json against the program it describes.

Aim: every route of api.c is described and nothing else is; replies, whole and streamed, right and
wrong, are what their schemas say, to the last member; bodies that are accepted are valid by the
schema of their route and bodies refused for a member are not. Negative space: members that the
schemas do not name, errors in each format, empty answers, streams with every option.

    tests/openapi.py --binary build/cpu/firstlight
"""
import argparse
import http.client
import json
import re
import sys
import traceback

import e2e

FRANCE, ALIAS = e2e.FRANCE, e2e.ALIAS

# ---- a validator of the subset of JSON Schema 2020-12 that the document uses ---------------------

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KNOWN = {"$ref", "type", "properties", "required", "additionalProperties", "items", "enum", "const",
         "anyOf", "oneOf", "minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength",
         "minItems", "maxItems", "maxProperties", "default", "description"}


def is_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def bounds(value, schema):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    size = len(value) if isinstance(value, (str, list, dict)) else None
    for key, wrong in (("minimum", lambda b: value < b), ("maximum", lambda b: value > b),
                       ("exclusiveMinimum", lambda b: value <= b)):
        if key in schema and number and wrong(schema[key]):
            yield f"{value} against {key} {schema[key]}"
    for key, kind, low in (("minLength", str, True), ("maxLength", str, False),
                           ("minItems", list, True), ("maxItems", list, False),
                           ("maxProperties", dict, False)):
        if key in schema and isinstance(value, kind):
            if size < schema[key] if low else size > schema[key]:
                yield f"{size} against {key} {schema[key]}"


def members(value, schema, root, at):
    named = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}: no {name}"
    for name, part in value.items():
        if name in named:
            yield from faults(part, named[name], root, f"{at}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{at}: {name} is not described"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from faults(part, schema["additionalProperties"], root, f"{at}.{name}")


def faults(value, schema, root, at="$"):
    """What is wrong with value, as lines."""
    assert set(schema) <= KNOWN, f"a keyword this validator does not know: {set(schema) - KNOWN}"
    if "$ref" in schema:
        yield from faults(value, root["components"]["schemas"][schema["$ref"].split("/")[-1]],
                          root, at)
        return
    kinds = schema.get("type")
    if kinds and not any(is_type(value, k) for k in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{at}: {type(value).__name__} is no {kinds}"
        return
    if "enum" in schema and value not in schema["enum"] and value is not None:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            tried = [list(faults(value, s, root, at)) for s in schema[key]]
            fit = sum(not t for t in tried)
            if fit == 0 or (key == "oneOf" and fit > 1):
                yield f"{at}: {fit} of {key} fit: {[t[0] for t in tried if t][:8]}"
    yield from (f"{at}: {b}" for b in bounds(value, schema))
    if isinstance(value, dict):
        yield from members(value, schema, root, at)
    if isinstance(value, list) and "items" in schema:
        for i, part in enumerate(value):
            yield from faults(part, schema["items"], root, f"{at}[{i}]")


# ---- what is asked -------------------------------------------------------------------------------

TEXT = {"prompt": "The capital of France is", "max_tokens": 6, "temperature": 0}
RICH = {"n": 2, "seed": 5, "stop": ["zz"], "logit_bias": {"5": -1}, "return_token_ids": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True}, "top_k": -1,
        "min_p": 0.1, "user": "u", "metadata": None}
HI = [{"role": "user", "content": "Hi"}]
SAY = {"max_tokens": 8, "messages": HI}
REST = f"/client/v4/accounts/a/ai/run/{ALIAS}"
RUN = {"cf-consn-model-id": ALIAS}

# route of the document, path, body, status
POSTS = [
    ("/v1/chat/completions", FRANCE, 200),
    ("/v1/chat/completions", FRANCE | RICH | {"logprobs": True, "top_logprobs": 2}, 200),
    ("/v1/chat/completions", FRANCE | {"max_completion_tokens": 1, "prompt_logprobs": 1}, 200),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "Hi"}]}], "max_tokens": 2}, 200),
    ("/v1/chat/completions", {}, 400),
    ("/v1/chat/completions", FRANCE | {"top_p": 9}, 400),
    ("/v1/chat/completions", FRANCE | {"n": 9}, 400),
    ("/v1/chat/completions", FRANCE | {"stop": [""]}, 400),
    ("/v1/chat/completions", FRANCE | {"response_format": {"type": "json_object"}}, 400),
    ("/v1/chat/completions", FRANCE | {"model": "none"}, 404),
    ("/chat/completions", FRANCE, 200),
    ("/v1/completions", TEXT, 200),
    ("/v1/completions", TEXT | RICH | {"prompt": ["a", "b"], "logprobs": 2}, 200),
    ("/v1/completions", TEXT | {"prompt": [[1, 5]], "echo": True, "logprobs": 1}, 200),
    ("/v1/completions", TEXT | {"echo": True, "max_tokens": 0, "logprobs": 0}, 200),
    ("/v1/completions", TEXT | {"prompt_logprobs": 2}, 200),
    ("/v1/completions", TEXT | {"prompt": {}}, 400),
    ("/v1/completions", TEXT | {"prompt": []}, 400),
    ("/v1/completions", TEXT | {"model": "none"}, 404),
    ("/completions", TEXT, 200),
    ("/v1/responses", {"input": "Hi", "max_output_tokens": 4, "metadata": {"a": "b"}}, 200),
    ("/v1/responses", {"input": HI, "instructions": "Be brief.", "temperature": 0}, 200),
    ("/v1/responses", {"input": []}, 400),
    ("/v1/responses", {"input": "Hi", "model": "none"}, 404),
    ("/responses", {"input": "Hi"}, 200),
    ("/v1/messages", SAY, 200),
    ("/v1/messages", SAY | {"system": "Be brief.", "stop_sequences": ["a", "e"]}, 200),
    ("/v1/messages", {"messages": HI}, 400),
    ("/v1/messages", SAY | {"temperature": 2}, 400),
    ("/v1/messages", SAY | {"model": "none"}, 404),
    ("/messages", SAY, 200),
    ("/v1/messages/count_tokens", {"messages": HI}, 200),
    ("/v1/messages/count_tokens", {}, 400),
    ("/messages/count_tokens", {"messages": HI}, 200),
    ("/v1/tokenize", {"messages": HI}, 200),
    ("/tokenize", {"prompt": "caf\u00e9 \u65e5", "return_token_strs": True}, 200),
    ("/tokenize", {"prompt": 5}, 400),
    ("/v1/detokenize", {"tokens": [1, 5, 9]}, 200),
    ("/detokenize", {"tokens": []}, 200),
    ("/detokenize", {"tokens": "x"}, 400),
    ("/client/v4/accounts/{account}/ai/run/{model}", {"prompt": "Hi", "max_tokens": 4}, 200),
    ("/client/v4/accounts/{account}/ai/run/{model}", {"messages": HI, "raw": "true"}, 200),
    ("/client/v4/accounts/{account}/ai/run/{model}", {"prompt": "Hi", "top_k": 51}, 400),
    ("/run", {"inputs": {"prompt": "Hi", "max_tokens": 4}, "options": {}}, 200),
    ("/run", {"inputs": {"prompt": "Hi", "top_k": 51}}, 400),
]
GETS = [
    ("/v1/models", "/v1/models", 200), ("/models", "/models", 200),
    ("/v1/models/{model}", f"/v1/models/{ALIAS}", 200), ("/models/{model}", "/models/none", 404),
    ("/client/v4/accounts/{account}/ai/models/search", "/client/v4/accounts/a/ai/models/search", 200),
    ("/client/v4/accounts/{account}/ai/models/schema",
     f"/client/v4/accounts/a/ai/models/schema?model={ALIAS}", 200),
    ("/client/v4/accounts/{account}/ai/models/schema",
     "/client/v4/accounts/a/ai/models/schema", 400),
    ("/health", "/health", 200), ("/health/ready", "/health/ready", 200), ("/ping", "/ping", 200),
    ("/readyz", "/readyz", 200), ("/health/live", "/health/live", 200), ("/livez", "/livez", 200),
    ("/version", "/version", 200), ("/metrics", "/metrics", 200),
    ("/openapi.json", "/openapi.json", 200),
]
GETS += [("/client/v4/accounts/{account}/ai/run/{model}", f"{REST}?prompt=Hi&max_tokens=3", 200),
         ("/client/v4/accounts/{account}/ai/run/{model}", f"{REST}?prompt=Hi&top_k=51", 400),
         ("/run", f"/run?model={ALIAS}&prompt=Hi&max_tokens=3", 200), ("/run", "/run?prompt=Hi", 400)]
PATHS = {"/client/v4/accounts/{account}/ai/run/{model}": REST, "/run": "/run?version=3"}
# Served for tools that look there; a second name of what is described, or no API.
UNDESCRIBED = {
    "/", "/ai-gateway/run", "/ai-api/models/search", "/client/v4/accounts/*/ai/run/proxy",
    "/client/v4/accounts/*/ai/v1/chat/completions", "/client/v4/accounts/*/ai/v1/completions",
    "/client/v4/accounts/*/ai/v1/models",
}


class Check:
    def __init__(self, server):
        self.s = server
        self.doc = json.loads(server.get("/openapi.json")[1])
        self.passed, self.failed = 0, []

    def fits(self, what, value, schema):
        wrong = list(faults(value, schema, self.doc))
        if wrong:
            self.failed.append(f"{what}: {wrong[0]}\n    {json.dumps(value)[:600]}")
        else:
            self.passed += 1

    def content(self, route, method, status, kind):
        replies = self.doc["paths"][route][method]["responses"]
        assert str(status) in replies, f"{method} {route}: {status} is not described"
        return replies[str(status)]["content"][kind]["schema"]

    def post(self, route, body, status):
        path = PATHS.get(route, route)
        got, raw, r = self.s.post(path, body, RUN if route == "/run" else None)
        what = f"POST {path} {json.dumps(body)[:200]}"
        assert got == status, (what, got, raw)
        self.fits(what, json.loads(raw), self.content(route, "post", status, "application/json"))
        asked = self.doc["paths"][route]["post"]["requestBody"]["content"]["application/json"]
        valid = not list(faults(body, asked["schema"], self.doc))
        if valid != (status in (200, 404)):
            self.failed.append(f"{what}: answered {status}, by its schema {valid}")
        if status == 200:
            self.stream(route, path, body, what)

    def stream(self, route, path, body, what):
        content = self.doc["paths"][route]["post"]["responses"]["200"]["content"]
        if "text/event-stream" not in content or "prompt_logprobs" in body:
            return
        streamed = {**body, "stream": True}
        if route == "/run":
            streamed = {**body, "inputs": body["inputs"] | {"stream": True}}
        _, raw, _ = self.s.post(path, streamed, RUN if route == "/run" else None)
        datas = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
        assert len(datas) > 1, (what, raw)
        for data in datas:
            if data != "[DONE]":
                self.fits(f"{what} streamed", json.loads(data),
                          content["text/event-stream"]["schema"])

    def get(self, route, path, status):
        """A stream is asked for where one is described."""
        got, raw, r = self.s.get(path)
        assert got == status, (path, got, raw)
        if path != "/metrics":
            self.fits(f"GET {path}", json.loads(raw),
                      self.content(route, "get", status, "application/json"))

        if "prompt=" in path and status == 200:
            _, raw, _ = self.s.get(path + "&stream=true")
            schema = self.content(route, "get", 200, "text/event-stream")
            for event in e2e.events(raw):
                self.fits(f"GET {path} streamed", event, schema)

    def routes(self):
        """What api.c serves and what the document describes are the same."""
        source = (e2e.ROOT / "server" / "api.c").read_text()
        rows = re.findall(r'\{"(GET|POST)", "([^"]+)", on_', source)
        assert len(rows) > 20, "the table of routes is not where it was"
        described = {(m.upper(), re.sub(r"\{model\}$", "**", re.sub(r"\{account\}", "*", p)))
                     for p, item in self.doc["paths"].items() for m in item}
        served = {row for row in rows if row[1] not in UNDESCRIBED}
        assert served == described, (served ^ described)
        self.passed += 1

    def whole(self):
        version = json.loads(self.s.get("/version")[1])["version"]
        assert self.doc["info"]["version"] == version and self.doc["openapi"].startswith("3.1")
        used = set(re.findall(r'#/components/schemas/(\w+)', json.dumps(self.doc)))
        assert used == set(self.doc["components"]["schemas"]), used ^ set(
            self.doc["components"]["schemas"])
        tested = {p for p, _, _ in POSTS} | {p for p, _, _ in GETS}
        assert tested == set(self.doc["paths"]), tested ^ set(self.doc["paths"])
        self.passed += 1

    def refusals(self, server):
        """Errors that come before a body is read."""
        for route, item in self.doc["paths"].items():
            if "post" not in item:
                continue
            path = PATHS.get(route, route)
            for headers, status in (({}, None), ({"Authorization": "Bearer wrong"}, 401)):
                c = http.client.HTTPConnection("127.0.0.1", server.port)
                c.request("POST", path, "{}", headers)
                r = c.getresponse()
                body = json.loads(r.read())
                c.close()
                assert r.status in (400, 401) and status in (None, r.status), (path, r.status, body)
                self.fits(f"POST {path} without a key", body,
                          self.content(route, "post", r.status, "application/json"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(e2e.ROOT / "build/cpu/firstlight"))
    options = parser.parse_args()
    server = e2e.Server(options.binary)
    locked = e2e.Server(options.binary, "--api-key", "k")
    check = Check(server)
    steps = [(check.routes,), (check.whole,), (check.refusals, locked)]
    steps += [(check.post, *row) for row in POSTS] + [(check.get, *row) for row in GETS]
    for step, *arguments in steps:
        try:
            step(*arguments)
        except Exception:
            check.failed.append(traceback.format_exc())
    server.stop()
    locked.stop()
    for text in check.failed:
        print(f"[ FAILED ] {text}")
    print(f"[  PASSED  ] {check.passed} test(s).")
    if check.failed:
        print(f"[  FAILED  ] {len(check.failed)} test(s).")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
