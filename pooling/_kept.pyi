"""The types of what keeps results of plain arguments."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

R = TypeVar("R")

class Kept(Generic[R]):
    limit: int
    known: dict[Any, tuple[tuple[Any, ...], R]]
    def __init__(self, recipe: Callable[..., R]) -> None: ...
    def __call__(self, module: Any, shape: tuple[int, ...], cell: str, arguments: tuple[Any, ...]) -> R: ...
