"""What results say, as sections of plots and tables; report.py makes a page or Markdown of them."""
import math
import statistics
from dataclasses import dataclass, field

from plot import SHAPES, Axis, Plot, SetAxis, figure
from results import Bad, answers_of, clean, is_serve, number, percentile, text

COLOURS = 8
CDF_PANELS_MAX = 6
CDF_POINTS = 160
CLIENT_BUSY = 0.8  # of a core: above it latencies may be the client's
METRICS = {"ttft": "Time to first token", "tpot": "Time per output token", "itl": "Between tokens",
           "e2el": "Whole answer"}


@dataclass
class Run:
    label: str
    index: int
    about: dict = field(default_factory=dict)
    lines: list = field(default_factory=list)

    @property
    def kind(self):
        return f"r{self.index % COLOURS}"

    @property
    def shape(self):
        return SHAPES[self.index % len(SHAPES)]

    def of(self, *parts):
        return [line for line in self.lines if line.get("part") in parts]


@dataclass
class Cell:
    text: str
    share: float = 0.0  # shades it
    small: str = ""

    def __str__(self):
        return f"{self.text} ({self.small})" if self.small else self.text


@dataclass
class Table:
    title: str
    columns: list
    rows: list  # (run or None, [text or Cell])
    names: int = 1  # columns from the left that are no numbers


@dataclass
class Figure:
    title: str
    plot: Plot
    note: str = ""
    small: bool = False


@dataclass
class Section:
    title: str
    about: str
    figures: list = field(default_factory=list)
    tables: list = field(default_factory=list)
    keys: list = field(default_factory=list)  # (what, class, shape) where colours are not runs


def time_text(us):
    if us is None:
        return "–"
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if us >= size:
            return f"{figure(us / size)} {unit}"
    return f"{figure(us)} µs"


def percent_text(share):
    return "–" if share is None else f"{100 * share:.0f} %"


def median_of(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def spread_text(values, unit=""):
    values = [v for v in values if v is not None]
    if len(values) < 2:
        return ""
    return f"{figure(min(values))}–{figure(max(values))}{unit}"


# ---- a server under load ----

def details(line, metric):
    """Sorted milliseconds of every request or gap, where the result was saved in detail."""
    found = line.get("ttfts" if metric == "ttft" else "itls" if metric == "itl" else "")
    if not isinstance(found, list):
        return []
    errors = line.get("errors")
    whole = [not e for e in errors] if isinstance(errors, list) and len(errors) == len(found) else [True] * len(found)
    if metric == "itl":
        if not all(isinstance(gaps, list) for gaps in found):
            raise Bad("itls is no list of lists")
        found = [gap for gaps, good in zip(found, whole) if good for gap in gaps]
    else:
        found = [value for value, good in zip(found, whole) if good]
    if not all(type(v) in (int, float) and math.isfinite(v) for v in found):
        raise Bad(f"{metric}: not all samples are numbers")
    return sorted(1e3 * v for v in found)


class Load:
    """The repetitions of a run at one load."""

    def __init__(self, kind, at):
        self.kind, self.at, self.lines, self._samples = kind, at, [], {}

    def value(self, key):
        return median_of([number(line, key) for line in self.lines])

    def samples(self, metric):
        if metric not in self._samples:
            self._samples[metric] = sorted(v for line in self.lines for v in details(line, metric))
        return self._samples[metric]

    def quantile(self, metric, percent):
        key = f"median_{metric}_ms" if percent == 50 else f"p{percent}_{metric}_ms"
        told = self.value(key)
        return told if told is not None else percentile(self.samples(metric), percent)


def load_text(load):
    return f"{load.at:g} stream" if (load.kind, load.at) == ("streams", 1) else f"{load.at:g} {load.kind}"


def load_of(line):
    """What was varied, and to what: a rate where there was a clock, else how many at once."""
    rate, most = line.get("request_rate"), line.get("max_concurrency")
    if isinstance(rate, (int, float)) and not isinstance(rate, bool):
        return "requests/s", number(line, "request_rate")
    if most is not None:
        return "streams", number(line, "max_concurrency")
    return "at once", number(line, "num_prompts", needed=True)


def loads(run):
    found = {}
    for line in run.lines:
        if is_serve(line):
            kind, at = load_of(line)
            found.setdefault((kind, at), Load(kind, at)).lines.append(line)
    return [found[key] for key in sorted(found)]


LOAD_AXIS = {"streams": "Streams at once", "requests/s": "Requests per second", "at once": "Requests sent at once"}


def curve(plot, run, points, name):
    """points: (x, y, text of the load)."""
    plot.line([(x, y) for x, y, _ in points], run.kind)
    for x, y, title in points:
        plot.dot(x, y, run.kind, f"{run.label}: {title}", run.shape)
    if name:
        plot.label_any([p[:2] for p in reversed(points)], clean(run.label, 24), run.kind + " strong", 10)


def throughput_figures(runs):
    figures = []
    for metric, title in (("ttft", "Time to first token"), ("tpot", "Time per output token")):
        every = [(run, [(load.value("output_throughput"), load.quantile(metric, 50), load) for load in loads(run)])
                 for run in runs]
        every = [(run, [p for p in points if p[0] is not None and p[1]]) for run, points in every]
        every = [(run, points) for run, points in every if points]
        if not every:
            continue
        flat = [p for _, points in every for p in points]
        plot = Plot(f"{title} over throughput", Axis([p[0] for p in flat], "Output tokens per second", zero=True),
                    Axis([p[1] for p in flat], f"{title}, median (ms)", log=True))
        for run, points in every:
            curve(plot, run, [(x, y, f"{load_text(load)}, {figure(x)} tokens/s, {figure(y)} ms")
                              for x, y, load in points], len(every) > 1)
            for x, y, load in points:
                plot.label(x, y, f"{load.at:g}", run.kind, 1)
        what = sorted({p[2].kind for p in flat})
        figures.append(Figure(f"{title} against throughput", plot, f"Numbers beside the points: {' or '.join(what)}"))
    return figures


def band_plot(metric, kind, every, axes, name):
    plot = Plot(name, *axes)
    for run, points in every:
        # Tokens that came together came after no time, which a logarithm cannot show.
        rows = [(load.at, *(load.quantile(metric, q) or None for q in (50, 90, 99))) for load in points]
        plot.band([(at, p50, p99) for at, p50, _, p99 in rows], run.kind)
        plot.thin([(at, p99) for at, _, _, p99 in rows], run.kind)
        plot.line([(at, p90) for at, _, p90, _ in rows], run.kind, ' stroke-dasharray="5 4"')
        plot.line([(at, p50) for at, p50, _, _ in rows], run.kind)
        for at, p50, p90, p99 in rows:
            if p50 is not None:
                plot.dot(at, p50, run.kind, f"{run.label}, {load_text(Load(kind, at))}: p50 {figure(p50)}, "
                         f"p90 {figure(p90)}, p99 {figure(p99)} ms", run.shape)
        for value, quantile in zip(rows[-1][1:], ("p50", "p90", "p99")):
            if value:
                plot.label(rows[-1][0], value, quantile, run.kind, 5)
        if len(every) > 1:
            plot.label_any([row[:2] for row in rows if row[1]], clean(run.label, 24), run.kind + " strong", 9)
    return plot


def band_figures(runs):
    """Two runs share a plot; the bands of more would hide each other, so each has its own, to one scale."""
    figures = []
    for kind in LOAD_AXIS:
        for metric in ("ttft", "itl"):
            every = [(run, [load for load in loads(run) if load.kind == kind and load.quantile(metric, 99)])
                     for run in runs]
            every = [(run, points) for run, points in every if len(points) > 1]
            if not every:
                continue
            values = [load.quantile(metric, q) for _, points in every for load in points for q in (50, 90, 99)]
            axes = (SetAxis([load.at for _, points in every for load in points], LOAD_AXIS[kind]),
                    Axis([v for v in values if v], f"{METRICS[metric]} (ms)", log=True))
            title = f"{METRICS[metric]} over {LOAD_AXIS[kind].lower()}"
            together = len(every) < 3
            for group in [every] if together else [[one] for one in every]:
                name = METRICS[metric] if together else f"{METRICS[metric]}, {group[0][0].label}"
                figures.append(Figure(title, band_plot(metric, kind, group, axes, name),
                                      "" if together else group[0][0].label))
    return figures


def thin_out(values, most):
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def cdf_figures(runs):
    figures = []
    every = {run.label: loads(run) for run in runs}
    for metric in ("ttft", "itl"):
        with_samples = sorted({(load.kind, load.at) for found in every.values() for load in found
                               if load.samples(metric)})
        for key in thin_out(with_samples, CDF_PANELS_MAX):
            found = [(run, load.samples(metric)) for run in runs for load in every[run.label]
                     if (load.kind, load.at) == key and load.samples(metric)]
            title = f"{METRICS[metric]}, {load_text(Load(*key))}"
            # What came together came after no time at all, which a logarithm cannot show.
            edges = [max(v, 0.01) for _, s in found for v in (percentile(s, 1), s[-1])]
            plot = Plot(title, Axis(edges, f"{METRICS[metric]} (ms)", log=True),
                        Axis([0, 100], "Share that is faster (%)"), width=360, height=250)
            plot.y.low, plot.y.high = 0, 103
            for run, samples in found:
                steps = [i * 100 / CDF_POINTS for i in range(CDF_POINTS + 1)]
                plot.line([(max(percentile(samples, p), plot.x.low), p) for p in steps], run.kind)
                half, tail = percentile(samples, 50), percentile(samples, 99)
                plot.dot(max(half, plot.x.low), 50, run.kind, f"{run.label}: p50 {figure(half)} ms", run.shape)
                plot.dot(max(tail, plot.x.low), 99, run.kind, f"{run.label}: p99 {figure(tail)} ms", run.shape)
                if len(found) < 4:
                    plot.label(half, 50, f"{figure(half)} ms", run.kind, 3)
                if len(found) < 3:
                    plot.label(tail, 99, f"p99 {figure(tail)}", run.kind, 2)
                if len(found) == 2:
                    plot.label_any([(percentile(samples, p), p) for p in (75, 25, 85, 15)], clean(run.label, 24),
                                   run.kind + " strong", 1)
            figures.append(Figure(title, plot, small=True))
    return figures


def ours(line, *path):
    """What our load generator says beyond vLLM's keys."""
    found = line.get("firstlight")
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def trust(load):
    """How many answers, and what speaks against the figures."""
    out = [f"{load.value('completed') or 0:.0f}"]
    if load.value("failed"):
        out.append(f"{load.value('failed'):.0f} FAILED")
    if any(ours(line, "server_metrics", "verdict") == "differ" for line in load.lines):
        out.append("SERVER COUNTED OTHERWISE")
    busy = [ours(line, "client_cpu_share") for line in load.lines]
    if any(isinstance(share, (int, float)) and share > CLIENT_BUSY for share in busy):
        out.append("CLIENT BUSY")
    return ", ".join(out)


def long_table(runs):
    """What a stranger's long prompt costs those who read."""
    rows = []
    for run in runs:
        for load in loads(run):
            for line in load.lines:
                found = ours(line, "long_prompt")
                if not isinstance(found, dict):
                    continue
                rows.append((run, [clean(run.label, 40), load_text(load)] + [
                    figure(number(found, key)) for key in (
                        "prompts", "median_ttft_ms", "median_itl_quiet_ms", "p99_itl_quiet_ms",
                        "median_itl_beside_ms", "p99_itl_beside_ms", "itl_p99_ratio")]))
    columns = ["run", "load", "long prompts", "their TTFT p50 ms", "ITL p50 ms without", "p99", "ITL p50 ms beside them",
               "p99", "ratio of p99"]
    return [Table("Beside long prompts", columns, rows, 2)] if rows else []


def serve_table(runs):
    rows = []
    for run in runs:
        for load in loads(run):
            tokens = [number(line, "output_throughput") for line in load.lines]
            cells = [clean(run.label, 40), load_text(load), trust(load),
                     Cell(figure(load.value("output_throughput")), small=spread_text(tokens))]
            for metric, percents in (("ttft", (50, 90, 99)), ("itl", (50, 90, 99)), ("tpot", (50,)), ("e2el", (50,))):
                cells += [figure(load.quantile(metric, q)) for q in percents]
            hashes = sorted({answers_of(line) for line in load.lines})
            rows.append((run, cells + [" ".join(hashes) or "–"]))
    columns = ["run", "load", "answers", "tokens/s"]
    columns += [f"TTFT p{q} ms" for q in (50, 90, 99)] + [f"ITL p{q} ms" for q in (50, 90, 99)]
    return Table("Every load", columns + ["TPOT p50 ms", "whole p50 ms", "hash of the answers"], rows, 2)


def serve_section(runs):
    if not any(loads(run) for run in runs):
        return None
    return Section(
        "A server under load",
        "Right and down is better: more tokens in the same time, sooner. Time to first token counts from "
        "when a request was meant to be sent. Lines are p50, dashed p90, the edge of the band p99.",
        throughput_figures(runs) + band_figures(runs) + cdf_figures(runs), [serve_table(runs)] + long_table(runs))


# ---- operations ----

FAMILIES = (("w8a8", "int8 products", "r0", "circle"), ("w8a16", "int8 weights, float input", "r1", "square"),
            ("f32", "float products", "r2", "diamond"), ("attention", "attention", "r3", "up"),
            ("library", "NVIDIA's library", "r5", "cross"), ("other", "the rest", "r7", "down"))


def family_of(line):
    if line["op"] == "linear":
        return line["kind"] if line["kind"] in ("w8a8", "w8a16", "f32", "library") else "other"
    return "attention" if line["op"] == "attention" else "other"


def roofs_of(run):
    """The best that was seen: GB/s of reading, GOP/s by kind of number."""
    found = {}
    for line in run.of("roof"):
        name = "int8" if text(line, "name").startswith("int8") else text(line, "name")
        value = number(line, "gbps") if name == "read" else number(line, "gops") or 1e3 * (number(line, "tops") or 0)
        if name in ("read", "int8", "f32") and value:
            found[name] = max(found.get(name, 0.0), value)
    return found


def op_lines(run):
    """Lines of bench_ops, and those of bench_gpu in the same words."""
    out = []
    for line in run.of("op", "linear", "attention"):
        gpu = line["part"] != "op"
        kernel = text(line, "kernel")
        one = {"model": text(line, "model", "?"), "op": text(line, "op") or text(line, "part"), "name": text(line, "name"),
               "kind": text(line, "kind"), "peak": text(line, "peak", "int8"), "rows": number(line, "rows", True),
               "context": number(line, "context") or 0, "us": number(line, "us", True),
               "gbps": number(line, "gbps") or 0.0, "hash": answers_of(line),
               "gops": number(line, "gops") or 1e3 * (number(line, "tops") or 0.0)}
        if gpu and line["part"] == "linear":
            one["kind"] = "library" if kernel.startswith("library") else "w8a16" if "half" in kernel else "w8a8"
            one["name"] += f", {kernel}"
        elif gpu:
            one["rows"] *= number(line, "seqs") or 1
            one["peak"] = "none"
        out.append(one)
    return out


def share_of_roof(line, roofs):
    shares = [line["gbps"] / roofs["read"]] if "read" in roofs else []
    if line["peak"] in roofs and line["gops"]:
        shares.append(line["gops"] / roofs[line["peak"]])
    return max(shares) if shares else None


def roofline(run, model, lines, roofs, axes, unit):
    plot = Plot(f"Roofline of {model}, {run.label}", *axes, height=390)
    low, high = plot.x.low, plot.x.high
    scale, unit_name = unit
    reads = roofs["read"] / scale
    for name, label in (("int8", "int8"), ("f32", "f32")):
        if name in roofs:
            top = roofs[name] / scale
            level = [(max(top / reads, low), top), (high, top)]
            plot.line(level, "roof")
            plot.along(*level, f"{label} {figure(top)} {unit_name}", "roof")
    top = max([roofs[n] / scale for n in ("int8", "f32") if n in roofs] or [plot.y.high])
    ends = [(low, low * reads), (min(top / reads, high), min(top, high * reads))]
    plot.line(ends, "roof")
    plot.along(*ends, f"reads {figure(roofs['read'])} GB/s", "roof")
    chains = {}
    for line in lines:
        chains.setdefault((line["op"], line["name"], line["kind"], line["context"]), []).append(line)
    for chain in chains.values():
        chain.sort(key=lambda line: line["rows"])
        points = [(line["gops"] / line["gbps"], line["gops"] / scale) for line in chain]
        kind, shape = next((k, s) for name, _, k, s in FAMILIES if name == family_of(chain[0]))
        if chain[0]["op"] == "linear":
            plot.thin(points, kind + " faint")
        for line, (x, y) in zip(chain, points):
            where = f", {line['context']:g} tokens" if line["context"] else ""
            share = share_of_roof(line, roofs)
            plot.dot(x, y, kind, f"{line['op']} {line['name']} {line['kind']}, {line['rows']:g} rows{where}: "
                     f"{time_text(line['us'])}, {figure(y)} {unit_name}, {figure(line['gbps'])} GB/s, "
                     f"{percent_text(share)} of the roof", shape, 3.2)
        if chain[0]["op"] == "linear" and chain[0]["name"] == "gate_up":
            plot.label(*points[0], "1 row", kind, 1)
            plot.label(*points[-1], f"{chain[-1]['rows']:,.0f} rows", kind, 1)
    return plot


def share_plot(run, model, lines, roofs):
    """The int8 products by rows, by the best kernel for each: which falls off, and where."""
    best = {}
    for line in lines:
        if family_of(line) == "w8a8":
            at = best.setdefault(line["name"].split(",")[0], {})
            share = 100 * share_of_roof(line, roofs)
            at[line["rows"]] = max(at.get(line["rows"], (0, 0)), (share, line["us"]))
    every = [point for at in best.values() for point in at.items()]
    if len({rows for rows, _ in every}) < 2:
        return None
    plot = Plot(f"Share of the roof of {model}, {run.label}", SetAxis([rows for rows, _ in every], "Rows"),
                Axis([share for _, (share, _) in every] + [100], "Share of the roof (%)", zero=True), height=390)
    plot.line([(plot.x.low, 100), (plot.x.high, 100)], "roof")
    for i, (name, at) in enumerate(list(best.items())[:COLOURS]):
        chain = sorted((rows, *point) for rows, point in at.items())
        plot.line([(rows, share) for rows, share, _ in chain], f"r{i}")
        for rows, share, us in chain:
            plot.dot(rows, share, f"r{i}", f"{name}, {rows:g} rows: {share:.0f} % of the roof, {time_text(us)}",
                     SHAPES[i % len(SHAPES)])
        plot.label_any([(rows, share) for rows, share, _ in reversed(chain)], name, f"r{i} strong", 10)
    return plot


def work_unit(runs):
    """(GOP/s of one, name): TOP/s where the machine has many."""
    most = max([v for run in runs for name, v in roofs_of(run).items() if name != "read"], default=0.0)
    return (1e3, "TOP/s") if most >= 2e4 else (1.0, "GOP/s")


def op_axes(runs):
    unit, unit_name = work_unit(runs)
    points = [(line["gops"] / line["gbps"], line["gops"]) for run in runs if "read" in roofs_of(run)
              for line in op_lines(run) if line["gops"] and line["gbps"]]
    tops = [v for run in runs for name, v in roofs_of(run).items() if name != "read"]
    x = Axis([p[0] for p in points], "Operations per byte", log=True)
    y = Axis([v / unit for v in [p[1] for p in points] + tops], f"Arithmetic ({unit_name})", log=True)
    y.high *= 1.6
    return (x, y), bool(points)


def op_table(run, model, lines, roofs):
    rows = sorted({line["rows"] for line in lines})
    cells = {}
    for line in lines:
        where = f" at {line['context']:g}" if line["context"] and line["op"] == "attention" else ""
        name = f"{line['op']} {line['name']}{where}, {line['kind']}".rstrip(", ")
        cells.setdefault(name, {}).setdefault(line["rows"], []).append(line)
    body = []
    for name, at in cells.items():
        body.append((run, [name]))
        for r in rows:
            share = median_of([share_of_roof(line, roofs) for line in at.get(r, [])])
            us = median_of([line["us"] for line in at.get(r, [])])
            body[-1][1].append(Cell(percent_text(share) if share is not None else time_text(us), min(share or 0.0, 1.0),
                                    time_text(us) if share is not None else "") if r in at else "")
    title = f"{model}, {clean(run.label, 40)}: share of the roof and time, by rows"
    return Table(title, ["operation"] + [f"{r:g}" for r in rows], body)


def ops_section(runs):
    (axes, any_points), unit = op_axes(runs), work_unit(runs)
    seen = {family_of(line) for run in runs for line in op_lines(run)}
    figures, tables = [], []
    models = []
    for run in runs:
        models += dict.fromkeys(line["model"] for line in op_lines(run) if line["model"] not in models)
    for model in models:
        for run in runs:
            lines, roofs = [line for line in op_lines(run) if line["model"] == model], roofs_of(run)
            whose = f", {run.label}" if len(runs) > 1 else ""
            if not lines:
                continue
            tables.append(op_table(run, model, lines, roofs))
            with_work = [line for line in lines if line["gops"] and line["gbps"]]
            if any_points and with_work and "read" in roofs:
                figures.append(Figure(f"{model}: work and traffic{whose}", roofline(run, model, with_work, roofs, axes, unit)))
                plot = share_plot(run, model, lines, roofs)
                figures += [Figure(f"{model}: int8 products{whose}", plot)] if plot else []
    if not tables:
        return None
    return Section(
        "Operations",
        "Each point is an operation at a number of rows; faint lines join the same product from one row to many. "
        "The roofs are the best that reading memory and arithmetic in registers (on a GPU: its maker's library) reached in "
        "the same run; the nearer to them, the better. In the tables the share is of whichever roof is lower there. Operands came from memory, "
        "not from a cache.", figures, tables, [(title, kind, shape) for name, title, kind, shape in FAMILIES if name in seen])


# ---- whole steps, starting, the rest ----

def step_plot(runs, part, across, label):
    series = {}
    for run in runs:
        for line in run.of(part):
            key = (run.index, text(line, "model", "?"))
            series.setdefault(key, []).append((number(line, across, True), number(line, "tokens_per_s", True), line))
    series = {key: sorted(points, key=lambda p: p[0]) for key, points in series.items()}
    flat = [p for points in series.values() for p in points]
    if len({p[0] for p in flat}) < 2:
        return None
    plot = Plot(label, SetAxis([p[0] for p in flat], label), Axis([p[1] for p in flat], "Tokens per second", zero=True))
    names = sorted({model for _, model in series})
    for (index, model), points in series.items():
        run = runs[index]
        shape = SHAPES[names.index(model) % len(SHAPES)] if len(names) > 1 else run.shape
        plot.line([(x, y) for x, y, _ in points], run.kind)
        for x, y, line in points:
            roof = number(line, "roof")
            plot.dot(x, y, run.kind, f"{run.label}, {model}: {x:g} {across}, {figure(y)} tokens/s"
                     + (f", {percent_text(roof)} of the roof" if roof else ""), shape)
            if roof and part == "decode":
                plot.label(x, y, percent_text(roof), run.kind, 1)
        several = len({i for i, _ in series}) > 1
        name = ", ".join(n for n in (clean(run.label, 20) * several, model * (len(names) > 1)) if n)
        if name:
            plot.label(*points[-1][:2], name, run.kind + " strong", 10)
    return plot


def steps_section(runs):
    figures, rows = [], []
    for part, across, label, title in (("decode", "seqs", "Sequences", "Decoding"),
                                       ("prompt", "rows", "Tokens of the prompt", "Reading a prompt")):
        plot = step_plot(runs, part, across, label)
        if plot:
            note = "Beside the points: share of the reading roof" if part == "decode" else ""
            figures.append(Figure(f"{title}, without a server", plot, note))
    for run in runs:
        for line in run.of("decode", "prompt"):
            roof = number(line, "roof")
            rows.append((run, [clean(run.label, 40), text(line, "model", "?"), line["part"], f"{number(line, 'seqs') or 0:g}",
                               f"{number(line, 'rows') or 0:g}", f"{number(line, 'context') or 0:g}",
                               time_text(number(line, "us", True)), figure(number(line, "tokens_per_s")),
                               Cell(percent_text(roof), min(roof or 0.0, 1.0))]))
    if not rows:
        return None
    columns = ["run", "model", "step", "sequences", "rows", "context", "time", "tokens/s", "of the reading roof"]
    return Section("Whole steps of a model", "A step as the scheduler asks for it, without a server around it. The share "
                   "is of the time in which weights and cache, each read once, could have been read.", figures,
                   [Table("Steps", columns, rows, 3)])


def start_section(runs):
    rows = []
    for run in runs:
        for line in run.lines:
            if line.get("part") == "start" or "first_ms" in line:
                rows.append((run, [clean(run.label, 40), text(line, "model", "?"), text(line, "runs", "1")]
                             + [figure(number(line, key)) for key in ("first_ms", "least_ms", "cpu_ms", "peak_mb")]))
    if not rows:
        return None
    return Section("From the command to the first token", "Files in the page cache.", [],
                   [Table("Starts", ["run", "model", "times", "median ms", "least ms", "processor ms", "peak MB"], rows, 2)])


def other_section(runs):
    """What a GPU says of itself, as it came."""
    tables = []
    for part, title in (("device", "Devices"), ("load", "Loading"), ("gap", "From one small kernel to the next"),
                        ("note", "Notes")):
        columns, rows = [], []
        for run in runs:
            for line in run.of(part):
                columns += [c for c in line if c != "part" and c not in columns]
        for run in runs:
            for line in run.of(part):
                rows.append((run, [clean(run.label, 40)] + [text(line, c, "–") for c in columns]))
        if rows:
            tables.append(Table(title, ["run"] + [clean(c, 40) for c in columns], rows))
    return Section("Device, loading, notes", "As measured.", [], tables) if tables else None


SECTIONS = (serve_section, steps_section, ops_section, start_section, other_section)


def headlines(runs):
    """{what: [(run, number, unit)]}: a few figures that say most."""
    out = {}

    def say(run, what, value, unit):
        if value is not None:
            out.setdefault(what, []).append((run, figure(value), unit))

    for run in runs:
        found = loads(run)
        best = max(found, key=lambda load: load.value("output_throughput") or 0, default=None)
        if best:
            first = found[0]
            say(run, "the most output", best.value("output_throughput"), f"tokens/s, {load_text(best)}")
            say(run, f"to the first token, {load_text(first)}, median", first.quantile("ttft", 50), "ms")
            say(run, f"per token, {load_text(first)}, median", first.quantile("tpot", 50), "ms")
        for line in run.of("decode"):
            if number(line, "seqs") == 1 and number(line, "roof"):
                say(run, f"of the memory's reading speed, {text(line, 'model', '?')} decoding one stream",
                    100 * number(line, "roof"), "%")
        for line in run.lines:
            if line.get("part") == "start" or "first_ms" in line:
                say(run, f"from exec to the first token, {text(line, 'model', '?')}", number(line, "first_ms"), "ms")
    return out
