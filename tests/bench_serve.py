#!/usr/bin/env python3
"""The load generator against a real server and against servers that misbehave.

Aim: against `firstlight serve` every kind of run counts what was asked for, the server's own counters
agree, answers do not depend on company, files hold what they should; every way in which an answer can
go wrong has its name in the result and exit status 1.
Negative space: speeds, and whether figures are right beyond their counts: tests/bench_serve_report_test.c
has those.

    tests/bench_serve.py --binary build/cpu/firstlight --program build/cpu/bench_serve
"""
import argparse
import json
import pathlib
import re
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENTRY = {"conversations": [{"value": "What is the tallest mountain of this country?"},
                           {"value": "It is a hill of no great height, or so they say."}]}


def check(what, good, seen=""):
    if not good:
        print("[  FAILED  ] 1 test(s).")
        sys.exit(f"{what}: {seen}")


class Bench:
    def __init__(self, program, port):
        self.program = program
        self.port = str(port)

    def run(self, *options, status=0):
        command = [self.program, "--port", self.port, "--disable-tqdm", *map(str, options)]
        ended = subprocess.run(command, text=True, capture_output=True, timeout=120, check=False)
        check(f"exit status of {' '.join(command)}", ended.returncode == status,
              f"{ended.returncode} {ended.stderr} {ended.stdout}")
        return ended

    def result(self, *options, status=0):
        return [json.loads(line) for line in self.run("--json", *options, status=status).stdout.splitlines()]


# ---- servers that misbehave ----

def event(text, **more):
    return "data: " + json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": None}], **more}) + "\n\n"


USAGE = 'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n'
DONE = "data: [DONE]\n\n"
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = event("a") + ": a comment\n\n" + event("b") + USAGE + DONE
FINISH = 'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'
# the answer to model NAME: the body of an event stream, or all of the bytes; what must come of it
ODD = {
    "good": (GOOD, None),
    "lines": (GOOD.replace("\n", "\r\n").replace("data: ", "data:"), None),
    "bytes": (GOOD, None),
    "stale": (GOOD, None),
    "paced": (event("a") + event("b") + FINISH + USAGE + DONE, None),
    "no-done": (event("a") + FINISH + USAGE, None),
    "no-usage": (event("a") + event("b") + FINISH + DONE, None),
    "closes": ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + GOOD, None),
    "cut": (event("a"), "cut off"),
    "empty": ("", "no events"),
    "usage-alone": (USAGE + DONE, "no events"),
    "bad-event": (event("a") + "data: {\n\n" + DONE, "bad event"),
    "after-done": (GOOD + event("c"), "bad event"),
    "error": (event("a") + 'data: {"error":{"message":"x"}}\n\n' + DONE, "error event"),
    "bad-usage": (event("a") + USAGE.replace("3", "-3") + DONE, "bad usage"),
    "refuse": ("HTTP/1.1 429 No\r\nContent-Length: 2\r\n\r\n{}", "http 429"),
    "says": ("HTTP/1.1 400 No\r\nConnection: close\r\nContent-Length: 5018\r\n\r\n{too \x1b[31mlong" + "}" * 5004, "http 400"),
    "moved": ("HTTP/1.1 302 No\r\nContent-Length: 0\r\n\r\n", "http 302"),
    "garbage": ("HELLO\r\n\r\n", "bad http"),
    "lost": (None, "connection lost"),
    "half": ("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + event("a"), "connection lost"),
    "silent": ("", "timeout"),
}
PACE = 0.05


class Odd(socketserver.StreamRequestHandler):
    def plain(self, text):
        self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    def answer(self, name):
        """Whether the connection goes on."""
        text = ODD[name][0]
        if text is None:
            return False
        if name == "silent":
            self.rfile.read(1)
            return False
        if text.startswith("HT") or text.startswith("HE"):
            self.wfile.write(text.encode())
            return name in ("refuse", "moved")
        pieces = {"bytes": list(text), "paced": re.findall(".*?\n\n", text)}.get(name, [text] if text else [])
        self.wfile.write(HEAD.encode())
        for piece in pieces:
            time.sleep(PACE if name == "paced" else 0)
            self.wfile.write(f"{len(piece):x}\r\n{piece}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")
        return name != "stale"  # it had not said that it would close

    def handle(self):
        try:
            while True:
                line = self.rfile.readline().decode()
                if not line:
                    return
                head = {}
                while (field := self.rfile.readline().decode().strip()):
                    key, _, value = field.partition(":")
                    head[key.lower()] = value.strip()
                if line.startswith("GET"):
                    self.wfile.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                    return
                self.server.heads.append({**head, "path": line.split()[1]})
                body = json.loads(self.rfile.read(int(head.get("content-length", 0))) or "{}")
                if "/tokenize" in line:
                    self.plain(json.dumps({"tokens": [7] * len(body["prompt"].split())}))
                    return
                if not self.answer(body["model"]):
                    return
        except (ConnectionError, BrokenPipeError):
            return


def paced(bench, server):
    """Times are never shorter than the truth, and waiting for one's turn is in them."""
    server.heads.clear()
    [line] = bench.result("--model", "paced", "--num-prompts", 6, "--request-rate", 1000, "--max-concurrency", 1,
                          "--num-warmups", 0, "--header", "x-key=a b", "--request-id-prefix", "me-",
                          "--percentile-metrics", "ttft,itl,e2el,client_queue_time", "--metric-percentiles", "0,100")
    check("the first text's time", line["p0_ttft_ms"] >= 1000 * PACE, line)
    check("the whole answer's", line["p0_e2el_ms"] >= 3 * 1000 * PACE, line)
    # Each answer takes five paces, and all six were wanted at once.
    check("the last one has waited", line["p100_ttft_ms"] > 25 * 1000 * PACE, line)
    check("in the queue", line["p100_client_queue_time_ms"] > 24 * 1000 * PACE, line)
    asked = [head for head in server.heads if "x-request-id" in head]
    check("ids", [head["x-request-id"] for head in asked] == [f"me-{i}" for i in range(6)], asked)
    bench.result("--model", "good", "--num-prompts", 1, "--num-warmups", 0, "--base-url",
                 f"http://localhost:{bench.port}/x/y/", "--endpoint", "{model}/z")
    check("a path before all others", [head["path"] for head in server.heads[-2:]] == ["/x/y/tokenize", "/x/y/good/z"],
          server.heads)
    check("headers", all(head["x-key"] == "a b" for head in asked), asked)


def interrupted(bench, server):
    """What has ended before somebody lost patience is told all the same."""
    server.heads.clear()
    command = [bench.program, "--port", bench.port, "--json", "--model", "paced", "--max-concurrency", "1",
               "--num-warmups", "0", "--sweep-max-concurrency", "1,2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while sum("x-request-id" in head for head in server.heads) < 3 and running.poll() is None:
            time.sleep(PACE)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    lines = [json.loads(line) for line in out.splitlines()]
    check("the end of an interrupted run", running.returncode == 1 and len(lines) == 1, (out, err))
    check("what it tells", lines[0]["completed"] > 0 and lines[0]["failed"] == 0, lines)


class OddServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    heads = []


def odd_servers(program):
    with OddServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bench = Bench(program, server.server_address[1])
        for name, (_, fault) in ODD.items():
            [line] = bench.result("--model", name, "--num-prompts", 6, "--max-concurrency", 2, "--num-warmups", 0,
                                  "--check-metrics", "off", "--timeout", 0.5 if name == "silent" else 60,
                                  status=1 if fault else 0)
            faults = {fault: 6} if fault else {}
            check(f"faults of {name}", line["firstlight"]["faults"] == faults, line["firstlight"]["faults"])
            check(f"counts of {name}", (line["completed"], line["failed"]) == ((0, 6) if fault else (6, 0)))
            if not fault:
                tokens = {"no-usage": 12}.get(name, 18)
                check(f"tokens of {name}", line["total_output_tokens"] == tokens, line["total_output_tokens"])
                check(f"what {name} kept back", (line["firstlight"]["without_usage"] > 0,
                      line["firstlight"]["without_done"] > 0) == (name == "no-usage", name == "no-done"))
        paced(bench, server)
        interrupted(bench, server)
        server.shutdown()
    with OddServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ended = Bench(program, server.server_address[1]).run("--model", "says", "--num-prompts", 4, "--num-warmups", 0,
                                                            status=1)
        check("the first refusal is told once", ended.stderr.count("the first refusal, http 400: {too  [31mlong") == 1
              and "\x1b" not in ended.stderr and len(ended.stderr) < 600, ended.stderr)
        server.shutdown()
    ended = bench.run("--model", "x", "--tokenizer", "server", status=1)
    check("nobody there", "/tokenize" in ended.stderr, ended.stderr)
    ended = bench.run(status=1)
    check("nobody there to name a model", "no server" in ended.stderr, ended.stderr)


# ---- the real one ----

def counts(bench, folder):
    """Lengths are exact, and what the server counted is what was seen."""
    [line] = bench.result("--num-prompts", 16, "--max-concurrency", 4, "--random-input-len", 40, "--random-output-len",
                          8, "--temperature", 0, "--save-result", "--save-detailed",
                          "--result-dir", folder, "--result-filename", "r.json", "--metadata", "machine=this")
    check("tokens", (line["total_input_tokens"], line["total_output_tokens"]) == (640, 128), line)
    server = line["firstlight"]["server_metrics"]
    # Not the times: a machine with other work delays one side more than the other.
    for name in ("requests", "prompt_tokens", "generation_tokens"):
        check(f"the server's {name}", server[name]["agree"] and server[name]["server"] > 0, server)
    kept = json.loads((folder / "r.json").read_text())
    check("the file has what was printed", {**line, "date": 0} == {**kept, "date": 0})
    check("metadata", kept["machine"] == "this")
    check("every request", kept["input_lens"] == [40] * 16 and kept["output_lens"] == [8] * 16)
    check("their texts", all(kept["generated_texts"]) and not any(kept["errors"]))
    for ttft, gaps, latency, queued in zip(kept["ttfts"], kept["itls"], kept["latencies"], kept["queue_times"]):
        check("times of a request", 0 < ttft <= latency and queued <= ttft and len(gaps) < 8)
        check("gaps and times agree", ttft + sum(gaps) <= latency + 1e-3, (ttft, gaps, latency))
    check("throughput", abs(line["output_throughput"] * line["duration"] - 128) < 0.01)


def company(bench, folder):
    """Who else is there changes no answer; a sweep leaves one file for plots."""
    lines = bench.result("--sweep-max-concurrency", "1,8", "--same-prompts", "--num-prompts", 12, "--random-input-len",
                         30, "--random-output-len", 8, "--temperature", 1, "--save-result", "--result-dir", folder)
    check("the points", [line["max_concurrency"] for line in lines] == [1, 8])
    check("company", len({line["firstlight"]["answers"] for line in lines}) == 1, lines)
    plots = json.loads((folder / "summary.json").read_text())
    check("summary.json", [{**line, "date": 0} for line in plots] == [{**line, "date": 0} for line in lines])
    again = bench.result("--sweep-max-concurrency", "8", "--num-prompts", 12, "--random-input-len", 30, "--seed", 5,
                         "--random-output-len", 8, "--temperature", 1)
    check("another seed", again[0]["firstlight"]["answers"] != lines[0]["firstlight"]["answers"])


def backends(bench, _):
    for backend in ("openai-chat", "workers-ai"):
        [line] = bench.result("--backend", backend, "--num-prompts", 6, "--max-concurrency", 3, "--random-input-len",
                              30, "--random-output-len", 8)
        check(backend, line["completed"] == 6 and line["total_input_tokens"] > 180, line)
    [line] = bench.result("--tokenizer", "usage", "--num-prompts", 6, "--random-input-len", 60,
                          "--random-output-len", 4)
    check("lengths by usage", abs(line["total_input_tokens"] / 6 - 60) < 12, line["total_input_tokens"])
    [line] = bench.result("--tokenizer", "ids", "--num-prompts", 8, "--dataset-name", "prefix_repetition",
                          "--prefix-repetition-prefix-len", 64, "--prefix-repetition-suffix-len", 16,
                          "--prefix-repetition-num-prefixes", 2, "--prefix-repetition-output-len", 4,
                          "--max-concurrency", 1)
    check("prefixes", line["total_input_tokens"] == 8 * 80 and line["firstlight"]["total_cached_tokens"] >= 6 * 48,
          line)


def files(bench, folder):
    share, custom = folder / "share.json", folder / "custom.jsonl"
    share.write_text(json.dumps([ENTRY, {"conversations": []}, ENTRY]))
    custom.write_text('{"prompt":"Hello there","output_tokens":3}\n{"prompt":"And you?","output_tokens":5}\n')
    ended = bench.run("--json", "--dataset-name", "sharegpt", "--dataset-path", share, "--num-prompts", 4)
    check("entries that were no use", "1 entries" in ended.stderr, ended.stderr)
    check("prompts come again", json.loads(ended.stdout)["completed"] == 4)
    [line] = bench.result("--dataset-name", "custom", "--dataset-path", custom, "--no-oversample", "--ignore-eos",
                          "--custom-output-len", -1)
    check("each line's length", (line["completed"], line["total_output_tokens"]) == (2, 8), line)
    custom.write_text('{"prompt":5}\n')
    ended = bench.run("--dataset-name", "custom", "--dataset-path", custom, status=1)
    check("a line without a prompt", "prompt" in ended.stderr, ended.stderr)


def manners(bench, _):
    short = ("--num-prompts", 12, "--random-input-len", 20, "--random-output-len", 12, "--max-concurrency", 4)
    # Events may come merged, and then an answer can be over before its client has counted enough.
    [line] = bench.result(*short, "--output-len", 150, "--cancel-rate", 1)
    ours = line["firstlight"]
    check("hanging up", ours["cancelled"] + line["completed"] == 12 and ours["cancelled"] > 2, line)
    [line] = bench.result(*short, "--slow-readers", 1, "--slow-bytes", 50000, "--check-metrics", "off")
    check("slow readers", line["completed"] == 12 and line["firstlight"]["slow_readers"] == 12, line)
    check("their times are their own", line["mean_ttft_ms"] is None)
    [line] = bench.result("--max-concurrency", 2, "--long-prompt", 200, "--num-prompts", 1, "--random-output-len", 200,
                          "--random-input-len", 20)
    beside = line["firstlight"]["long_prompt"]
    check("a long prompt", beside["prompts"] == 1 and 195 < beside["input_tokens"] < 205, beside)


def clocks(bench, _):
    few = ("--random-input-len", 20, "--random-output-len", 2)
    [line] = bench.result(*few, "--request-rate", 40, "--num-prompts", 20, "--burstiness", "inf")
    # How late a busy machine is has no bound; when requests are due is in bench_serve_schedule_test.c.
    check("a rate's duration", line["duration"] >= 0.5 and line["request_rate"] == 40, line["duration"])
    [line] = bench.result(*few, "--request-rate", 40, "--duration", 0.5)
    check("a duration at a rate", line["completed"] == 20, line["completed"])
    [line] = bench.result(*few, "--max-concurrency", 2, "--duration", 0.5)
    check("a duration of a closed loop", line["completed"] >= 2 and line["num_prompts"] == line["completed"], line)
    [line] = bench.result(*few, "--ramp-up-strategy", "exponential", "--ramp-up-start-rps", 10, "--ramp-up-end-rps",
                          90, "--num-prompts", 20)
    check("a ramp", line["ramp_up_end_rps"] == 90 and line["request_rate"] == "inf", line)
    check("its steps", [step["rps"] for step in line["rps_change_events"]] == list(range(10, 91)), line)
    check("and their times", re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}",
                                          line["rps_change_events"][-1]["timestamp"]), line)


def judgement(bench, folder):
    few = ("--num-prompts", 8, "--random-input-len", 20, "--random-output-len", 4)
    [line] = bench.result(*few, "--goodput", "ttft:0", "--goodput-min", 0.5, status=1)
    check("a missed share", line["request_goodput"] == 0 and not line["firstlight"]["slos"][0]["met"])
    bench.result(*few, "--max-ttft-p99", 0.001, status=1)
    [line] = bench.result(*few, "--goodput", "ttft:60000", "e2el:60000", "--goodput-min", 1, "--max-e2el-p99", 60000)
    check("kept promises", line["firstlight"]["good"] and line["firstlight"]["goodput_share"] == 1)
    for _ in range(2):
        bench.run(*few, "--append-result", "--result-dir", folder / "a/b", "--result-filename", "lines")
    lines = (folder / "a/b/lines").read_text().split("\n")
    check("a line a run", [json.loads(line)["completed"] for line in lines] == [8, 8])
    table = bench.run(*few).stdout
    for row in ("Serving Benchmark Result", "Successful requests: +8", r"Mean TTFT \(ms\):", r"P99 ITL \(ms\):",
                r"Answers \(hash\): +[0-9a-f]{16}", "Server's /metrics: +(agree|DIFFER)"):
        check(f"the table has {row}", re.search(row, table), table)
    rows = bench.run(*few, "--csv").stdout.splitlines()
    check("CSV", len(rows) == 2 and rows[0].count(",") == rows[1].count(","), rows)
    check("a wrong option", "did you mean" in bench.run("--num-prompt", 3, status=2).stderr)


def serve(binary):
    """The server, and its port once it is ready."""
    server = subprocess.Popen([binary, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True)
    port = None
    for line in server.stderr:
        found = re.search(r"listening on http://127.0.0.1:(\d+)", line)
        port = found[1] if found else port
        if " ready" in line:
            break
    threading.Thread(target=server.stderr.read, daemon=True).start()
    return server, port


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--binary", required=True)
    args.add_argument("--program", required=True)
    args = args.parse_args()
    program = str(pathlib.Path(args.program).resolve())
    odd_servers(program)
    server, port = serve(args.binary)
    cases = [counts, company, backends, files, manners, clocks, judgement]
    try:
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                case(Bench(program, port), pathlib.Path(folder))
    finally:
        server.terminate()
        server.wait()
    print(f"[  PASSED  ] {len(ODD) + 2 + len(cases)} test(s).")


if __name__ == "__main__":
    main()
