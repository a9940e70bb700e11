"""The plots, as PNG and SVG: every problem over a memcpy, what the size of a window costs, and what it does to the error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log10
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from contract import LAYOUTS, OURS, YARDSTICK, Row, named
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

BLUE, ORANGE, GREY = "#1f6fb4", "#d9680f", "#b4b4b4"
COLOURS = ("#d9680f", "#2a9d55", "#8c52b5", "#c8374a", "#8a6242", "#c95fa5", "#6f6f6f", "#a3a021", "#17a0ae", "#4b4b8f")
LABELS = ("pooling, channels first", "pooling, channels last", "the fastest rival", "other rivals")
FAR = 1e4  # ulps: curves that begin above would flatten the others
MARK = {"markersize": 7, "markeredgewidth": 1.6}
BEHIND = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"}
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "pooling",  # the same bytes from the same numbers
    "svg.fonttype": "none",
}


def over_problems(rows: list[Row], target: Path) -> None:
    """A line for each named problem, forward in float32: ours in both layouts, and every rival, over the memcpy."""
    rows = [row for row in rows if named(row.question) and (row.question.dtype, row.question.part) == ("float32", "forward")]
    rows = [row for row in rows if row.copy()][::-1]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9, 1.4 + 0.36 * len(rows)), layout="constrained")
        for y, row in enumerate(rows):
            copy, best = row.copy() or 1.0, row.best()
            name = iter(LABELS if y == 0 else [None] * len(LABELS))
            for layout, face in zip(LAYOUTS, (BLUE, "white"), strict=True):
                x = [seconds / copy for seconds in [row.beside_memcpy(layout)] if seconds]
                axes.plot(x, [y] * len(x), "o", color=BLUE, markerfacecolor=face, label=next(name), zorder=4, **MARK)
            x = [best[1] / copy] if best else []
            axes.plot(x, [y] * len(x), "D", color=ORANGE, markersize=6, label=next(name), zorder=3)
            for place in x:
                over = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8}
                axes.annotate(best[0], (place, y), color=ORANGE, bbox=BEHIND, **over)
            x = [seconds / copy for seconds in row.rivals().values()]
            axes.plot(x, [y] * len(x), "|", color=GREY, markersize=9, markeredgewidth=1.6, label=next(name), zorder=2)
        axes.axvline(1, color="black", linewidth=0.8, zorder=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_yticks(range(len(rows)), [label_of(row) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.3)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("time over that of a memcpy of the same bytes (1: as fast as the memcpy)")
        figure.legend(loc="outside upper center", ncols=len(LABELS), frameon=False)
        save(figure, target)


def label_of(row: Row) -> str:
    problem = row.question.problem
    return f"{row.name}: {problem.mode} {'x'.join([str(problem.kernel)] * problem.rank)}, stride {problem.stride}"


def over_windows(rows: list[Row], target: Path) -> None:
    """Two pictures, max and avg: milliseconds against the size of the window, at every cell of an image."""
    with plt.rc_context(STYLE):
        figure, both = plt.subplots(1, 2, figsize=(11, 6), sharey=True, layout="constrained")
        colours: dict[str, str] = {}
        for axes, name in zip(both, ("dilate", "box"), strict=True):
            found = [row for row in rows if row.question.problem.name == name]
            found = sorted((row for row in found if len(row.times) > 1), key=lambda row: row.question.problem.kernel)
            lines = {title: points for title, points in curves(found).items() if points}
            for title, points in lines.items():
                if title == YARDSTICK:
                    look = {"color": "black", "linestyle": ":"}
                elif title.startswith(OURS):
                    hollow = {"markerfacecolor": "white"} if LAYOUTS[1] in title else {}
                    look = {"color": BLUE, "linewidth": 2.4, "marker": "o", "markersize": 6, "zorder": 4} | hollow
                else:
                    look = {"color": colours.setdefault(title, COLOURS[len(colours) % len(COLOURS)]), "marker": "."}
                axes.plot(*zip(*points, strict=True), **{"linewidth": 1.4} | look)
            axes.set_xscale("log")
            axes.set_yscale("log")
            kernels = [row.question.problem.kernel for row in found]
            axes.xaxis.set_major_locator(FixedLocator(kernels))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid(color="#ececec", linewidth=0.7)
            axes.set_axisbelow(True)
            if found:
                problem = found[0].question.problem
                axes.set_title(f"{problem.mode}, stride 1, float32 {problem.shape}", fontsize=11)
            axes.set_xlabel("cells along each side of the window")
            beside(axes, lines, colours)
        both[0].set_ylabel("milliseconds")
        both[1].tick_params(labelleft=True)
        save(figure, target)


def curves(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """(kernel, milliseconds) of the memcpy, of each library's fastest way, and of ours in both layouts."""
    found: dict[str, list[tuple[int, float]]] = {YARDSTICK: []}
    for row in rows:
        kernel = row.question.problem.kernel
        times: dict[str, float | None] = {YARDSTICK: row.copy()} | {
            f"{OURS} ({layout})": row.beside_memcpy(layout) for layout in LAYOUTS
        }
        for way, seconds in row.rivals().items():
            library = library_of(way)
            times[library] = min(seconds, times.get(library) or seconds)
        for title, seconds in times.items():
            if seconds is not None:
                found.setdefault(title, []).append((kernel, 1000 * seconds))
    return found


def library_of(column: str) -> str:
    """A column's name without the way."""
    return column.removesuffix(" first").removesuffix(" last").replace("sliding_window_view", "windows")


def over_sides(panels: dict[str, dict[str, list[tuple[int, float]]]], bound: str, target: Path) -> None:
    """A picture for each element type: the greatest error in ulps against the side of a window. A title names one library, or
    several whose errors are the same."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(11, 8), sharey=True, layout="constrained")
        names = dict.fromkeys(library_of(name) for every in panels.values() for title in every for name in title.split(", "))
        colour = dict(zip((name for name in names if not name.startswith(OURS)), COLOURS, strict=False))
        named = []
        for axes, (dtype, every) in zip(grid.flat, panels.items(), strict=True):
            lines = {in_pairs(title): points for title, points in every.items() if points[0][1] < FAR}
            off = [
                f"{title}: {points[0][1]:.0e} to {points[-1][1]:.0e}" for title, points in every.items() if points[0][1] >= FAR
            ]
            colours = {title: colour.get(library_of(title.partition(",")[0]), BLUE) for title in lines}
            for title, points in lines.items():
                look: dict[str, Any] = {"color": colours[title], "linewidth": 1.4}
                if title == bound:
                    look |= {"linestyle": ":"}
                elif title.startswith(OURS):
                    look |= {"linewidth": 2.4, "marker": "o", "markersize": 6, "zorder": 4}
                else:
                    look |= {"marker": "o", "markersize": 4.5, "markerfacecolor": "white" if title.endswith(LAYOUTS[1]) else None}
                axes.plot(*zip(*points, strict=True), **look)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.axhline(0.5, color="black", linewidth=0.8, zorder=0)
            sides = [x for x, _ in next(iter(lines.values()))]
            axes.xaxis.set_major_locator(FixedLocator(sides))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x{value:g}"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(labelleft=True)
            axes.grid(color="#ececec", linewidth=0.7)
            axes.set_axisbelow(True)
            axes.set_title(dtype, fontsize=11)
            axes.text(sides[0], 0.43, "0.5: correctly rounded", va="top", fontsize=8)
            if off:
                axes.text(0.03, 0.97, "\n".join(["far above:", *off]), transform=axes.transAxes, va="top", fontsize=9)
            named.append((axes, lines, colours, 1.2 * sides[-1]))
        axes.set_ylim(0.3, 1.5 * max(y for _, lines, _, _ in named for points in lines.values() for _, y in points))
        for axes, lines, colours, right in named:  # now that the scale, which all share, is known
            beside(axes, lines, colours, right, 0.075)
        for axes in grid[-1]:
            axes.set_xlabel("window")
        for axes in grid[:, 0]:
            axes.set_ylabel("greatest error (ulps)")
        save(figure, target)


def in_pairs(title: str) -> str:
    """A title on several lines, two names on each."""
    names = title.split(", ")
    return ",\n".join(", ".join(names[at : at + 2]) for at in range(0, len(names), 2))


def beside(
    axes: Axes, lines: dict[str, list[tuple[int, float]]], colours: dict[str, str], right: float = 101 * 1.15, room: float = 0.038
) -> None:
    """Names at the ends of their lines, moved apart where they would overlap: each takes that part of the height."""
    ends = {title: points[-1] for title, points in lines.items()}
    low, high = axes.get_ylim()
    step = room * log10(high / low)
    heights = apart([log10(y) for _, y in ends.values()], step)
    for (title, (x, y)), height in zip(ends.items(), heights, strict=True):
        ours = title.startswith(OURS)
        axes.annotate(
            title,
            (x, y),
            (right, 10**height),
            va="center",
            fontsize=9,
            fontweight="bold" if ours else "normal",
            color=BLUE if ours else colours.get(title, "black"),
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2},
            annotation_clip=False,
        )
    axes.set_ylim(low, high)


def apart(heights: Iterable[float], step: float) -> list[float]:
    """The same heights in the same order, each at least a step from the next: neighbours in a heap share the move."""
    order = sorted(enumerate(heights), key=lambda item: item[1])
    heaps: list[tuple[float, list[int]]] = []  # middle, members from low to high
    for index, height in order:
        heap, members = height, [index]
        while heaps and heap - step * (len(members) - 1) / 2 < heaps[-1][0] + step * (len(heaps[-1][1]) - 1) / 2 + step:
            middle, below = heaps.pop()
            heap = (middle * len(below) + heap * len(members)) / (len(below) + len(members))
            members = below + members
        heaps.append((heap, members))
    placed = {i: middle + step * (n - (len(members) - 1) / 2) for middle, members in heaps for n, i in enumerate(members)}
    return [placed[i] for i in range(len(placed))]


def save(figure: Figure, target: Path) -> None:
    figure.savefig(target.with_suffix(".png"), dpi=150)
    figure.savefig(target.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
