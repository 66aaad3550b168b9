#!/usr/bin/env python3
"""Results of bench/gpu.sh, one JSON object a line, as tables and as one JSON file.

    gpu_table.py LINES [--json FILE] [--text FILE]

A line that a cut run left half written is counted, not fatal; what is missing in a row is "-".
"""
import argparse
import json
import sys

# part: title, and columns, or that it is a pivot
TABLES = [
    ("device", "Device", ["name", "sm", "multiprocessors", "l2_bytes", "driver", "runtime"]),
    ("roof", "What the device gives", ["name", "us", "least_us", "gbps", "tops"]),
    ("gap", "From one small kernel to the next", ["name", "least_us"]),
    ("load", "Loading", ["model", "backend", "device_ms", "model_ms", "weight_bytes", "blocks"]),
    ("decode", "Decoding steps", ["model", "seqs", "context", "us", "least_us", "tokens_per_s", "gbps", "roof"]),
    ("prompt", "Steps that read a prompt", ["model", "rows", "us", "least_us", "tokens_per_s", "gbps"]),
    ("serve", "Over HTTP", ["model", "max_concurrency", "completed", "failed", "median_ttft_ms", "p99_ttft_ms",
                            "median_tpot_ms", "median_itl_ms", "p99_itl_ms", "median_e2el_ms", "output_throughput"]),
    ("attention", "Attention", ["model", "name", "seqs", "rows", "context", "us", "gbps", "tops", "roof"]),
    ("rows", "Row by row", ["model", "name", "rows", "us", "least_us", "gbps", "roof"]),
    ("linear", "Products: microseconds (share of the roof)", "pivot"),
    ("best", "The fastest variant of each product beside the table's", [
        "model", "name", "n", "k", "rows", "kernel", "us", "table_us", "gain", "gbps", "tops"]),
    ("note", "Notes", ["name"]),
]
KERNELS = ["skinny", "tile 64", "tile 128", "turned", "wgmma", "skinny half", "library int8", "library fp16"]


def text_of(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else \
        f"{value:.0f}" if isinstance(value, float) else str(value)


def grid(head, rows):
    rows = [head] + [[text_of(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(row, widths))).rstrip()
                     for row in rows)


def products(lines):
    """One row per shape and number of rows, one column per kernel, the fastest of ours last."""
    cells = {}
    for line in lines:
        key = (line.get("model"), line.get("name"), line.get("n"), line.get("k"), line.get("rows"))
        cells.setdefault(key, {})[line.get("kernel")] = line
    rows = []
    for key, by_kernel in sorted(cells.items(), key=lambda item: [str(v).zfill(9) for v in item[0]]):
        row = list(key)
        for kernel in KERNELS:
            line = by_kernel.get(kernel)
            row.append(f"{line['us']:.1f} ({line['roof']:.2f})" if line else None)
        ours = [k for k in by_kernel if not k.startswith("library") and k != "skinny half"]
        row.append(min(ours, key=lambda k: by_kernel[k]["us"]) if ours else None)
        rows.append(row)
    return grid(["model", "product", "n", "k", "rows"] + KERNELS + ["fastest"], rows)


def tables(lines, broken):
    parts = []
    about = [line for line in lines if line.get("part") == "about"]
    for line in about:
        parts.append("commit {commit}, {backend}, {time}".format_map(line))
    for part, title, columns in TABLES:
        mine = [line for line in lines if line.get("part") == part]
        if not mine:
            continue
        body = products(mine) if columns == "pivot" else \
            grid(columns, [[line.get(c) for c in columns] for line in mine])
        parts.append(f"{title}\n{body}")
    if broken:
        parts.append(f"{broken} lines were not whole")
    return "\n\n".join(parts) + "\n"


def read(path):
    lines, broken = [], 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if isinstance(line, dict):
                lines.append(line)
            elif text.strip():
                broken += 1
    return lines, broken


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("lines")
    args.add_argument("--json")
    args.add_argument("--text")
    args = args.parse_args()
    lines, broken = read(args.lines)
    text = tables(lines, broken)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"results": lines, "broken_lines": broken}, file, indent=1)
            file.write("\n")
    if args.text:
        with open(args.text, "w", encoding="utf-8") as file:
            file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
