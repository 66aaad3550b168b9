#!/usr/bin/env python3
"""What can be known of the GPU measurements without a GPU.

Aim: bench/gpu.sh refuses what it does not understand, bench_steps gives whole lines of sane numbers
on the cpu backend, and bench/gpu_table.py turns lines into tables and JSON without losing any.
Negative space: speeds; and the lines of bench_gpu, which are made by hand here.

    tests/bench.py --steps build/cpu/bench_steps
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRODUCT = {"part": "linear", "model": "llama-2-7b", "name": "qkv", "n": 12288, "k": 4096, "least_us": 9.0,
           "gbps": 4000.0, "tops": 1.0}
LINES = [
    {"part": "about", "commit": "abc", "backend": "cuda", "time": "2026-01-01T00:00:00Z", "cores": 16},
    {"part": "roof", "name": "read", "us": 350.1, "least_us": 349.0, "gbps": 4321.0, "tops": 0.0},
    {**PRODUCT, "rows": 8, "kernel": "skinny", "us": 12.5, "roof": 0.91},
    {**PRODUCT, "rows": 8, "kernel": "tile 64", "us": 20.0, "roof": 0.57},
    {**PRODUCT, "rows": 8, "kernel": "library int8", "us": 11.0, "roof": 0.99},
    {**PRODUCT, "rows": 128, "kernel": "tile 64", "us": 30.0, "roof": 0.5},
    {"part": "best", "model": "tinyllama", "name": "out", "n": 2048, "k": 2048, "rows": 1, "kernel": "turned",
     "us": 3.0, "table_us": 4.0, "gain": 1.333, "gbps": 1398.1, "tops": 2.8},
    {"part": "serve", "model": "tinyllama", "max_concurrency": 64, "completed": 128, "output_throughput": 987.6},
    {"part": "note", "name": "no time for tinyllama"},
]


def run(*command):
    return subprocess.run([str(c) for c in command], cwd=ROOT, text=True, capture_output=True, timeout=120,
                          check=False)


def check(what, good):
    if not good:
        sys.exit(f"FAILED  {what}")


def script_arguments():
    for wrong in ([], ["--out"], ["--fast"], ["--out", "x", "--seconds", "soon"]):
        ended = run("bash", "bench/gpu.sh", *wrong)
        check(f"bench/gpu.sh {wrong} is refused", ended.returncode == 2 and "error:" in ended.stderr)
    for wrong in (["--seconds"], ["--backend", "abacus"]):
        ended = run("bash", "tests/gpu.sh", *wrong)
        check(f"tests/gpu.sh {wrong} is refused", ended.returncode == 2 and "error:" in ended.stderr)
    check("bench/gpu.sh --help", "--out FOLDER" in run("bash", "bench/gpu.sh", "--help").stdout)


def table():
    with tempfile.TemporaryDirectory() as folder:
        lines = pathlib.Path(folder) / "lines"
        kept = pathlib.Path(folder) / "json"
        lines.write_text("\n".join(json.dumps(line) for line in LINES) + '\n{"part":"linear","us":1\n')
        ended = run(sys.executable, "bench/gpu_table.py", lines, "--json", kept)
        check("the table ends well", ended.returncode == 0)
        read = json.loads(kept.read_text())
        check("every line is kept", read == {"results": LINES, "broken_lines": 1})
    rows = [line.split() for line in ended.stdout.splitlines()]
    few = next(row for row in rows if row[:5] == ["llama-2-7b", "qkv", "12288", "4096", "8"])
    many = next(row for row in rows if row[:5] == ["llama-2-7b", "qkv", "12288", "4096", "128"])
    check("a kernel a column", few[5:9] == ["12.5", "(0.91)", "20.0", "(0.57)"] and "11.0" in few)
    check("the fastest of ours, never the library's", few[-1] == "skinny" and many[-2:] == ["tile", "64"])
    check("the fastest variant", ["tinyllama", "out", "2048", "2048", "1", "turned", "3", "4", "1.333"] in
          [row[:9] for row in rows])
    check("what is missing", many[5] == "-")
    check("a cut line is told", "1 lines were not whole" in ended.stdout)
    check("what was served", any(row[:3] == ["tinyllama", "64", "128"] and row[-1] == "987.6" for row in rows))
    check("notes", "no time for tinyllama" in ended.stdout)


def steps(program):
    ended = run(program, "--backend", "cpu", "--threads", "1", "--seconds", "1", "--context", "64", "--batches",
                "1,2", "--prompts", "32,2000", "--read-gbps", "10", "--name", "demo", "models/demo")
    check(f"bench_steps: {ended.stderr}", ended.returncode == 0)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    # Two thousand tokens are more than the demo was trained for, so that line is left out.
    check("its lines", [(line["part"], line.get("seqs")) for line in lines] ==
          [("load", None), ("decode", 1), ("decode", 2), ("prompt", 1)])
    for line in lines[1:]:
        check("its numbers", 0 < line["least_us"] <= line["us"] and line["roof"] > 0)
        rate = line["seqs"] * line["rows"] / line["us"] * 1e6
        check("tokens and time agree", abs(rate - line["tokens_per_s"]) < 0.01 * rate)
    for wrong in (["--batches", "0"], ["--batches", "1,"], ["--seconds", "x"], ["--what", "1"], []):
        check(f"bench_steps {wrong} is refused", run(program, *wrong).returncode == 2)


def helped(folder):
    """Who asks what a program does is told at once, on stdout."""
    programs = sorted(folder.glob("bench_*"))
    programs = [p for p in programs if "_test" not in p.name and p.is_file()] + [
        ROOT / "bench" / name for name in ("cpu.sh", "door.sh", "report.py", "compare.py")]
    check("the programs", len(programs) >= 6)
    for program in programs:
        for option in ("--help", "-h"):
            ended = run(program, option)
            check(f"{program.name} {option}", ended.returncode == 0 and program.name in ended.stdout)
    for name in ("bench_plan", "bench_tokenizer"):
        if (folder / name).exists():  # built with the target bench
            check(f"{name} --nonsense", run(folder / name, "--nonsense").returncode == 2)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--steps", required=True)
    args = args.parse_args()
    script_arguments()
    table()
    steps(pathlib.Path(args.steps).resolve())
    helped(pathlib.Path(args.steps).resolve().parent)
    print("ok")


if __name__ == "__main__":
    main()
