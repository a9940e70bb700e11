"""Which backend runs a call: the array chooses, unless the caller asked for another.

A backend is a module, or an object of one, imported when it is first needed, that offers
    owns(array)                    whether arrays of this kind are its own
    plain(array)                   the array that one of a subclass is, whatever the subclass says of itself
    why_not()                      None, or the sentence that says why it cannot run here
    cell(array)                    the element type's name (a row of _dtypes), or a TypeError
    from_numpy(array), to_numpy(array)
    pooling(layout, geometry, reduction, types, indexed, shape)
                                   the function (x, out) -> results of this shape, which the door keeps
    pool_backward, unpool          the other operations, on its own arrays
A refusal is a sentence, and the caller gets it: nothing falls back silently.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar, Token
from functools import cache
from importlib import import_module
from typing import Any

from pooling._window import shown

BACKENDS = {
    "cpu": "pooling._cpu",
    "mlx": "pooling._mlx:auto",
    "mlx:kernel": "pooling._mlx:kernel",
    "mlx:ops": "pooling._mlx:ops",
    "mlx:native": "pooling._mlx:native",
}
_KINDS = {"cpu": "numpy", "mlx": "mlx.core"}  # a backend whose array module is not loaded owns no array

_owners: dict[type, tuple[str, Any]] = {}  # of the array libraries' own types, once they were seen

_process: str | None = os.environ.get("POOLING_BACKEND") or None
_context: ContextVar[str | None] = ContextVar("pooling_backend")  # unset: the process decides; None: the array


def backends() -> dict[str, str | None]:
    """Every backend's name, with None where it is usable here and else the sentence that says why it is not.

    >>> import pooling
    >>> pooling.backends()["cpu"] is None
    True
    """
    return {name: why_not(name) for name in BACKENDS}


@cache
def _backend(name: str) -> Any:
    module, _, attribute = BACKENDS[name].partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found


def why_not(name: str) -> str | None:
    """None where the backend is usable, else the reason in a sentence."""
    try:
        reason: str | None = _backend(name).why_not()
    except Exception as error:  # whatever a broken installation raises
        return f"its array library cannot be used: {type(error).__name__}: {error}"
    return reason


class use_backend:
    """Chooses the backend for all calls: process-wide when called, for one context as `with use_backend(name):`.

    name: a key of `pooling.backends()`, or None to let the array choose again. Raises TypeError for a name that is no
    string, ValueError for one that is unknown, RuntimeError for a backend that is not usable here.

    >>> import numpy as np, pooling
    >>> with pooling.use_backend("cpu"):
    ...     pooling.pool(np.arange(4.0).reshape(1, 4, 1), "max", 2).ravel()
    array([1., 3.])
    """

    def __init__(self, name: str | None) -> None:
        global _process
        if name is not None:
            _usable("use_backend: name", name)
        self._name, self._before = name, _process
        self._tokens: list[Token[str | None]] = []
        _process = name

    def __enter__(self) -> use_backend:
        global _process
        if not self._tokens:
            _process = self._before  # the block's choice is its own; the process keeps the one it had
        self._tokens.append(_context.set(self._name))
        return self

    def __exit__(self, *_: object) -> None:
        _context.reset(self._tokens.pop())


def _usable(argument: str, name: Any) -> Any:
    known = isinstance(name, str)
    if not known or name not in BACKENDS:
        kind = ValueError if known else TypeError
        raise kind(f"{argument}={shown(name)}: a backend is one of {', '.join(map(repr, BACKENDS))}")
    reason = why_not(name)
    if reason is not None:
        raise RuntimeError(f"{argument}={name!r} is not usable here: {reason}")
    return _backend(name)


def find(asked: str | None, first: str, array: Any, /, **others: Any) -> tuple[Any, Any]:
    """The backend for these arrays, and the backend that owns the arrays' kind."""
    kind, owner = owner_of(first, array)
    for name, other in others.items():
        if owner_of(name, other)[0] != kind:
            raise TypeError(f"{name} is {_type(other)} but {first} is {_type(array)}: the arrays of one call are of one kind")
    chosen = asked if asked is not None else _context.get(_process)
    if chosen is None or chosen == kind == "cpu":
        return owner, owner
    # use_backend() has checked its names: what was not asked for and is wrong comes from the environment.
    module = _usable("POOLING_BACKEND" if asked is None else "backend", chosen)
    return module, module if module.owns(array) else owner


def owner_of(name: str, x: Any) -> tuple[str, Any]:
    """The kind of an array and the backend that owns it; a TypeError that names the conversion for anything else."""
    if (found := _owners.get(type(x))) is not None:
        return found
    for kind, module in _KINDS.items():
        if module in sys.modules and (owner := _backend(kind)).owns(x):
            if type(x).__module__ == module:
                _owners[type(x)] = kind, owner
            return kind, owner
    hint = "x.numpy()" if type(x).__module__.startswith("torch") else "numpy.asarray(x)"
    if hasattr(type(x), "filled"):  # a masked array
        hint = "numpy.ma.filled(x, value)"
    raise TypeError(f"{name} is {_type(x)}; a NumPy array or an mx.array is needed: write {hint.replace('x', name)}")


def plain(name: str, x: Any) -> Any:
    """The array without what a subclass makes of it; a TypeError for what is no array."""
    return owner_of(name, x)[1].plain(x)


def _type(x: Any) -> str:
    kind = type(x)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
