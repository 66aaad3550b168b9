"""What a report is made of: runs, and sections of plots and tables."""
import statistics
from dataclasses import dataclass, field

from plot import SHAPES, Plot, figure

COLOURS = 8


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


def spread_text(values):
    values = [v for v in values if v is not None]
    if len(values) < 2:
        return ""
    return f"{figure(min(values))}–{figure(max(values))}"
