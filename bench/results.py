"""Result files of bench/ in all their forms, read strictly.

JSON objects of bench_serve (in the form of `vllm bench serve`), one in a file, in a list, or one a line;
JSON lines of bench_ops, bench_steps, bench_load and bench_gpu, each with a "part"; gpu.json, which has
them under "results"; and CSV. What a file says is data of unknown origin: whatever is not understood
is a Bad with one line of text, and no text in it reaches a page but through clean().
"""
import csv
import json
import math
import pathlib
import re

FILE_BYTES_MAX = 512 << 20
TEXT_MAX = 120
# Of no use in a document: control characters, halves of surrogate pairs, changes of direction.
STRANGE = re.compile("[^\x20-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Bad(Exception):
    """What is wrong with a file or an argument, in one line."""


def clean(value, most=TEXT_MAX):
    """Any value as a line of text that a document can hold; escaping is left to whoever writes it."""
    text = STRANGE.sub("\ufffd", value if isinstance(value, str) else str(value))
    return text if len(text) <= most else text[:most - 1] + "…"


def number(line, key, needed=False):
    """A finite number, or None where there is none."""
    value = line.get(key)
    if value is None and not needed:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Bad(f"{clean(key)} is no number: {clean(value, 40)}")
    return float(value)


def text(line, key, default=""):
    value = line.get(key)
    return default if value is None else clean(value)


def percentile(values, percent):
    """Of sorted values, between two of them on a straight line; as numpy and vLLM have it."""
    if not values:
        return None
    at = percent / 100 * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def _refuse(name):
    raise ValueError(f"{name} is no number")


def _parse(body):
    return json.loads(body, parse_constant=_refuse)


def _json_objects(body):
    """The objects of a text that is one value, or one value a line."""
    try:
        value = _parse(body)
    except ValueError as whole:
        lines = [(i, line) for i, line in enumerate(body.split("\n"), 1) if line.strip()]
        if len(lines) < 2:
            raise Bad(f"is no JSON: {whole}") from None
        value = []
        for i, line in lines:
            try:
                value.append(_parse(line))
            except ValueError as wrong:
                raise Bad(f"line {i} is no JSON: {wrong}") from None
    if isinstance(value, dict) and isinstance(value.get("results"), list):
        value = value["results"]
    value = value if isinstance(value, list) else [value]
    if not value or not all(isinstance(one, dict) for one in value):
        raise Bad("holds no list of JSON objects")
    return value


def _csv_rows(body):
    """Dictionaries of text; header and comment lines may come again."""
    rows, header = [], None
    for row in csv.reader(line for line in body.split("\n") if not line.startswith("#")):
        if header is None:
            header = row
        elif row and row != header:
            if len(row) != len(header):
                raise Bad(f"{len(row)} columns where {len(header)} were named")
            rows.append(dict(zip(header, row)))
    if not rows:
        raise Bad("no rows")
    return rows


def read(path):
    """(objects, "json" or "csv"): what a file holds."""
    try:
        path = pathlib.Path(path)
        if path.stat().st_size > FILE_BYTES_MAX:
            raise Bad(f"more than {FILE_BYTES_MAX >> 20} MiB")
        body = path.read_bytes().decode("utf-8").strip()
        if body[:1] in ("{", "["):
            return _json_objects(body), "json"
        return _csv_rows(body), "csv"
    except Bad as wrong:
        raise Bad(f"{clean(path)}: {wrong}") from None
    except OSError as wrong:
        raise Bad(f"{clean(path)}: {clean(wrong.strerror)}") from None
    except (ValueError, csv.Error) as wrong:
        raise Bad(f"{clean(path)}: {clean(wrong)}") from None
    except RecursionError:
        raise Bad(f"{clean(path)}: nested too deeply") from None


def is_serve(line):
    """One run of bench_serve or of `vllm bench serve`."""
    return "output_throughput" in line and "duration" in line


def answers_of(line):
    """The hash over what a run produced, "" where it has none."""
    ours = line.get("firstlight")
    found = ours.get("answers") if isinstance(ours, dict) else line.get("answers", line.get("hash"))
    return clean(found) if found else ""
