"""Whole steps of a model, the time to its first token, and what a device says of itself."""
from plot import SHAPES, Axis, Plot, SetAxis, figure
from report_base import Cell, Figure, Section, Table, percent_text, time_text
from results import clean, number, text


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
    plot = Plot(label, SetAxis([p[0] for p in flat], label),
                Axis([p[1] for p in flat], "Tokens per second", zero=True))
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
            counts = [f"{number(line, key) or 0:g}" for key in ("seqs", "rows", "context")]
            rows.append((run, [clean(run.label, 40), text(line, "model", "?"), line["part"], *counts,
                               time_text(number(line, "us", True)), figure(number(line, "tokens_per_s")),
                               Cell(percent_text(roof), min(roof or 0.0, 1.0))]))
    if not rows:
        return None
    columns = ["run", "model", "step", "sequences", "rows", "context", "time", "tokens/s", "of the reading roof"]
    return Section(
        "Whole steps of a model",
        "A step as the scheduler asks for it, without a server around it. The share is of the time in which weights "
        "and cache, each read once, could have been read.", figures, [Table("Steps", columns, rows, 3)])


def is_start(line):
    return line.get("part") == "start" or "first_ms" in line


def start_section(runs):
    rows = []
    for run in runs:
        for line in run.lines:
            if is_start(line):
                cells = [figure(number(line, key)) for key in ("first_ms", "least_ms", "cpu_ms", "peak_mb")]
                rows.append((run, [clean(run.label, 40), text(line, "model", "?"), text(line, "runs", "1")] + cells))
    if not rows:
        return None
    return Section("From the command to the first token", "Files in the page cache.", [],
                   [Table("Starts", ["run", "model", "times", "median ms", "least ms", "processor ms", "peak MB"],
                          rows, 2)])


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
