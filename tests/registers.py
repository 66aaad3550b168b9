#!/usr/bin/env python3
"""What ptxas makes of each kernel: registers, spills, shared memory, per architecture.

  tests/registers.py            compiles and writes the table in kernels/REGISTERS.md
  tests/registers.py --check    compiles and compares: a spill, a warning of ptxas (C75xx: wgmma
                                serialized), or more registers than the table says by SLACK fails
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "kernels" / "REGISTERS.md"
ARCHS = ["80", "86", "89", "90a", "100", "120"]
SLACK = 8  # another nvcc counts a little otherwise


def nvcc():
    found = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    return found if pathlib.Path(found).exists() else None


def compile_one(job):
    compiler, source, arch = job
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [compiler, "-std=c++17", "-O3", f"-I{ROOT}", "-DWITH_CUDA",
             f"-gencode=arch=compute_{arch},code=sm_{arch}", "-Xptxas", "-v", "-cubin",
             "-o", f"{folder}/x.cubin", str(source)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{source.name} for sm_{arch}: {run.stderr[-2000:]}")
    return source, arch, run.stdout + run.stderr


def demangle(names):
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                         check=True).stdout.split("\n")
    short = {}
    for name, text in zip(names, out):
        text = re.sub(r"^void |\(anonymous namespace\)::|struct ", "", text)
        text = re.sub(r"\(int\)", "", text).split("(")[0] if "<" not in text else text
        text = re.sub(r"\(int\)", "", text)
        text = re.sub(r">\(.*$", ">", text)
        short[name] = text.strip()
    return short


def read(log, faults, source, arch):
    """name -> (registers, spilled bytes)"""
    rows, name = {}, None
    for line in log.split("\n"):
        entry = re.search(r"Compiling entry function '(\w+)'", line)
        spill = re.search(r"(\d+) bytes spill stores", line)
        used = re.search(r"Used (\d+) registers", line)
        if entry:
            name = entry[1]
            rows[name] = [0, 0]
        elif spill and name:
            rows[name][1] = max(rows[name][1], int(spill[1])) # of functions it calls, too
        elif used and name:
            rows[name][0] = int(used[1])
        elif "warning" in line.lower() and "ptxas" in line:
            faults.append(f"{source.name} sm_{arch}: {line.strip()}")
    return rows


def measure(compiler, faults):
    """(file, kernel) -> arch -> (registers, spilled)"""
    sources = sorted((ROOT / "kernels").glob("*.cu"))
    jobs = [(compiler, s, a) for s in sources for a in ARCHS]
    table = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, arch, log in pool.map(compile_one, jobs):
            rows = read(log, faults, source, arch)
            short = demangle(list(rows)) if rows else {}
            for name, (registers, spilled) in rows.items():
                table.setdefault((source.name, short[name]), {})[arch] = (registers, spilled)
                if spilled:
                    faults.append(f"{source.name} {short[name]} sm_{arch}: {spilled} bytes spilled")
    return table


def text_of(table):
    lines = ["# Registers per thread", "",
             "Written by `tests/registers.py`; its `--check` fails on a spill, on a warning of ptxas, and",
             f"on {SLACK} registers more than stand here. 4: an empty body, the kernel is not for that device.",
             "", "| file | kernel | " + " | ".join(f"sm_{a}" for a in ARCHS) + " |",
             "|---|---|" + "---|" * len(ARCHS)]
    for (file, kernel), row in sorted(table.items()):
        cells = [str(row.get(a, ("-",))[0]) for a in ARCHS]
        lines.append(f"| {file} | `{kernel}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def known():
    rows = {}
    for line in TABLE.read_text().split("\n") if TABLE.exists() else []:
        match = re.match(r"\| (\S+\.cu) \| `(.*)` \| (.*) \|$", line)
        if match:
            rows[match[1], match[2]] = dict(zip(ARCHS, match[3].split(" | ")))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    compiler = nvcc()
    if not compiler:
        print("skipped: no nvcc")
        return 0
    faults = []
    table = measure(compiler, faults)
    before = known()
    if not args.check:
        TABLE.write_text(text_of(table))
    for key, row in table.items() if args.check else []:
        for arch, (registers, _) in row.items():
            want = before.get(key, {}).get(arch, "-")
            if want == "-":
                faults.append(f"{key[0]} {key[1]} sm_{arch}: not in {TABLE.name}, run tests/registers.py")
            elif registers > int(want) + SLACK:
                faults.append(f"{key[0]} {key[1]} sm_{arch}: {registers} registers, {want} before")
    for fault in faults:
        print(fault)
    print(f"[  FAILED  ] {len(faults)} test(s)." if faults else
          f"[  PASSED  ] 1 test(s). {len(table)} kernels")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
