"""A server under load: what bench_serve and `vllm bench serve` measured, as plots and tables."""
import math

from plot import Axis, Plot, SetAxis, figure
from report_base import Cell, Figure, Section, Table, median_of, spread_text
from results import Bad, answers_of, clean, is_serve, number, percentile

CDF_PANELS_MAX = 6
CDF_POINTS = 160
CLIENT_BUSY = 0.8  # of a core: above it latencies may be the client's
METRICS = {"ttft": "Time to first token", "tpot": "Time per output token", "itl": "Between tokens",
           "e2el": "Whole answer"}


def details(line, metric):
    """Sorted milliseconds of every request or gap, where the result was saved in detail."""
    found = line.get("ttfts" if metric == "ttft" else "itls" if metric == "itl" else "")
    if not isinstance(found, list):
        return []
    errors = line.get("errors")
    told = isinstance(errors, list) and len(errors) == len(found)
    whole = [not e for e in errors] if told else [True] * len(found)
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
