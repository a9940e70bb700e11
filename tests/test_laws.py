"""The laws of laws.py on every backend, for calls that hypothesis draws; and answers of other libraries where they define them.

`python -m pytest tests/test_laws.py --hypothesis-profile=long -n auto` asks 133 times as many calls, other
ones each time: an hour or two on two cores. What fails is kept in found.json, in its smallest form, as a named call that every
later run asks again: of the law, and of the oracle.

The libraries come with the extras torch and bench; under POOLING_REQUIRE_TORCH and POOLING_REQUIRE_BENCH they must be there.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import saboteurs
from agreement import BACKENDS, refused
from elsewhere import EXTRAS, LIBRARIES
from laws import LAWS, Backend, Law

FOUND = Path(__file__).with_name("found.json")
EVERY = LAWS | LIBRARIES
NARROW = [name for name in BACKENDS if refused(name, "max", "float64")]
# A backend beside the CPU's has one in so many calls; a GPU's kernels are compiled first, for each mode and type.
SHARES = {"oracle": 3} | {name: 25 if name in NARROW else 5 for name in BACKENDS if name != "cpu"}


def keep(path: Path, law: str, backend: str, call: dict[str, Any], wrong: str) -> None:
    """Adds a call to the list of those that were once wrong."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    number = zlib.crc32(json.dumps([law, call], sort_keys=True).encode())
    entry = {"name": f"{law}/{call['mode']}/{call['dtype']}/{number:08x}", "law": law, "backend": backend, "function": "pool"}
    if entry["name"] not in {other["name"] for other in known}:
        known.append(entry | call | {"wrong": wrong})
        path.write_text("[\n" + ",\n".join(map(json.dumps, known)) + "\n]\n", encoding="utf-8")


def asked(law: Law, ours: Any, call: dict[str, Any]) -> None:
    """The law on one call; a call that a backend has no type for is drawn again."""
    try:
        with np.errstate(all="ignore"):
            law.holds(ours, call)
    except TypeError as error:
        if "refuses this call" not in str(error) or getattr(ours, "name", "") not in NARROW:
            raise
        hypothesis.reject()


def hold(name: str, ours: Any, backend: str, settings: hypothesis.settings, found: Path = FOUND) -> None:
    """The law of this name on all calls that are drawn; the smallest that breaks it is kept."""
    law, last = EVERY[name], []

    @hypothesis.settings(settings, suppress_health_check=list(hypothesis.HealthCheck), report_multiple_bugs=False)
    @hypothesis.given(law.calls)
    def run(call: dict[str, Any]) -> None:
        try:
            asked(law, ours, call)
        except hypothesis.errors.UnsatisfiedAssumption:
            raise
        except Exception as error:
            last[:] = [call, f"{type(error).__name__}: {error}"]
            raise

    try:
        run()
    except Exception:
        if last:
            keep(found, name, backend, *last)
        raise


def share(one_in: int = 1) -> hypothesis.settings:
    """The profile's settings, with one in so many of its calls."""
    return hypothesis.settings(max_examples=max(1, hypothesis.settings().max_examples // one_in))


def offered(name: str) -> Any:
    """The functions of a backend, or those of the oracle."""
    return saboteurs.backend(saboteurs.CONTROL) if name == "oracle" else Backend(name)


@pytest.mark.parametrize(
    "law, backend",
    [
        (name, backend)
        for name, law in LAWS.items()
        for backend in ("oracle", *BACKENDS)
        if backend in (law.only or ("oracle", *BACKENDS))
    ],
)
def test_law(law, backend):
    hold(law, offered(backend), backend, share(SHARES.get(backend, 1)))


def library(name: str) -> Any:
    """Imports it; where its extra is said to be there (POOLING_REQUIRE_TORCH, POOLING_REQUIRE_BENCH) it must be."""
    extra = EXTRAS[name]
    if os.environ.get(f"POOLING_REQUIRE_{extra.upper()}"):
        return import_module(name)
    return pytest.importorskip(name, reason=f"the {extra} extra is not installed")


@pytest.mark.parametrize("backend", ["oracle", "cpu"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_library(name, backend):
    library(name)
    hold(name, offered(backend), backend, share(10 if name == "jax" else 1))  # it compiles for every shape


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_once_wrong(backend):
    """found.json, of the laws that can be asked here."""
    again(json.loads(FOUND.read_text(encoding="utf-8")), offered(backend))


def again(found: list[dict[str, Any]], ours: Any) -> None:
    for call in found:
        for law in (call["law"], "the_oracle_agrees"):
            with contextlib.suppress(hypothesis.errors.UnsatisfiedAssumption):
                if law in LAWS:
                    asked(LAWS[law], ours, call)


# Plenty: what hypothesis draws depends on the modules that are loaded, and it stops where the law breaks.
BREAKING = hypothesis.settings(
    max_examples=4000, derandomize=True, database=None, deadline=None, phases=[hypothesis.Phase.generate]
)


@pytest.mark.parametrize("law", EVERY)
def test_every_law_can_fail(law, tmp_path):
    """On a backend with one mistake; and the call on which it does is a named case from then on."""
    if law in LIBRARIES:
        library(law)
    row = next(row for row in (*saboteurs.SABOTEURS, *saboteurs.UNSEEN) if row.name == EVERY[law].broken_by)
    broken, found = saboteurs.backend(row), tmp_path / "found.json"
    for _ in range(2):
        with pytest.raises(AssertionError):
            hold(law, broken, row.name, BREAKING, found)
    [call] = json.loads(found.read_text(encoding="utf-8"))  # the same one twice
    assert call["law"] == law and call["name"].startswith(f"{law}/{call['mode']}/") and call["wrong"]
    with pytest.raises(AssertionError):
        asked(EVERY[law], broken, call)
    asked(EVERY[law], offered("oracle"), call)


def test_what_is_found_is_small_and_asked_again(tmp_path):
    """hypothesis shrinks it: here to a window of padding and one cell below 0."""
    broken = saboteurs.backend(next(row for row in saboteurs.SABOTEURS if row.name == "integers_padded_with_0"))
    found = tmp_path / "found.json"
    with pytest.raises(AssertionError):
        hold("the_oracle_agrees", broken, "broken", hypothesis.settings(BREAKING, phases=list(hypothesis.Phase)), found)
    [call] = calls = json.loads(found.read_text(encoding="utf-8"))
    assert call["shape"][0] == call["shape"][-1] == 1 and len(call["shape"]) == 3 and call["mode"] in ("max", "min")
    with pytest.raises(AssertionError):
        again(calls, broken)
    again(calls, offered("oracle"))
