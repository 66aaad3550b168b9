#!/usr/bin/env python3
"""The architecture as a table: who may include whom, how long things may be.

Aim: a change that bends the floors, opens a second door to a library, or lets a file or a
function outgrow its reader fails here, with file and line, before a person has to say it.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOORS = ["kernels", "models", "scheduler", "server"]  # a floor includes those before it
COLUMNS_MAX = 100
FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 70
SEAM_LINES_MAX = 160
SEAMS = [
    "kernels/base.h", "kernels/sampling.h", "kernels/ops.h", "models/model.h",
    "models/tokenizer.h", "models/chat.h", "scheduler/sched.h",
]

# What a floor may include of the floors below it; everything else there is private.
PUBLIC = {
    "kernels": {"kernels/base.h", "kernels/cpu_machine.h", "kernels/list.h", "kernels/ops.h",
                "kernels/paged.h", "kernels/sampling.h"},
    "models": {"models/model.h", "models/tokenizer.h", "models/chat.h", "models/strict_json.h",
               "models/convert.h", "models/find.h"},
    "scheduler": {"scheduler/sched.h", "scheduler/load.h"},
}
# The scheduler knows models by model.h alone, the server never sees an operation: only the
# composition opens the backend.
DENIED = {
    "scheduler": {"kernels/ops.h", "models/tokenizer.h", "models/chat.h"},
    "server": {"kernels/ops.h"},
}
DENIED_EXCEPT = {
    "server": {"server/registry_load.c", "server/cli_convert.c"},
}
# One door for each library: replacing it touches these files and no others.
DOORS = {
    "uv.h": {"server/"},
    "llhttp.h": {"server/"},
    "cjson/cJSON.h": {"server/", "models/"},
    "pthread.h": {"kernels/", "scheduler/", "models/", "server/"},
    "cuda_runtime.h": {"kernels/"},
    "cublas_v2.h": {"kernels/"},
    "utf8proc.h": {"models/"},
    "pcre2.h": {"models/"},
    "openssl/ssl.h": {"server/"},
    "openssl/err.h": {"server/"},
    "openssl/evp.h": {"server/"},
}
DOOR_FILES_MAX = {"llhttp.h": 1, "cublas_v2.h": 1, "utf8proc.h": 2, "pcre2.h": 1,
                  "openssl/ssl.h": 1, "openssl/err.h": 1, "openssl/evp.h": 1}

faults = []


def fault(path, line, text):
    faults.append(f"{path}:{line}: {text}")


def tracked(*suffixes):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                         capture_output=True, check=True).stdout.split("\n")
    return [p for p in out if p.endswith(suffixes) and (ROOT / p).exists()]


def strip_literals(line):
    return re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'', '""', line)


def check_include(path, number, name):
    floor = path.split("/")[0]
    if floor not in FLOORS:
        return
    target = name.split("/")[0]
    if target in FLOORS and target != floor:
        if FLOORS.index(target) > FLOORS.index(floor):
            fault(path, number, f"{floor} includes upwards: {name}")
        elif name not in PUBLIC[target]:
            fault(path, number, f"{name} is private to {target}")
        elif name in DENIED.get(floor, set()) and path not in DENIED_EXCEPT.get(floor, set()):
            fault(path, number, f"{floor} does not know {name}")
    if name in DOORS and not any(path.startswith(d) for d in DOORS[name]):
        fault(path, number, f"{name} has its door elsewhere: {', '.join(sorted(DOORS[name]))}")


def check_functions(path, lines):
    """A function begins with '{' in column 0 and ends with '}' there: our brace style."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            if number - start - 1 > FUNCTION_LINES_MAX:
                fault(path, start, f"function of {number - start - 1} lines, "
                                   f"at most {FUNCTION_LINES_MAX}")
            start = None


def check_source(path, included, doors):
    lines = (ROOT / path).read_text(encoding="utf-8").split("\n")
    generated = any("generated" in line for line in lines[:5])
    if len(lines) - 1 > FILE_LINES_MAX and not generated:
        fault(path, 1, f"{len(lines) - 1} lines, at most {FILE_LINES_MAX}")
    if path in SEAMS and len(lines) - 1 > SEAM_LINES_MAX:
        fault(path, 1, f"a seam of {len(lines) - 1} lines, at most {SEAM_LINES_MAX}")
    for number, line in enumerate(lines, 1):
        code = strip_literals(line)
        if len(line) > COLUMNS_MAX and not generated:
            fault(path, number, f"{len(line)} columns, at most {COLUMNS_MAX}")
        if "\t" in line or line != line.rstrip():
            fault(path, number, "tab or blank at the end")
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            fault(path, number, "a task left in the code")
        if path.endswith((".c", ".h")) and re.search(r"(^|[^:])//", code):
            fault(path, number, "comments are /* sentences */")
        match = re.match(r'#include [<"]([^>"]+)[>"]', line)
        if match:
            included.add(match[1])
            doors.setdefault(match[1], set()).add(path)
            check_include(path, number, match[1])
        if re.search(r"\b(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|alloca)\(", code):
            fault(path, number, "unbounded or unchecked: use its counted twin")
        resolves = re.search(r"\b(uv_)?getaddrinfo\(|\bgethostby", code)
        if resolves and path.split("/")[0] in FLOORS:
            fault(path, number, "names are never looked up")
    if path.endswith((".c", ".cu")):
        check_functions(path, lines)


def check_changelog():
    path = "CHANGELOG.md"
    if not (ROOT / path).exists():
        fault(path, 1, "missing")
        return
    kinds = {"Added", "Changed", "Fixed", "Performance", "Removed", "Security"}
    for number, line in enumerate((ROOT / path).read_text().split("\n"), 1):
        if line.startswith("### ") and line[4:] not in kinds:
            fault(path, number, f"section {line[4:]}: one of {', '.join(sorted(kinds))}")


def main():
    included, doors = set(), {}
    sources = tracked(".c", ".h", ".cu", ".cuh", ".cpp")
    for path in sources:
        check_source(path, included, doors)
    for path in sources:
        if path.endswith((".h", ".cuh")) and not {path, path.rsplit("/", 1)[1]} & included:
            fault(path, 1, "no file includes it")
    for name, most in DOOR_FILES_MAX.items():
        inside = {p for p in doors.get(name, set()) if p.split("/")[0] in FLOORS}
        if len(inside) > most:
            fault(sorted(inside)[0], 1, f"{name} has {len(inside)} doors: {', '.join(sorted(inside))}")
    check_changelog()
    for text in faults:
        print(text)
    if faults:
        print("[  FAILED  ] 1 test(s).")
    else:
        print(f"[  PASSED  ] 1 test(s). {len(sources)} files")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
