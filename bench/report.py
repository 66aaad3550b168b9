#!/usr/bin/env python3
"""Results of the bench programs as one page with plots, or as tables ready to paste.

    report.py [LABEL=]FILE... --out PAGE.html [--title TEXT] [--machine TEXT] [--commit TEXT] [--date TEXT]
              [--picture TOP.png]
    report.py [LABEL=]FILE... --markdown

Files of bench_serve (and of `vllm bench serve`), bench_ops, bench_steps, bench_load and bench_gpu in any
order; results.py says in which forms. Files of one label are one run, drawn in one colour; without a
label a result's own counts, then the file's name. Machine, commit and date come from the results where
they tell them. The page needs nothing from outside and no script. --picture takes its top with Chromium.

Exit status: 0, 2 when a file or an argument is not understood.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from plot import esc, figure, marker
from report_base import Run, Table
from report_ops import ops_section
from report_serve import load_text, loads, serve_section
from report_steps import is_start, other_section, start_section, steps_section
from results import Bad, clean, is_serve, number, read, text

SECTIONS = (serve_section, steps_section, ops_section, start_section, other_section)

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1d1f23;--soft:#5d626b;--grid:#e7e7e3;--edge:#dcdcd6;
--c0:#0067a8;--c1:#c44e00;--c2:#00805c;--c3:#a8327f;--c4:#8f6a00;--c5:#4b5fd6;--c6:#8a4b2a;--c7:#6d727b}
@media (prefers-color-scheme:dark){:root{--paper:#121418;--card:#191c21;--ink:#e9e9e6;--soft:#a2a7b0;--grid:#2a2e35;
--edge:#31363e;--c0:#5bb0ee;--c1:#ff9350;--c2:#3ccfa2;--c3:#ee8fcb;--c4:#e8bd4f;--c5:#a3aeff;--c6:#d9a27e;--c7:#9aa0aa}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","Liberation Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:30px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:21px;margin:52px 0 4px;letter-spacing:-.005em}
p{margin:0 0 16px;color:var(--soft);max-width:70ch}
.keys{display:flex;flex-wrap:wrap;gap:6px 20px;margin:12px 0 0;padding:8px 0;position:sticky;top:0;z-index:2;
background:var(--paper)}
.keys label{display:inline-flex;align-items:center;gap:8px;cursor:pointer;font-weight:600;color:var(--c)}
.keys input{accent-color:var(--c);margin:0}
.keys svg,.families svg{width:14px;height:14px;flex:none}
.families{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 14px;font-size:14px}
.families span{display:inline-flex;align-items:center;gap:6px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px;margin:22px 0 0}
.tile{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:12px 16px}
.tile b{display:block;font-size:27px;line-height:1.15;margin-bottom:2px;font-weight:650;letter-spacing:-.01em}
.tile b small{font-size:15px;font-weight:500;color:var(--soft)}
.tile span{display:block;font-size:14px;color:var(--soft);line-height:1.35}
.tile.many b{color:var(--c);font-size:23px}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));gap:16px}
.plots+.plots{margin-top:16px}
.plots.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}
figcaption small{display:block;font-weight:400;font-size:13px;color:var(--soft)}
figure{margin:0;background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:12px 12px 6px}
figcaption{font-weight:600;font-size:15px;padding:0 4px 6px;overflow-wrap:anywhere}
figure svg{display:block;width:100%;height:auto}
svg text{font-size:12px;fill:var(--ink);font-family:inherit}
svg .tick{fill:var(--soft)}
svg .name{fill:var(--soft);font-size:12.5px}
svg .label{fill:var(--c,var(--ink));paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
svg .strong{font-weight:650}
.grid{stroke:var(--grid);stroke-width:1;fill:none}
.axis{stroke:var(--soft);stroke-width:1;fill:none}
.line{stroke:var(--c);stroke-width:2.2;fill:none;stroke-linejoin:round;stroke-linecap:round}
.thin{stroke-width:1.2}
.faint{stroke-opacity:.38}
.band{fill:var(--c);fill-opacity:.13;stroke:none}
.dot{fill:var(--c);stroke:var(--card);stroke-width:1.2}
.dot:hover{stroke:var(--ink);stroke-width:2}
.line.roof{stroke:var(--ink);stroke-width:1.6;stroke-opacity:.75}
svg .label.roof{fill:var(--ink)}
.r0{--c:var(--c0)}.r1{--c:var(--c1)}.r2{--c:var(--c2)}.r3{--c:var(--c3)}.r4{--c:var(--c4)}.r5{--c:var(--c5)}
.r6{--c:var(--c6)}.r7{--c:var(--c7)}
.scroll{overflow-x:auto;margin:14px 0 0;border:1px solid var(--edge);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:13.5px;line-height:1.3}
caption{text-align:left;font-weight:600;font-size:15px;padding:10px 12px 8px}
th,td{padding:5px 10px;text-align:right;white-space:nowrap;border-top:1px solid var(--grid)}
th{color:var(--soft);font-weight:500;vertical-align:bottom;white-space:normal}
.w{text-align:left}
td small{display:block;color:var(--soft);font-size:11.5px}
td.w:first-child{position:sticky;left:0;background:var(--card)}
td.s{background:color-mix(in srgb,var(--c2) calc(var(--share)*55%),transparent)}
tr.keyed td:first-child{color:var(--c);font-weight:600}
footer{margin-top:44px;color:var(--soft);font-size:14px}
@media (max-width:560px){main{padding:18px 12px 40px}h1{font-size:25px}.plots{gap:12px}figure{padding:10px 4px 4px}
figcaption{padding:0 8px 4px}svg text{font-size:13px}.tile b{font-size:23px}}
@media print{.keys input{display:none}figure,.tile,.scroll{break-inside:avoid}}
"""

ABOUT = ("machine", "backend", "kernels", "cores", "threads", "commit", "time")
LABELLED = re.compile(r"([^=/]{1,60})=(.+)", re.DOTALL)


# ---- runs ----

def when(line):
    """2026-11-22 18:14, of the forms that the tools write."""
    found = clean(line.get("time") or line.get("date") or "")
    match = re.match(r"(\d{4})-?(\d\d)-?(\d\d)[T-](\d\d):?(\d\d)", found)
    return f"{match[1]}-{match[2]}-{match[3]} {match[4]}:{match[5]}" if match else ""


def learn(run, line):
    """What a line tells of the machine; the first that says something is believed."""
    told = {key: line.get(key) for key in ABOUT}
    if line.get("part") == "device":
        told["machine"] = line.get("name")
    if line.get("part") not in (None, "about", "device"):
        told = {"backend": line.get("backend")}
    if is_serve(line):
        told.update(backend=None, time=None)
    told["time"] = when(line)
    for key, value in told.items():
        if value not in (None, "") and key not in run.about:
            run.about[key] = clean(value)


def gather(names):
    runs = {}
    for name in names:
        match = LABELLED.fullmatch(name)
        label, path = (match[1], match[2]) if match else ("", name)
        lines, form = read(path)
        if form == "csv":
            lines = [from_csv(path, row) for row in lines]
        for line in lines:
            own = line.get("label") if is_serve(line) else None
            shown = clean(label or own or pathlib.Path(path).stem, 60)
            run = runs.setdefault(shown, Run(shown, len(runs)))
            run.lines.append(line)
            learn(run, line)
    return list(runs.values())


def from_csv(path, row):
    """bench_load's rows; for others there are no plots, but compare.py."""
    if "first_ms" not in row:
        raise Bad(f"{clean(path)}: of CSV only bench_load's can be shown")
    try:
        return {"part": "start", **row, **{key: float(row[key]) for key in row if key.endswith(("_ms", "_mb"))}}
    except ValueError as wrong:
        raise Bad(f"{clean(path)}: {clean(wrong)}") from None


# ---- the page ----

def headlines(runs):
    """{what: [(run, number, unit)]}: a few figures that say most."""
    out = {}

    def say(run, what, value, unit):
        if value is not None:
            out.setdefault(what, []).append((run, figure(value), unit))

    bests = {run.index: max(loads(run), key=lambda load: load.value("output_throughput") or 0) for run in runs
             if loads(run)}
    at = {load_text(best) for best in bests.values()}
    most = "the most output" + (f", {min(at)}" if len(at) == 1 else "")
    for run in runs:
        best = bests.get(run.index)
        if best:
            first = loads(run)[0]
            say(run, most, best.value("output_throughput"), "tokens/s" if len(at) == 1 else f"tokens/s, {load_text(best)}")
            say(run, f"to the first token, {load_text(first)}, median", first.quantile("ttft", 50), "ms")
            say(run, f"per token, {load_text(first)}, median", first.quantile("tpot", 50), "ms")
        for line in run.of("decode"):
            # A model that lies in the caches is not read from memory.
            if number(line, "seqs") == 1 and 0 < (number(line, "roof") or 0) <= 1:
                say(run, f"of the memory's reading speed, {text(line, 'model', '?')} decoding one stream",
                    100 * number(line, "roof"), "%")
        for line in run.lines:
            if is_start(line):
                say(run, f"from exec to the first token, {text(line, 'model', '?')}", number(line, "first_ms"), "ms")
    return out


LEFT = ' class="w"'


def cell_html(cell, name):
    share = getattr(cell, "share", 0.0)
    small = getattr(cell, "small", "")
    shown = esc(getattr(cell, "text", cell))
    attributes = LEFT if name else f' class="s" style="--share:{share:.2f}"' if share else ""
    return f"<td{attributes}>{shown}{f'<small>{esc(small)}</small>' if small else ''}</td>"


def table_html(table, keyed):
    head = "".join(f"<th{LEFT if i < table.names else ''}>{esc(c)}</th>" for i, c in enumerate(table.columns))
    keyed = keyed and table.columns[0] == "run"
    body = "".join(f'<tr class="{"keyed " if keyed else ""}{run.kind} run{run.index}">'
                   + "".join(cell_html(cell, i < table.names) for i, cell in enumerate(cells)) + "</tr>"
                   for run, cells in table.rows)
    return (f'<div class="scroll"><table><caption>{esc(table.title)}</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def key_svg(shape):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 14 14" aria-hidden="true">'
            + marker(shape, 7, 7, 5, ' class="dot"') + "</svg>")


def keys_html(runs):
    if len(runs) < 2:
        return ""
    return '<div class="keys">' + "".join(
        f'<label class="{run.kind}"><input type="checkbox" id="run{run.index}" checked="checked"/>'
        f'{key_svg(run.shape)}{esc(run.label)}</label>' for run in runs) + "</div>"


def hiding(runs):
    """A run that is not ticked is not shown: without a script."""
    return "".join(f"body:has(#run{run.index}:not(:checked)) .run{run.index}{{display:none}}" for run in runs)


def figure_html(one):
    note = f"<small>{esc(one.note)}</small>" if one.note else ""
    return f"<figure><figcaption>{esc(one.title)}{note}</figcaption>{one.plot.svg()}</figure>"


def section_html(section, runs):
    out = [f"<section><h2>{esc(section.title)}</h2><p>{esc(section.about)}</p>"]
    if section.keys and section.figures:
        out.append('<div class="families">' + "".join(
            f'<span class="{kind}">{key_svg(shape)}{esc(title)}</span>' for title, kind, shape in section.keys) + "</div>")
    for small in (False, True):
        chosen = [f for f in section.figures if f.small == small]
        if chosen:
            kind = "plots small" if small else "plots"
            out.append(f'<div class="{kind}">' + "".join(map(figure_html, chosen)) + "</div>")
    return "".join(out + [table_html(t, len(runs) > 1) for t in section.tables] + ["</section>"])


def tiles_html(runs):
    """A tile for each figure, a line in it for each run that has it."""
    many, out = len(runs) > 1, []
    for what, found in headlines(runs).items():
        lines = "".join(f'<b class="{run.kind} run{run.index}">{esc(value)} <small>{esc(unit)}</small></b>'
                        for run, value, unit in found)
        out.append(f'<div class="tile{" many" if many else ""}">{lines}<span>{esc(what)}</span></div>')
    return f'<div class="tiles">{"".join(out)}</div>'


def about_table(runs):
    columns = [key for key in ABOUT if any(key in run.about for run in runs)]
    return Table("Where and when", ["run"] + columns,
                 [(run, [run.label] + [run.about.get(key, "–") for key in columns]) for run in runs], 1 + len(columns))


def page(runs, sections, args):
    about = [one for one in (args.machine, args.date, args.commit and f"commit {args.commit}") if one]
    return ("<!DOCTYPE html>\n" f'<html lang="en"><head><meta charset="utf-8"/>'
            '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
            f"<title>{esc(clean(args.title))}</title><style>{STYLE}{hiding(runs)}</style></head><body><main>"
            f"<h1>{esc(clean(args.title))}</h1><p>{esc(clean(' · '.join(about), 300))}</p>"
            + keys_html(runs) + tiles_html(runs) + "".join(section_html(s, runs) for s in sections)
            + f"<section><h2>Runs</h2>{table_html(about_table(runs), len(runs) > 1)}</section>"
            "<footer>Made by bench/report.py. Points have their numbers on hover; the tables hold them all."
            "</footer></main></body></html>\n")


# ---- Markdown ----

def markdown_cell(cell):
    """A line of text in which nothing is markup."""
    return re.sub(r"[\\`*{}\[\]<>|~#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", str(cell))


def markdown(runs, sections, args):
    about = [one for one in (args.date, args.machine, args.commit and f"commit {args.commit}") if one]
    out = [markdown_cell(clean(", ".join(about), 300)), ""]
    for table in [about_table(runs)] + [t for s in sections for t in s.tables]:
        out += [f"{markdown_cell(table.title)}:", "", "| " + " | ".join(map(markdown_cell, table.columns)) + " |",
                "|" + "---|" * len(table.columns)]
        out += ["| " + " | ".join(map(markdown_cell, cells)) + " |" for _, cells in table.rows] + [""]
    return "\n".join(out)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="[LABEL=]FILE")
    parser.add_argument("--out", metavar="PAGE.html")
    parser.add_argument("--picture", metavar="TOP.png", help="of the page's top, taken by Chromium")
    parser.add_argument("--markdown", action="store_true", help="print tables in place of a page")
    parser.add_argument("--title", default="Firstlight, measured")
    for name in ("machine", "commit", "date"):
        parser.add_argument(f"--{name}", default="", help="in the head; else what the results say")
    args = parser.parse_args()
    if args.markdown == bool(args.out):
        parser.error("one of --out PAGE.html and --markdown")
    if args.picture and not args.out:
        parser.error("--picture is of a page: --out PAGE.html")
    return args


PICTURE_SIZE = "1120,1290"  # the figures in front and the four plots below: under 250 KB
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def take_picture(page_path, out):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        raise Bad(f"--picture: none of {', '.join(BROWSERS)} is installed; the page is there")
    path = pathlib.Path(out).resolve()
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   f"--user-data-dir={profile}", f"--window-size={PICTURE_SIZE}", f"--screenshot={path}",
                   pathlib.Path(page_path).resolve().as_uri()]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            raise Bad(f"--picture: {browser} did not end in two minutes") from None
    if ended.returncode != 0 or not path.is_file():
        raise Bad(f"--picture: {browser} ended with {ended.returncode}")


def main():
    args = arguments()
    try:
        runs = gather(args.files)
        for key, name in (("machine", "machine"), ("commit", "commit"), ("time", "date")):
            told = sorted({run.about[key] for run in runs if key in run.about})
            setattr(args, name, getattr(args, name) or ", ".join(told[:1] if key == "time" else told))
        sections = [s for s in (make(runs) for make in SECTIONS) if s]
        if not sections:
            raise Bad("the files hold nothing that can be shown")
        if args.markdown:
            sys.stdout.write(markdown(runs, sections, args))
        else:
            pathlib.Path(args.out).write_text(page(runs, sections, args), encoding="utf-8")
            if args.picture:
                take_picture(args.out, args.picture)
    except Bad as wrong:
        print(f"report.py: {wrong}", file=sys.stderr)
        return 2
    except OSError as wrong:
        print(f"report.py: {clean(wrong)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
