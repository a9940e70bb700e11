"""What an implementation of the MLX backend offers: a module with these functions, on mx.arrays in the caller's layout.

Shapes, types and geometry are the door's, checked. Nothing here is differentiable: _autodiff sees to that.
"""

from __future__ import annotations

from typing import Protocol

import mlx.core as mx

from pooling._dtypes import Types
from pooling._geometry import Geometry
from pooling._layout import Layout
from pooling._modes import Reduction


class Implementation(Protocol):
    """The functions of _auto, _kernel, _native and _ops."""

    def __hash__(self) -> int: ...

    def why_not(self) -> str | None:
        """None, or the sentence that says why nothing can run here: the device, its driver, MLX's version."""

    def refuses(self, x_size: int, y_size: int, types: Types, reduction: Reduction | None) -> str | None:
        """None, or the sentence that says why arrays of so many cells, of these types, cannot be pooled so."""

    def reduce(
        self, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool
    ) -> tuple[mx.array, ...]:
        """The values, and if asked for the flat indices, in any integer type that holds them."""

    def scatter(self, g: mx.array, indices: mx.array, layout: Layout, geometry: Geometry, types: Types) -> mx.array:
        """The gradient of max and min: every cell's g, from the windows that chose it, added in row-major order."""

    def route(self, g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
        """The same of an x whose choices have not been looked for; values that are found on the way have these types."""

    def slope(self, g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
        """The gradient of lp, for finite p."""

    def unpool(self, x: mx.array, indices: mx.array, layout: Layout, sizes: tuple[int, ...]) -> mx.array:
        """Zeros of these pooled sizes with the cells of x where their indices say; the last of duplicates stays."""
