#!/usr/bin/env python3
"""Results, and what is made of them: bench_ops, bench/report.py, bench/compare.py.

Aim: percentiles are those calculated by hand; a page holds every run, its plots are valid XML, and
nothing that a result says becomes markup or a request to somewhere; whatever is no result is refused
with one line; a comparison tells better from worse from noise; bench_ops computes the same numbers
with any number of threads.
Negative space: speeds, and whether the plots are beautiful.

    tests/report.py --ops build/cpu/bench_ops
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import report_serve  # noqa: E402
import results  # noqa: E402

HOSTILE = "<script>alert(1)</script>\"'&|`*\u202e\ud800\x07"


def run(*command):
    return subprocess.run([str(c) for c in command], cwd=ROOT, text=True, capture_output=True, timeout=200,
                          check=False)


def check(what, good):
    if not good:
        sys.exit(f"FAILED  {what}")


def served(streams, label="ours", speed=1.0, **more):
    """One object as bench_serve and vLLM save it, times in seconds where they say seconds."""
    line = {"date": "20260102-030405", "backend": "openai-chat", "label": label, "model_id": "m",
            "num_prompts": 4, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": streams,
            "duration": 2.0, "completed": 4, "failed": 0, "output_throughput": 100.0 * streams * speed,
            "ttfts": [0.010 * streams, 0.020, 0.030, 0.040], "errors": ["", "", "", ""],
            "itls": [[0.001, 0.002], [0.003], [], [0.004]], "median_ttft_ms": 25.0 / speed, "p99_ttft_ms": 39.7,
            "median_itl_ms": 2.5, "median_tpot_ms": 2.5 / speed, "firstlight": {"answers": f"{streams:016x}"}}
    return {**line, **more}


OPS = [
    {"part": "about", "machine": "a machine", "backend": "cpu", "time": "2026-01-02T03:04:05Z", "commit": "abc1234"},
    {"part": "roof", "name": "read", "gbps": 10.0},
    {"part": "roof", "name": "read", "gbps": 20.0},
    {"part": "roof", "name": "int8", "gops": 400.0},
    *({"part": "op", "backend": "cpu", "model": "m", "op": "linear", "name": name, "kind": "w8a8", "rows": rows,
       "context": 0, "n": 64, "k": 64, "us": 10.0, "gbps": 10.0, "gops": 10.0 * rows, "peak": "int8", "hash": "aa"}
      for name in ("qkv", "gate_up") for rows in (1, 16)),
    {"part": "op", "backend": "cpu", "model": "m", "op": "gather", "name": "dim", "kind": "f32", "rows": 1,
     "us": 1.0, "gbps": 5.0, "gops": 0.0, "peak": "f32", "hash": "bb"},
]
STEPS = [
    {"part": "load", "model": "m", "backend": "cpu", "device_ms": 1, "model_ms": 2},
    *({"part": "decode", "model": "m", "seqs": n, "rows": 1, "context": 64, "us": 100.0, "tokens_per_s": 1e4 * n,
       "roof": 0.5} for n in (1, 8)),
    *({"part": "prompt", "model": "m", "seqs": 1, "rows": n, "context": n, "us": 100.0, "tokens_per_s": 1e4}
      for n in (32, 512)),
    {"part": "start", "model": "m", "runs": 3, "first_ms": 70.5, "least_ms": 60, "cpu_ms": 30, "peak_mb": 20},
]
GPU = [
    {"part": "device", "name": "a GPU", "sm": 90}, {"part": "note", "name": "a note"},
    {"part": "roof", "name": "read", "us": 1.0, "gbps": 4000.0, "tops": 0.0},
    {"part": "roof", "name": "int8 product of the library, 2048 x 8192 x 8192", "us": 1.0, "gbps": 0.0, "tops": 900.0},
    {"part": "linear", "model": "m", "name": "qkv", "n": 64, "k": 64, "rows": 8, "kernel": "skinny", "us": 12.5,
     "gbps": 3600.0, "tops": 1.0, "roof": 0.9},
    {"part": "attention", "model": "m", "name": "decode", "seqs": 8, "rows": 1, "context": 512, "us": 9.0,
     "gbps": 2000.0, "tops": 1.0, "roof": 0.5},
]


class Folder:
    def __init__(self, path):
        self.path = pathlib.Path(path)

    def lines(self, name, objects):
        (self.path / name).write_text("".join(json.dumps(o) + "\n" for o in objects))
        return self.path / name

    def text(self, name, text):
        (self.path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.path / name


def percentiles():
    # 0-based place p/100 * (n-1), on a straight line between neighbours.
    for values, percent, want in (([1, 2, 3, 4], 50, 2.5), ([1, 2, 3, 4], 90, 3.7), ([1, 2, 3, 4], 99, 3.97),
                                  ([5], 99, 5), ([1, 3], 0, 1), ([1, 3], 100, 3), ([], 50, None)):
        got = results.percentile(values, percent)
        check(f"p{percent} of {values}", got == want if want is None else abs(got - want) < 1e-9)
    load = report_serve.Load("streams", 1)
    load.lines = [served(1), served(1, errors=["", "lost", "", ""], median_ttft_ms=35.0)]
    check("a failed request has no times", len(load.samples("ttft")) == 7 and len(load.samples("itl")) == 7)
    check("what a result says goes before what its details give", load.quantile("ttft", 50) == 30.0)
    check("else its details do", abs(load.quantile("ttft", 90) - 40.0) < 1e-9)


def page_of(*arguments):
    out = arguments[0] if isinstance(arguments[0], pathlib.Path) else pathlib.Path(arguments[0])
    ended = run(sys.executable, "bench/report.py", *arguments[1:], "--out", out)
    check(f"report.py: {ended.stderr}", ended.returncode == 0)
    return out.read_text(encoding="utf-8")


def svgs(page):
    found = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for svg in found:
        xml.fromstring(svg)
    return [svg for svg in found if "aria-label" in svg]


def page(folder):
    one = folder.lines("one.jsonl", [served(n) for n in (1, 8, 32)])
    two = folder.lines("two.json", [served(n, label=None, speed=0.5) for n in (1, 8)])
    ops, steps, gpu = folder.lines("ops", OPS), folder.lines("steps", STEPS), folder.lines("gpu", GPU)
    text = page_of(folder.path / "page.html", one, two, f"ours={ops}", f"ours={steps}", f"a GPU={gpu}",
                   "--title", "T & <b>")
    for what in ("ours", "two", "a GPU", "T &amp; &lt;b&gt;", "a machine", "abc1234", "2026-01-02 03:04", "70.5", "skinny"):
        check(f"the page has {what}", what in text)
    drawn = svgs(text)
    names = [re.search('aria-label="([^"]*)"', svg)[1] for svg in drawn]
    for name in ("Time to first token over throughput", "Time to first token", "Between tokens, 8 streams",
                 "Roofline of m, ours", "Share of the roof of m, ours", "Sequences", "Tokens of the prompt"):
        check(f"a plot {name} of {names}", name in names)
    for run_name in ("ours", "two"):
        check("both runs in one plot", f"<title>{run_name}: " in drawn[0])
    # gather, 5 of 20 GB/s; gate_up at 16 rows, 160 of 400 GOP/s, at 1 row 10 of 20 GB/s.
    cells = re.findall(r"<tr[^>]*><td class=\"w\">([^<]*)</td>(.*?)</tr>", text)
    shares = {name: re.findall(r"(\d+) %", rest) for name, rest in cells}
    check("shares of the best roof seen", shares["gather dim, f32"] == ["25"] and shares["linear gate_up, w8a8"] == ["50", "50"])
    outside = re.findall(r"(?:src=|href|url\(|@import|https?:)[^>]{0,40}", text.replace("http://www.w3.org/2000/svg", ""))
    check(f"nothing from outside: {outside}", not outside and "<script" not in text)
    again = page_of(folder.path / "again.html", one, two, f"ours={ops}", f"ours={steps}", f"a GPU={gpu}",
                    "--title", "T & <b>")
    check("the same results, the same page", text == again)


def hostile(folder):
    lines = [served(n, label=HOSTILE, model_id=HOSTILE, **{"firstlight": {"answers": HOSTILE}}) for n in (1, 8)]
    lines += [{**line, **{key: HOSTILE for key, v in line.items() if isinstance(v, str) and key not in ("part", "op", "peak")}}
              for line in OPS + STEPS + GPU if line["part"] != "roof"]
    path = folder.lines("hostile", lines)
    text = page_of(folder.path / "hostile.html", path, "--title", HOSTILE[:20], "--machine", HOSTILE[:20])
    check("no markup from results", "<script" not in text and "alert(1)" in text and "&lt;script&gt;" in text)
    check("no strange characters", not re.search("[\u202e\ud800\x07]", text))
    check("plots of hostile names", len(svgs(text)) > 3)
    ended = run(sys.executable, "bench/report.py", path, "--markdown")
    check("Markdown of hostile names", ended.returncode == 0)
    rows = [re.findall(r"(?<!\\)\|", line) for line in ended.stdout.split("\n") if line.startswith("|")]
    check("a cell stays a cell", len(rows) > 3 and "\\<script\\>" in ended.stdout and "<script" not in
          ended.stdout.replace("\\<", ""))


def markdown(folder):
    path = folder.lines("md", [served(n) for n in (1, 8)] + OPS + STEPS)
    ended = run(sys.executable, "bench/report.py", f"x={path}", "--markdown")
    check("the head", ended.stdout.split("\n")[0] == "2026-01-02 03:04, a machine, commit abc1234")
    line = next(l for l in ended.stdout.split("\n") if l.startswith("| x | 8 streams"))
    # 20, 30, 40 and 80 ms: at 0.9 * 3 = 2.7 between the last two.
    cells = [c.strip() for c in line.strip("|").split("|")]
    check(f"a row {cells}", cells[:8] == ["x", "8 streams", "4", "800", "25.0", "68.0", "39.7", "2.50"])


BAD = [
    "", "{", "[1]", "[]", "[" * 200000, b"\xff\xfe\x00", '{"a":1}', '{"a":NaN}', '{"a":1}\n{"b":', "a,b\n1\n", "a,b\n1,2\n",
    json.dumps(served(1, output_throughput="fast")), json.dumps(served(1, max_concurrency=[1])),
    json.dumps(served(1, ttfts=["soon"], errors=[""])), json.dumps(served(1, itls=[1, 2])),
    json.dumps({"part": "op", "rows": 1, "gbps": 1}), json.dumps({"part": "decode", "seqs": "one"}),
    json.dumps({"part": "op", "model": "m", "op": "norm", "name": "x", "rows": True, "us": 1}),
]


def refused(folder):
    for i, text in enumerate(BAD):
        path = folder.text(f"bad{i}", text)
        ended = run(sys.executable, "bench/report.py", path, "--out", folder.path / "bad.html")
        check(f"refused: {text[:60]!r}: {ended.returncode}, {ended.stderr[-300:]}",
              ended.returncode == 2 and ended.stderr.count("\n") == 1 and ended.stderr.startswith("report.py: "))
    ended = run(sys.executable, "bench/report.py", folder.path / "nowhere", "--markdown")
    check("no such file", ended.returncode == 2 and ended.stderr.count("\n") == 1)
    check("neither page nor Markdown", run(sys.executable, "bench/report.py", "x").returncode == 2)
    check("a picture of no page", run(sys.executable, "bench/report.py", "x", "--markdown", "--picture", "p").returncode
          == 2)


def script_arguments():
    for wrong in ([], ["--out"], ["--fast"], ["--out", "x", "--seconds", "soon"], ["--out", "x", "--parts", "all"],
                  ["--out", "x", "--streams", "1,2"]):
        ended = run("bash", "bench/cpu.sh", *wrong)
        check(f"bench/cpu.sh {wrong} is refused", ended.returncode == 2 and "error:" in ended.stderr)
    check("bench/cpu.sh --help", "--out FOLDER" in run("bash", "bench/cpu.sh", "--help").stdout)


def pictured(folder):
    """The browser is asked for a picture of the page that was just written, and its failure is one line."""
    results_at, page = folder.lines("picture", [served(n) for n in (1, 8)]), folder.path / "picture.html"
    for script, status in (('for a; do case $a in --screenshot=*) echo x >"${a#*=}" ;; esac; done', 0), ("exit 3", 2)):
        browser = pathlib.Path(folder.text("chromium", f"#!/bin/sh\n{script}\n"))
        browser.chmod(0o755)
        taken = folder.path / f"taken{status}.png"
        command = [sys.executable, "bench/report.py", results_at, "--out", page, "--picture", taken]
        ended = subprocess.run(list(map(str, command)), cwd=ROOT, text=True, capture_output=True, timeout=60,
                               check=False, env={**os.environ, "PATH": f"{folder.path}:{os.environ['PATH']}"})
        check(f"a picture: {ended.stderr}", ended.returncode == status and taken.is_file() == (status == 0))
        check("and its failure", status == 0 or (ended.stderr.count("\n") == 1 and "--picture" in ended.stderr))


def trusted(folder):
    said = {"answers": "a", "client_cpu_share": 0.9, "server_metrics": {"verdict": "differ"}, "long_prompt": {
        "prompts": 3, "median_ttft_ms": 160.0, "median_itl_quiet_ms": 1.0, "p99_itl_quiet_ms": 4.0,
        "median_itl_beside_ms": 2.0, "p99_itl_beside_ms": 6.0, "itl_p99_ratio": 1.5}}
    path = folder.lines("trust", [served(4, failed=2, firstlight=said), served(8)])
    lines = run(sys.executable, "bench/report.py", path, "--markdown").stdout.split("\n")
    four = [line for line in lines if "4 streams" in line]
    check(f"what speaks against a figure stands beside it: {four}",
          "| 4, 2 FAILED, SERVER COUNTED OTHERWISE, CLIENT BUSY |" in four[0] and "OTHERWISE" not in "".join(
              line for line in lines if "8 streams" in line))
    check("long prompts", four[1].endswith("| 3.00 | 160 | 1.00 | 4.00 | 2.00 | 6.00 | 1.50 |"))


def compare(folder, name, a, b, *more):
    return run(sys.executable, "bench/compare.py", folder.lines(f"{name}.a", a), folder.lines(f"{name}.b", b), *more)


def comparisons(folder):
    def runs(tokens, ttft, **more):
        return [served(8, label=None, output_throughput=t, median_ttft_ms=f, **more) for t, f in zip(tokens, ttft)]

    before = runs((100, 101, 102), (50, 51, 52))
    ended = compare(folder, "good", before, runs((120, 121, 122), (40, 41, 42)))
    verdicts = {line.split()[0]: line.split()[-1] for line in ended.stdout.split("\n") if line.startswith("  ") and line.strip()}
    check(f"better {ended.stdout}", ended.returncode == 0 and verdicts["output_throughput"] == "better"
          and verdicts["median_ttft_ms"] == "better")
    ended = compare(folder, "worse", before, runs((80, 81, 82), (60, 61, 62)))
    check(f"worse {ended.stdout}", ended.returncode == 0 and ended.stdout.count("WORSE") == 2)
    ended = compare(folder, "noise", before, runs((99, 103, 101), (50, 53, 51)))
    check(f"noise {ended.stdout}", "nothing beyond the noise" in ended.stdout)
    ended = compare(folder, "few", before, runs((200,), (1,)))
    check(f"too few {ended.stdout}", "too few runs" in ended.stdout and "better" not in ended.stdout)
    changed = compare(folder, "changed", before, runs((100, 101, 102), (50, 51, 52), firstlight={"answers": "other"}))
    check("answers changed", changed.returncode == 1 and "ANSWERS CHANGED" in changed.stdout)
    failed = compare(folder, "failed", before, runs((100, 101, 102), (50, 51, 52), failed=2))
    check("errors", failed.returncode == 1 and "6 ERRORS" in failed.stdout)
    check("nothing in common", compare(folder, "apart", before, [served(4)]).returncode == 2)
    check("no result", compare(folder, "none", before, [{"part": "note"}]).returncode == 2)
    faster = [{**line, "us": line["us"] / 2, "gbps": 2 * line["gbps"]} if line["part"] == "op" else line for line in OPS] * 3
    ended = compare(folder, "ops", OPS * 3, faster)
    check(f"operations {ended.stdout}", ended.returncode == 0 and ended.stdout.count("better") == 10
          and "WORSE" not in ended.stdout)
    other = [{**line, "hash": "cc"} if line.get("op") == "gather" else line for line in OPS] * 3
    check("a hash of other numbers", compare(folder, "hash", OPS * 3, other).returncode == 1)
    rows = "shape,rows,median_us,of_read\nqkv,1,{},0.5\n"
    ended = run(sys.executable, "bench/compare.py", folder.text("a.csv", "".join(rows.format(t) for t in (10, 11, 12))),
                folder.text("b.csv", "# note\n" + "".join(rows.format(t) for t in (20, 21, 22))))
    check(f"CSV {ended.stdout}", ended.returncode == 0 and "WORSE" in ended.stdout and "shape qkv, rows 1" in ended.stdout)


def operations(program):
    command = [program, "--only", "demo", "--rows", "1,16", "--seconds", "0.001", "--cold-mib", "1", "--read-gbps", "10",
               "--int8-gops", "100"]
    seen = []
    for threads in ("1", "2"):
        ended = run(*command, "--threads", threads, "--json")
        check(f"bench_ops: {ended.stderr}", ended.returncode == 0)
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        ops = [line for line in lines if line["part"] == "op"]
        for line in ops:
            check(f"sane: {line}", 0 < line["least_us"] <= line["us"] and line["roof"] >= 0 and line["reps"] >= 1)
        seen.append({(o["op"], o["name"], o["kind"], o["rows"], o["context"]): o["hash"] for o in ops})
    check("the same numbers with any number of threads", seen[0] == seen[1] and len(seen[0]) >= 40)
    check("every operation", {key[0] for key in seen[0]} == {"embed", "norm", "linear", "rope_store", "attention",
                                                             "convert", "swiglu", "gather", "sample"})
    hashes = [h for key, h in seen[0].items() if key[0] != "sample"]
    check("a hash says what was computed", len(set(hashes)) > 0.9 * len(hashes))
    csv = run(program, "--only", "demo.gather", "--rows", "4", "--seconds", "0.001", "--cold-mib", "1", "--csv").stdout.splitlines()
    check(f"CSV {csv}", csv[-1].startswith("demo.gather.dim.f32,4,0,256,256,") and csv[-1].count(",") == csv[-2].count(","))
    for wrong in (["--rows", "0"], ["--rows", "1,"], ["--only", "nothing"], ["--what"], ["--backend"], ["--seconds", "x"]):
        check(f"bench_ops {wrong} is refused", run(program, *wrong).returncode == 2)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ops", required=True)
    args = args.parse_args()
    percentiles()
    script_arguments()
    with tempfile.TemporaryDirectory() as folder:
        folder = Folder(folder)
        page(folder)
        hostile(folder)
        markdown(folder)
        trusted(folder)
        pictured(folder)
        refused(folder)
        comparisons(folder)
    operations(pathlib.Path(args.ops).resolve())
    print("ok")


if __name__ == "__main__":
    main()
