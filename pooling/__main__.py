"""The command line: `python -m pooling demo` and `python -m pooling info`.

It owns the arguments, the printing and the exit codes: 0 when all compared cells agree, 1 when one differs, 2 when the
demo cannot run. What is compared and drawn is _demo's, which alone needs Pillow and scikit-image.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

import pooling

LINE = "{:<10} {:<5} {:<25} {:>14} {:>11} {:>7} {:>9}"
BOLD, RED, GREEN, PALE = "1", "1;31", "32", "2"


def paint(text: str, colour: str) -> str:
    """Coloured text on a terminal, unless NO_COLOR is set to anything (no-color.org)."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{colour}m{text}\x1b[0m" if coloured and colour else text


def info() -> int:
    """Prints the facts that a bug report needs."""
    facts = {
        "pooling": pooling.__version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "threads": str(pooling.get_num_threads()),
        **pooling.cpu_info(),
    }
    for name, reason in pooling.backends().items():
        facts[f"backend {name}"] = "usable" if reason is None else f"not usable: {reason}"
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")
    return 0


def demo(image: Path | None, output: Path, quick: bool) -> int:
    """Pools a picture, prints what was compared, writes the contact sheet."""
    started = time.perf_counter()
    try:
        from pooling import _demo

        name, x = _demo.photograph(image)
    except ModuleNotFoundError as error:
        return refuse(f'{error.name} is not installed; install it with: python -m pip install "pooling[demo]"')
    except _demo.Unreadable as error:
        return refuse(str(error))
    if not output.parent.is_dir():
        return refuse(f"cannot write {output}: there is no folder {output.parent}")
    if quick:
        x = _demo.middle(x, _demo.QUICK_PICTURE)
    crop = _demo.middle(x, _demo.QUICK_CROP if quick else _demo.CROP)
    first, *others = [backend for backend, reason in pooling.backends().items() if reason is None]
    print(f"{name}: {x.shape[0]} x {x.shape[1]} pixels of 3 cells, float32.")
    print(f"The oracle works cell by cell and is slow: it pools the middle {crop.shape[0]} x {crop.shape[1]} pixels.\n")
    print(paint(LINE.format("backend", "mode", "geometry", f"cells vs {first}", "vs oracle", "differ", "ms"), BOLD))
    sheet = _demo.Sheet(name, x)
    rows: list[_demo.Row] = []
    for row in _demo.compare(x, crop):
        if rows and row.mode != rows[-1].mode:
            print()
        peers = f"{row.with_first:,}" if row.with_first else "-"
        cells = peers, f"{row.with_oracle:,}", f"{row.differ:,}", f"{row.milliseconds:.2f}"
        line = LINE.format(row.backend, row.mode, row.geometry.name, *cells)
        print(paint(line, RED if row.differ else ""), flush=True)
        rows.append(row)
        if row.backend == first:
            sheet.add(row)
    differ = sum(row.differ for row in rows)
    between = f"{sum(row.with_first for row in rows):,}" if others else f"0 (only {first} is usable here)"
    print(f"\ncells compared with the oracle     {sum(row.with_oracle for row in rows):,}")
    print(f"cells compared between backends    {between}")
    print("cells that differ                  " + paint(f"{differ:,}", RED if differ else GREEN))
    absent: dict[str, list[str]] = {}
    for backend, reason in pooling.backends().items():
        if reason is not None:
            absent.setdefault(reason, []).append(backend)
    for reason, names in absent.items():
        print(paint(f"not run: {', '.join(names)}: {reason}", PALE))
    try:
        sheet.picture.save(output, "PNG")
    except OSError as error:
        return refuse(f"cannot write {output}: {error}")
    print(f"wrote {output} after {time.perf_counter() - started:.1f} s")
    return 1 if differ else 0


def refuse(sentence: str) -> int:
    """Says why the demo cannot run."""
    print(f"pooling demo: {sentence}", file=sys.stderr)
    return 2


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pooling", description="Pooling for NumPy arrays.")
    commands = parser.add_subparsers(dest="command", metavar="command")
    show = commands.add_parser("demo", help="pool a photograph in every mode, check every backend, write a picture")
    show.add_argument("--image", type=Path, metavar="FILE", help="a picture of yours (default: one from scikit-image)")
    show.add_argument(
        "--output",
        type=Path,
        metavar="FILE.png",
        default=Path("pooling-demo.png"),
        help="where the contact sheet goes (default: %(default)s)",
    )
    show.add_argument("--quick", action="store_true", help="use only the middle of the picture")
    commands.add_parser("info", help="print the versions, the backends and how the CPU backend was built")
    given = parser.parse_args(arguments)
    if given.command == "demo":
        return demo(given.image, given.output, given.quick)
    if given.command == "info":
        return info()
    parser.print_help()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
