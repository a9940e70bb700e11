"""Every one-axis geometry of a small grid, alone and on every axis of 2-D and 3-D problems, forward and backward.

What is small is exhausted (here), what is large is sampled (test_random.py), for the same law: the oracle's cells.
"""

from __future__ import annotations

from itertools import cycle, product

import pytest
from agreement import BACKENDS, backward_bound, check, forward_bound

import pooling
from pooling.testing import data, oracle

# The other axes of a 2-D or 3-D problem: size, kernel, stride, padding, dilation.
OTHERS = (
    (1, 1, 1, (0, 0), 1),  # one_cell
    (4, 2, 2, (0, 0), 1),  # stride_equals_kernel
    (5, 3, 2, (1, 1), 1),  # pad_both_strided
    (4, 3, 1, (0, 2), 1),  # pad_after_only
    (6, 2, 3, (1, 0), 3),  # dilated, cells in no window
)
PLACES = [(rank, axis) for rank in (1, 2, 3) for axis in range(rank)]


def geometries(n: int) -> list[tuple[int, int, int, tuple[int, int], bool]]:
    """kernel, stride, dilation, padding and ceil_mode of every legal window of the grid on n cells."""
    found = []
    for kernel, stride, dilation, ceil_mode in product(range(1, 5), range(1, 5), range(1, 4), (False, True)):
        extent = dilation * (kernel - 1) + 1
        if kernel > 1 or dilation == 1:
            for padding in product(range(extent), repeat=2):
                if n + sum(padding) >= extent:
                    found.append((kernel, stride, dilation, padding, ceil_mode))
    return found


def rows() -> list[tuple[str, dict[str, object]]]:
    """Every mode; avg with both ways of counting."""
    return [
        (mode, options)
        for mode in pooling.MODES
        for options in (({"count_include_pad": True}, {"count_include_pad": False}) if mode == "avg" else ({},))
    ]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]}d_axis{place[1]}")
@pytest.mark.parametrize("n", range(1, 9))
def test_grid(n, place):
    """The CPU on every geometry; beside it one other backend, each in its turn, in 2-D and 3-D on every fourth geometry."""
    rank, axis = place
    others, turns = cycle(OTHERS), cycle(BACKENDS[1:])
    for number, (kernel, stride, dilation, padding, ceil_mode) in enumerate(geometries(n)):
        axes = [next(others) for _ in range(rank)]
        axes[axis] = (n, kernel, stride, padding, dilation)
        sizes, kernels, strides, paddings, dilations = zip(*axes, strict=True)
        x = data((1, *sizes, 2), "float32", n)
        backends = [BACKENDS[0], *([next(turns)] if BACKENDS[1:] and (rank == 1 or number % 4 == 0) else [])]
        # In 2-D and 3-D every second mode, the others when the geometry stands on the next axis.
        for mode, options in rows() if rank == 1 else rows()[(number + axis) % 2 :: 2]:
            call = options | {"dilation": dilations, "ceil_mode": ceil_mode}
            window = (kernels, strides, paddings)
            indexed = {"return_indices": True} if mode in ("max", "min") else {}
            want = oracle.pool(x, mode, *window, **call, **indexed)
            g = data((want[0] if indexed else want).shape, "float32", n + 1)
            back = oracle.pool_backward(g, x, mode, *window, **call)
            for backend in backends:
                note = (backend, mode, window, call)
                got = pooling.pool(x, mode, *window, **call, **indexed, backend=backend)
                check(got, want, note, None if indexed else forward_bound(want, mode, 2.0, kernels, backend))
                oracles = (oracle.pool, oracle.pool_backward)
                bound = backward_bound(back, g, x, mode, 2.0, oracles, *window, backend=backend, **call)
                got = pooling.pool_backward(g, x, mode, *window, **call, backend=backend)
                check(got, back, (*note, "gradient"), bound)
