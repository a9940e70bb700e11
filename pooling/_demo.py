"""The demo: one photograph through every mode and geometry on every usable backend, checked cell for cell.

It owns the geometries that are shown, the comparison and the contact sheet; __main__ owns arguments, printing and exit
codes. It sees what a user sees, the public names, looked up at each call. It counts no cell that it has not compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

import pooling
from pooling.testing import lp_bound, oracle

Array = np.ndarray[Any, Any]

SMALLEST = 16  # pixels along each side of a picture: room for every geometry below
CROP = (120, 181)  # what the oracle pools
QUICK_PICTURE, QUICK_CROP = (60, 91), (20, 23)
REPEATS = 5  # the time in the table is the best of these


class Unreadable(Exception):
    """The picture cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Geometry:
    """One column of the contact sheet: a public function and its arguments."""

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, library: Any, x: Array, mode: str, **more: Any) -> Array:
        """x, pooled by the product or by the oracle: their functions have the same names and arguments."""
        result: Array = getattr(library, self.function)(x, mode, layout="HWC", **self.arguments, **more)
        return result


UNEVEN = {"kernel": 3, "stride": 2, "padding": ((0, 2), (1, 0)), "dilation": (2, 3), "ceil_mode": True}
GEOMETRIES = (
    Geometry("2x2, stride 2", "pool", {"kernel": 2}),
    Geometry("3x3, stride 2, padding 1", "pool", {"kernel": 3, "stride": 2, "padding": 1}),
    Geometry("3x3, stride 1, same", "pool", {"kernel": 3, "stride": 1, "padding": "same"}),
    Geometry("3x3, dilated, ceil_mode", "pool", UNEVEN),
    Geometry("31x31, stride 1, same", "pool", {"kernel": 31, "stride": 1, "padding": "same"}),
    Geometry("adaptive, 7x7", "adaptive_pool", {"output_size": 7}),
    Geometry("global", "global_pool"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: how many cells were compared with the first backend's and with the oracle's."""

    backend: str
    mode: str
    geometry: Geometry
    with_first: int
    with_oracle: int
    differ: int
    milliseconds: float
    result: Array = field(repr=False, compare=False)


def photograph(path: Path | None) -> tuple[str, Array]:
    """The name and the (height, width, 3) float32 cells of the user's picture, or of scikit-image's cat."""
    # By path: skimage.data would import SciPy, and may look for a download.
    source = files("skimage") / "data" / "chelsea.png" if path is None else path
    try:
        with source.open("rb") as file:
            picture = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all of them are Pillow's
        raise Unreadable(f"cannot read the picture {source}: {error}") from error
    if min(picture.size) < SMALLEST:
        size = f"{picture.width} x {picture.height} pixels"
        raise Unreadable(f"the picture {source} is too small: {size}; the demo needs {SMALLEST} x {SMALLEST}")
    return source.name, np.asarray(picture, dtype=np.float32)


def middle(x: Array, shape: tuple[int, int]) -> Array:
    """The middle of a picture, at most this large."""
    top, left = (max(n - m, 0) // 2 for n, m in zip(x.shape[:2], shape, strict=True))
    return x[top : top + shape[0], left : left + shape[1]]


def differing(got: Array, want: Array, mode: str, terms: int, backend: str) -> int:
    """How many cells are not == (NaN equals NaN); for lp, how many lie outside the bound that the oracle derives."""
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return want.size
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    if mode == "lp":
        working = np.float64 if backend == "cpu" else np.float32  # a GPU has no float64
        same |= np.abs(got.astype(np.float64) - want) <= lp_bound(want, 2.0, terms, working=working, ulps=16)
    return int(np.count_nonzero(~same))


def compare(x: Array, crop: Array) -> Iterator[Row]:
    """Pools the picture on every usable backend, and its crop also by the oracle; gives one row per result."""
    first, *_ = usable = [name for name, reason in pooling.backends().items() if reason is None]
    terms = x.shape[0] * x.shape[1]  # no window has more cells
    for mode in pooling.MODES:
        for geometry in GEOMETRIES:
            truth = geometry(oracle, crop, mode)
            reference = geometry(pooling, x, mode, backend=first)
            for backend in usable:
                differ = differing(geometry(pooling, crop, mode, backend=backend), truth, mode, terms, backend)
                seconds = []
                for _ in range(REPEATS):
                    start = time.perf_counter()
                    result = geometry(pooling, x, mode, backend=backend)
                    seconds.append(time.perf_counter() - start)
                peers = 0 if backend == first else reference.size
                differ += differing(result, reference, mode, terms, backend) if peers else 0
                yield Row(backend, mode, geometry, peers, truth.size, differ, min(seconds) * 1e3, result)


class Sheet:
    """The contact sheet: modes as rows, geometries as columns, the photograph and its caption above."""

    GAP, LABELS, CAPTION, LONGEST = 12, 76, 20, 225
    PAPER, INK, PALE = "#faf8f4", "#262420", "#827c72"

    def __init__(self, name: str, x: Array) -> None:
        """Draws the photograph and the labels; results come by add."""
        height, width = x.shape[:2]
        scale = self.LONGEST / max(height, width)
        self.tile = max(round(width * scale), 1), max(round(height * scale), 1)
        # Tall pictures make narrow tiles; a column is never narrower than its label.
        self.column = max(self.tile[0], 180) + self.GAP
        self.row = self.tile[1] + self.CAPTION + self.GAP
        self.top = 3 * self.GAP + max(self.tile[1], 120) + 30
        size = self.LABELS + self.column * len(GEOMETRIES) + self.GAP, self.top + self.row * len(pooling.MODES)
        self.picture = Image.new("RGB", size, self.PAPER)
        self.draw = ImageDraw.Draw(self.picture)
        self.paste(x, self.LABELS, self.GAP)
        caption = (
            (f"pooling {pooling.__version__}", 26, self.INK),
            (f"{name}, {height} x {width} x 3 cells of float32", 17, self.INK),
            ("One mode per row, one geometry per column; the size of each result stands below it.", 15, self.PALE),
            ("Results above 255 are divided by their greatest cell. avg counts padding: dark edges.", 15, self.PALE),
        )
        y = self.GAP
        for text, points, colour in caption:
            self.text(self.LABELS + self.column, y, text, points, colour)
            y += round(points * 1.5)
        for i, mode in enumerate(pooling.MODES):
            self.text(self.GAP, self.top + i * self.row + self.tile[1] // 2 - 14, mode, 24)
        for i, geometry in enumerate(GEOMETRIES):
            self.text(self.LABELS + i * self.column, self.top - 25, geometry.name, 16)

    def text(self, x: int, y: int, text: str, points: int, colour: str = INK) -> None:
        """Writes one line, its upper left corner at x, y."""
        self.draw.text((x, y), text, fill=colour, font=ImageFont.load_default(points))

    def paste(self, cells: Array, x: int, y: int) -> None:
        """Puts cells on a tile, so that the greatest is 255 or less; small results show their cells."""
        scale = 255 / max(255.0, float(cells.max()))
        picture = Image.fromarray(np.clip(cells * scale, 0, 255).astype(np.uint8))
        way = Image.Resampling.NEAREST if picture.width <= self.tile[0] else Image.Resampling.LANCZOS
        self.picture.paste(picture.resize(self.tile, way), (x, y))

    def add(self, row: Row) -> None:
        """Puts one result in its place."""
        x = self.LABELS + GEOMETRIES.index(row.geometry) * self.column
        y = self.top + pooling.MODES.index(row.mode) * self.row
        self.paste(row.result, x, y)
        self.text(x, y + self.tile[1] + 3, " x ".join(map(str, row.result.shape[:2])), 13, self.PALE)
