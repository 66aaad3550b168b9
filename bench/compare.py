#!/usr/bin/env python3
"""Two result files of one bench program, before and after: what changed more than the noise.

    compare.py A B [--all] [--runs 3]

JSON of bench_serve (and of `vllm bench serve`), bench_ops, bench_steps, bench_load and bench_gpu, or the CSV
of any; several runs of the same command in each file, appended. Take them in turn, A B A B A B: a
shared machine changes its speed from minute to minute, and only what lies side by side can be
compared. A figure is shown when every run of one side lies outside the range of the other and the
medians differ by more than the spread of either side, that is (max - min) / median. The first of
these happens by chance to one figure in ten with three runs a side, to one in a hundred with
five: repeat what surprises. What is named in KEYS says which rows belong together.

Exit status: 0, 1 when answers changed or there were errors, 2 when the files do not compare.
"""
import argparse
import statistics
import sys

from results import Bad, answers_of, clean, is_serve, read as read_file

KEYS = ("part", "model", "model_id", "folder", "load", "streams", "max_concurrency", "request_rate", "rate_per_s",
        "burstiness", "num_prompts", "prompt", "max_tokens", "op", "name", "kind", "kernel", "shape", "sequences",
        "penalties", "seqs", "rows", "context", "n", "k", "bytes")
# Said about a run, but no result of it.
CONTEXT = {"answered", "prompt_tokens", "cached_tokens", "answer_tokens", "seconds", "faults", "reps", "steps",
           "long_prompts", "long_prompt_tokens", "long_cached_tokens", "gaps_quiet", "gaps_long", "runs",
           "weight_bytes", "blocks", "multiprocessors", "sm", "l2_bytes", "driver", "runtime"}
CACHED = ("cached_tokens", "long_cached_tokens")
HIGHER_IS_BETTER = ("per_s", "per_event", "of_read", "of_roof", "_throughput", "goodput", "gbps", "gops", "tops",
                    "roof", "goodput_share")
# Of bench_serve's objects: the rest describes the run, or lists every request.
SERVE_RESULTS = ("_ms", "_throughput", "request_goodput", "max_output_tokens_per_s")
SPEECH = ("about", "note", "device")


def fail(text):
    print(f"compare.py: {text}", file=sys.stderr)
    sys.exit(2)


def serve_row(line):
    ours = line.get("firstlight") if isinstance(line.get("firstlight"), dict) else {}
    row = {name: value for name, value in line.items() if name in KEYS or name.endswith(SERVE_RESULTS)}
    if line.get("max_concurrency") is not None or line.get("request_rate") not in (None, "inf"):
        row.pop("num_prompts", None)  # where a duration was asked for, it is a result
    row["errors"] = line.get("failed") or 0
    faults = ours.get("faults") if isinstance(ours.get("faults"), dict) else {}
    row["faults"] = ", ".join(f"{clean(name)}: {clean(n)}" for name, n in faults.items())
    row["cached_tokens"] = ours.get("total_cached_tokens") or 0
    return row


def flat(line):
    """One result as columns: a bench program's hash of what it made under one name."""
    row = serve_row(line) if is_serve(line) else {n: v for n, v in line.items() if not isinstance(v, (dict, list))}
    row.pop("hash", None)
    if answers_of(line):
        row["answers"] = answers_of(line)
    return row


def named(value):
    """8 and 8.0 are the same load."""
    return f"{value:g}" if isinstance(value, float) else clean(value)


def read(path):
    """{key: {column: [value of each run]}}"""
    rows = {}
    try:
        lines, _ = read_file(path)
    except Bad as wrong:
        fail(wrong)
    for line in lines:
        if line.get("part") in SPEECH:
            continue
        row = flat(line)
        key = tuple((name, named(row[name])) for name in KEYS if row.get(name) is not None)
        for name, value in row.items():
            rows.setdefault(key, {}).setdefault(name, []).append(value)
    if not rows:
        fail(f"{path}: no rows")
    return rows


def numbers(texts):
    try:
        return [float(text) for text in texts if not isinstance(text, bool)]
    except (TypeError, ValueError):
        return []


def spread(x):
    middle = statistics.median(x)
    return (max(x) - min(x)) / abs(middle) if middle else 0.0


def judge(name, a, b, runs):
    """The line of one figure and whether it changed."""
    before, after = statistics.median(a), statistics.median(b)
    noise = max(spread(a), spread(b))
    ratio = after / before if before else float("nan")
    apart = max(a) < min(b) or max(b) < min(a)
    changed = min(len(a), len(b)) >= runs and apart and abs(ratio - 1) > noise
    better = (after > before) == name.endswith(HIGHER_IS_BETTER)
    verdict = ("better" if better else "WORSE") if changed else "noise"
    if min(len(a), len(b)) < runs:
        verdict = "too few runs"
    text = f"  {clean(name, 24):<24}{before:>12.2f}{after:>12.2f}{ratio:>8.3f}{noise:>8.1%}  {verdict}"
    return text, changed


def answers(a, b):
    """What may never change in silence; None when the program prints no answers."""
    if "answers" not in a or "answers" not in b:
        return None
    sides = [sorted(set(side["answers"])) for side in (a, b)]
    if sides[0] == sides[1] and len(sides[0]) == 1:
        return None
    if sides[0] == sides[1] or any(len(side) > 1 for side in sides):
        return f"  ANSWERS DIFFER between runs of one side: A {sides[0]}, B {sides[1]}"
    return f"  ANSWERS CHANGED: {sides[0][0]} -> {sides[1][0]}"


def remarks(a, b):
    for side, x in (("A", a), ("B", b)):
        errors = sum(numbers(x.get("errors", [])))
        if errors:
            yield f"  {side}: {errors:.0f} ERRORS ({'; '.join(clean(f) for f in x.get('faults', []) if f)})"
        for name in CACHED:
            if any(numbers(x.get(name, []))):
                yield f"  {side}: prompts came in part from the prefix cache ({name})"


def compare(key, a, b, show_all, runs):
    """Prints one group of rows; whether answers or errors speak against B."""
    warning = answers(a, b)
    lines = [warning] if warning else []
    lines += remarks(a, b)
    for name in a:
        if name in KEYS or name in CONTEXT or name in ("errors", "answers"):
            continue
        x, y = numbers(a[name]), numbers(b.get(name, []))
        if x and y and any(x + y):
            text, changed = judge(name, x, y, runs)
            if changed or show_all:
                lines.append(text)
    counts = [len(next(iter(side.values()))) for side in (a, b)]
    title = ", ".join(f"{name} {text}" for name, text in key if text and (name, text) != ("context", "0"))
    print(f"{title or 'all'}  ({counts[0]} and {counts[1]} runs)"
          + ("" if lines else ": nothing beyond the noise"))
    if min(counts) < runs and not show_all:
        print(f"  too few runs to tell a change from noise: {runs} a side are needed")
    print("\n".join(lines) + "\n" if lines else "", end="")
    return bool(warning) or any(sum(numbers(x.get("errors", []))) for x in (a, b))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--all", action="store_true", help="show what did not change, too")
    parser.add_argument("--runs", type=int, default=3, help="fewer prove nothing (3)")
    args = parser.parse_args()
    a, b = read(args.before), read(args.after)
    both = [key for key in a if key in b]
    if not both:
        fail("the files have no row in common")
    print(f"  {'':<24}{'A median':>12}{'B median':>12}{'B / A':>8}{'noise':>8}")
    bad = [compare(key, a[key], b[key], args.all, args.runs) for key in both]
    for path, rows, other in ((args.before, a, b), (args.after, b, a)):
        alone = sum(key not in other for key in rows)
        if alone:
            print(f"{path} alone has {alone} rows")
    return 1 if any(bad) else 0


if __name__ == "__main__":
    sys.exit(main())
