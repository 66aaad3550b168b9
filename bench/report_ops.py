"""Single operations beside what the machine could do: rooflines, shares of the roof, times."""
from plot import SHAPES, Axis, Plot, SetAxis, figure
from report_base import COLOURS, Cell, Figure, Section, Table, median_of, percent_text, time_text
from results import clean, number, text

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
        if name in ("read", "int8", "int16", "f32") and value:
            found[name] = max(found.get(name, 0.0), value)
    return found


def op_lines(run):
    """Lines of bench_ops, and those of bench_gpu in the same words."""
    out = []
    for line in run.of("op", "linear", "attention"):
        gpu = line["part"] != "op"
        kernel = text(line, "kernel")
        one = {"model": text(line, "model", "?"), "op": text(line, "op") or text(line, "part"),
               "name": text(line, "name"), "kind": text(line, "kind"), "peak": text(line, "peak", "int8"),
               "rows": number(line, "rows", True), "context": number(line, "context") or 0,
               "us": number(line, "us", True), "gbps": number(line, "gbps") or 0.0,
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
            known = share is not None
            cell = Cell(percent_text(share) if known else time_text(us), min(share or 0.0, 1.0),
                        time_text(us) if known else "")
            body[-1][1].append(cell if r in at else "")
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
                figures.append(Figure(f"{model}: work and traffic{whose}",
                                      roofline(run, model, with_work, roofs, axes, unit)))
                plot = share_plot(run, model, lines, roofs)
                figures += [Figure(f"{model}: int8 products{whose}", plot)] if plot else []
    if not tables:
        return None
    keys = [(title, kind, shape) for name, title, kind, shape in FAMILIES if name in seen]
    return Section(
        "Operations",
        "Each point is an operation at a number of rows; faint lines join the same product from one row to many. "
        "The roofs are the best that reading memory and arithmetic in registers (on a GPU: its maker's library) "
        "reached in the same run; the nearer to them, the better. In the tables the share is of whichever roof is "
        "lower there. Operands came from memory, not from a cache.", figures, tables, keys)
