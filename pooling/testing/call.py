"""How anyone's function is called with a case, and what stands in its way.

A function takes what its signature names: of a case's arguments it gets those, and a case that needs another one is not
asked. What it returns is read by numpy.asarray.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import SkipTest

from .draw import Asked, asked_of, difference, failure
from .golden import Golden

# What an argument stands at where a call does not give it; a function that insists on it gets this.
DEFAULTS: dict[str, Any] = {
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
    "p": 2.0,
    "return_indices": False,
    "dtype": None,
    "output_size": None,
    "indices": None,
    "out": None,
    "backend": None,
}
ARRAYS = ("grad_output", "x", "indices")
KNOWN = ("mode", "kernel", "stride", "padding", "dilation", "layout", *ARRAYS, *DEFAULTS)


def needed(golden: Golden) -> list[str]:
    """The arguments without which a function cannot know what the case asks; mode and layout it may imply."""
    plain = golden.plain

    def at_default(name: str, value: Any) -> bool:
        if name == "stride":
            return bool(value == plain["kernel"])
        if name == "padding":
            return not any(map(any, value))
        if name == "dilation":
            return set(value) == {1}
        if name in DEFAULTS and DEFAULTS[name] is None:  # a dtype equals None: NumPy reads it as float64
            return value is None
        return name in DEFAULTS and bool(value == DEFAULTS[name])

    implied = ("mode", "layout")
    return [*golden.views, *(name for name, value in plain.items() if name not in implied and not at_default(name, value))]


def load(target: str) -> Callable[..., Any]:
    """The function that package.module:function names."""
    module, colon, path = target.partition(":")
    if not (module and colon and path):
        raise ImportError("a function is named as package.module:function")
    found = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found  # type: ignore[return-value]


class Function:
    """A function that is to be checked, and the arguments that it takes."""

    def __init__(self, fn: Callable[..., Any], spelled: bool = False, target: str | None = None) -> None:
        if not callable(fn):
            raise TypeError(f"a function is checked, not {fn!r}")
        self._fn, self._spelled = fn, spelled
        self.name = getattr(fn, "__name__", type(fn).__name__)
        self.target = target or _target(fn)
        try:
            parameters = inspect.signature(fn).parameters.values()
        except ValueError:
            raise TypeError(f"{self.name}: its parameters cannot be read; wrap it, as in lambda x, kernel: ...") from None
        named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        self._named = {one.name for one in named}
        self._takes_all = any(one.kind == one.VAR_KEYWORD for one in parameters)
        self._required = {one.name for one in named if one.default is one.empty}
        if not self.takes("x"):
            raise TypeError(
                f"{self.name} takes no argument 'x': arguments are given by name, so wrap it, as in lambda x, kernel: ..."
            )
        unknown = sorted(self._required - set(KNOWN)) + [one.name for one in parameters if one.kind == one.POSITIONAL_ONLY]
        if unknown:
            raise TypeError(f"{self.name} requires {', '.join(map(repr, unknown))}; a case has {', '.join(KNOWN)}")

    def takes(self, name: str) -> bool:
        return self._takes_all or name in self._named

    def refusal(self, golden: Golden) -> str | None:
        """Why it cannot be asked this case, or None."""
        missing = [name for name in needed(golden) if not self.takes(name)]
        if missing:
            return f"{self.name} takes no {missing[0]}"
        absent = sorted(self._required - set(golden.views) - set(golden.plain) - set(DEFAULTS))
        if "indices" in self._required and "indices" not in golden.views:
            absent.append("indices")
        return f"{self.name} requires {', '.join(absent)}" if absent else None

    def arguments(self, golden: Golden) -> dict[str, Any]:
        """What it is given beside the arrays."""
        given = dict(golden.arguments if self._spelled else golden.plain)
        for name, default in DEFAULTS.items():
            if name in self._required and name not in golden.views:
                given.setdefault(name, default)
        return {name: value for name, value in given.items() if self.takes(name)}

    def asked(self, golden: Golden) -> Asked:
        """How a case is asked of it."""
        again = asked_of(golden).again
        if self.target is not None:
            other = "" if golden.function == "pool" else f"--call {golden.function} "
            spelled = "--spelled " if self._spelled else ""
            again = f"python -m pooling.testing --function {self.target} {spelled}{other}--name {golden.name}"
        return Asked(self.name, self.arguments(golden), again)

    def fault(self, golden: Golden, drawn: bool = True) -> str | None:
        """Asks one case: None where the result is what is expected, or else the text; SkipTest where it cannot be asked."""
        refusal = self.refusal(golden)
        if refusal is not None:
            raise SkipTest(refusal)
        arrays, asked = golden.arrays, self.asked(golden)
        try:
            result = self._fn(**arrays, **asked.arguments)
        except NotImplementedError as error:
            raise SkipTest(str(error) or f"{self.name} raised NotImplementedError") from None
        except Exception as error:  # whatever a kernel raises is its answer
            return failure(golden, [("raised", _told(error))], asked)
        for name, array in golden.views.items():
            if array.tobytes() != arrays[name].tobytes():
                return failure(golden, [("differ", f"{name} was modified; it is to be read only")], asked)
        return difference(golden, result, asked, drawn)


def _told(error: Exception) -> str:
    """The exception, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {error}{where}"


def _target(fn: Callable[..., Any]) -> str | None:
    """package.module:function, if the command line can find it there."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "<")
    return f"{module}:{name}" if module not in (None, "__main__", "builtins") and "<" not in name else None
