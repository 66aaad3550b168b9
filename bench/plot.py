"""Plots as SVG: axes, lines, bands, points and labels that keep out of each other's way.

Colours are classes (r0, r1, ...), so that a page decides them, in light and in dark. Coordinates are
of a box that fits a phone; a page scales it. Every text goes through esc().
"""
import html
import itertools
import math

WIDTH, HEIGHT = 480, 340
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 14, 46
FONT = 12
SHAPES = ("circle", "square", "up", "diamond", "down", "cross")
NARROW, WIDE = set("iljtf.,:;|'!()[] "), set("mwMW@%")


def esc(text):
    return html.escape(str(text), quote=True)


def text_width(text, size=FONT):
    return size * sum(0.36 if c in NARROW else 0.95 if c in WIDE else 0.62 for c in text)


def figure(value):
    """Three digits that matter: 0.0512, 5.12, 51.2, 512, 5,120."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, min(digits, 6))}f}"


def tick_text(value):
    """Short: 0.5, 20, 1k, 2.5M, and 2,048 as it is."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size and 10 * value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:g}"


class Axis:
    """From values to the unit interval, with ticks at round numbers."""

    def __init__(self, values, label, log=False, zero=False):
        values = [v for v in values if v is not None and (v > 0 or not log)]
        self.label, self.log = label, log
        low, high = (min(values), max(values)) if values else (1.0, 10.0)
        if log:
            self.low, self.high = low / 1.25, high * 1.25
            if self.high / self.low < 4:
                self.low, self.high = self.low / 1.5, self.high * 1.5
        else:
            low = 0.0 if zero else low
            span = (high - low) or abs(high) or 1.0
            self.low, self.high = low if zero else low - 0.06 * span, high + 0.08 * span

    def at(self, value):
        if self.log:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most=6):
        return self._log_ticks(most) if self.log else self._even_ticks(most)

    def _even_ticks(self, most):
        rough = (self.high - self.low) / most
        power = 10 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 12) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _log_ticks(self, most):
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for parts in ((1, 2, 5), (1, 3), (1,)):
            found = [p * 10.0 ** e for e in range(first, last + 1) for p in parts]
            found = [v for v in found if self.low <= v <= self.high]
            if len(found) <= most or parts == (1,):
                break
        every = max(1, math.ceil(len(found) / most))
        return found[::every]


class SetAxis(Axis):
    """Few values that were chosen, each a tick: concurrency, numbers of rows. By their logarithm
    where they span more than a decade."""

    def __init__(self, values, label):
        self.values = sorted({v for v in values if v is not None})
        log = bool(self.values) and self.values[0] > 0 and self.values[-1] / self.values[0] > 10
        super().__init__(self.values, label, log)

    def ticks(self, most=9):
        kept, last = [], -1.0
        for value in self.values:
            if self.at(value) - last >= 1.0 / most or last < 0:
                kept.append(value)
                last = self.at(value)
        return kept


MARKS = {
    "up": ((0, -1.2), (1.1, .8), (-1.1, .8)),
    "down": ((0, 1.2), (1.1, -.8), (-1.1, -.8)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "square": ((-.9, -.9), (.9, -.9), (.9, .9), (-.9, .9)),
    "cross": ((-.4, -1.2), (.4, -1.2), (.4, -.4), (1.2, -.4), (1.2, .4), (.4, .4), (.4, 1.2), (-.4, 1.2), (-.4, .4),
              (-1.2, .4), (-1.2, -.4), (-.4, -.4)),
}


def marker(shape, x, y, size, attributes, inside=""):
    if shape not in MARKS:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"{attributes}>{inside}</circle>'
    points = " ".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in MARKS[shape])
    return f'<polygon points="{points}"{attributes}>{inside}</polygon>'


class Plot:
    def __init__(self, name, x, y, width=WIDTH, height=HEIGHT):
        self.name, self.x, self.y = name, x, y
        self.width, self.height = width, height
        self.under, self.over, self.wishes, self.slants = [], [], [], []
        self.taken, self.strokes = [], []  # boxes that a label must not, and had better not cover

    def px(self, value):
        return LEFT + self.x.at(value) * (self.width - LEFT - RIGHT)

    def py(self, value):
        return self.height - BOTTOM - self.y.at(value) * (self.height - TOP - BOTTOM)

    def path(self, points):
        return "M" + "L".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)

    def line(self, points, kind, extra=""):
        points = [p for p in points if None not in p]
        if len(points) > 1:
            self.under.append(f'<path class="line {kind}" d="{self.path(points)}"{extra}/>')
            for (xa, ya), (xb, yb) in zip(points, points[1:]):
                self._stroke(self.px(xa), self.py(ya), self.px(xb), self.py(yb))

    def _stroke(self, xa, ya, xb, yb):
        steps = int(max(abs(xb - xa), abs(yb - ya)) / 5) + 1
        for i in range(steps + 1):
            x, y = xa + (xb - xa) * i / steps, ya + (yb - ya) * i / steps
            self.strokes.append((x - 1, y - 1, x + 1, y + 1))

    def thin(self, points, kind):
        self.line(points, kind + " thin")

    def band(self, points, kind):
        """points: (x, low, high)."""
        points = [p for p in points if None not in p]
        if len(points) > 1:
            edge = self.path([(x, low) for x, low, _ in points]) + "L" + \
                self.path([(x, high) for x, _, high in reversed(points)])[1:]
            self.under.insert(0, f'<path class="band {kind}" d="{edge}Z"/>')

    def dot(self, x, y, kind, title, shape="circle", size=4.0):
        px, py = self.px(x), self.py(y)
        self.taken.append((px - size, py - size, px + size, py + size))
        self.over.append(marker(shape, px, py, size, f' class="dot {kind}"', f"<title>{esc(title)}</title>"))

    def label(self, x, y, text, kind, weight=0):
        self.label_any([(x, y)], text, kind, weight)

    def label_any(self, points, text, kind, weight=0):
        """A wish, beside one of the points: those of more weight are served first, and who finds no
        room goes without."""
        self.wishes.append((weight, [(self.px(x), self.py(y)) for x, y in points], text, kind))

    def along(self, start, end, text, kind):
        """Just above a line, where it covers least."""
        self.slants.append((self.px(start[0]), self.py(start[1]), self.px(end[0]), self.py(end[1]), text, kind))

    def _along(self, xa, ya, xb, yb, text, kind):
        wide, long = text_width(text) + 6, math.hypot(xb - xa, yb - ya)
        ux, uy = (xb - xa) / (long or 1), (yb - ya) / (long or 1)
        best = None
        for i in range(21):
            at = wide / 2 + (long - wide) * (1 - i / 20)  # from the right, where a line is alone
            x, y = xa + ux * at + uy * 6, ya + uy * at - ux * 6
            boxes = [(x + ux * s - 6 - uy * -4, y + uy * s - 10, x + ux * s + 6, y + uy * s + 2)
                     for s in range(int(-wide / 2), int(wide / 2) + 1, 6)]
            hits = sum(not self._free(box, self.taken) for box in boxes)
            if best is None or hits < best[0]:
                best = (hits, x, y, boxes)
        _, x, y, boxes = best
        self.taken += boxes
        return (f'<text class="label {kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle" '
                f'transform="rotate({math.degrees(math.atan2(uy, ux)):.1f} {x:.1f} {y:.1f})">{esc(text)}</text>')

    def _free(self, box, others):
        inside = box[0] >= LEFT + 2 and box[2] <= self.width and box[1] >= 0 and \
            box[3] <= self.height - BOTTOM
        return inside and all(box[2] <= t[0] or box[0] >= t[2] or box[3] <= t[1] or box[1] >= t[3]
                              for t in others)

    def _place(self, points, wide):
        """(x, y, anchor, box) of the first free place around a point; covering a line if it must be."""
        gap = 8
        places = ((gap, 4, "start"), (0, -9, "middle"), (0, 19, "middle"), (-gap, 4, "end"), (gap, -8, "start"),
                  (gap, 16, "start"), (-gap, -8, "end"), (-gap, 16, "end"), (0, -22, "middle"), (0, 32, "middle"))
        for others in (self.taken + self.strokes, self.taken):
            for (px, py), (dx, dy, anchor) in itertools.product(points, places):
                left = px + dx - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
                box = (left - 2, py + dy - FONT * .85, left + wide + 3, py + dy + 3)
                if self._free(box, others):
                    return px + dx, py + dy, anchor, box
        return None

    def _labels(self):
        out = []
        for _, points, text, kind in sorted(self.wishes, key=lambda wish: -wish[0]):
            found = self._place(points, text_width(text) * (1.12 if "strong" in kind else 1))
            if found:
                x, y, anchor, box = found
                self.taken.append(box)
                out.append(f'<text class="label {kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
                           f'{esc(text)}</text>')
        return out

    def _frame(self):
        out, bottom, right = [], self.height - BOTTOM, self.width - RIGHT
        for value in self.y.ticks():
            y = self.py(value)
            out.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{right}"/>'
                       f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
                       f'{esc(tick_text(value))}</text>')
        end = -1.0
        for value in self.x.ticks(7 if not isinstance(self.x, SetAxis) else 9):
            x, shown = self.px(value), tick_text(value)
            out.append(f'<path class="grid" d="M{x:.1f},{TOP}V{bottom}"/>')
            if x - text_width(shown) / 2 > end:
                out.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">'
                           f'{esc(shown)}</text>')
                end = x + text_width(shown) / 2 + 5
        out.append(f'<path class="axis" d="M{LEFT},{TOP}V{bottom}H{right}"/>')
        middle = (LEFT + right) / 2
        out.append(f'<text class="name" x="{middle:.0f}" y="{self.height - 8}" text-anchor="middle">'
                   f'{esc(self.x.label)}</text>')
        middle = (TOP + bottom) / 2
        out.append(f'<text class="name" x="13" y="{middle:.0f}" text-anchor="middle" '
                   f'transform="rotate(-90 13 {middle:.0f})">{esc(self.y.label)}</text>')
        return out

    def svg(self):
        labels = [self._along(*slant) for slant in self.slants] + self._labels()
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
                f'aria-label="{esc(self.name)}">' + "".join(self._frame() + self.under + self.over + labels)
                + "</svg>")
