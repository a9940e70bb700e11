"""The laws of laws.py on every backend, for calls that hypothesis draws; and answers of other libraries where they define them.

`python -m pytest tests/test_laws.py --hypothesis-profile=long -n auto` draws for hours, and other calls each time. What fails
is kept in found.json, in its smallest form, as a named call that every later run asks again: of the law, and of the oracle.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import saboteurs
from agreement import BACKENDS, refused
from laws import LAWS, Backend

FOUND = Path(__file__).with_name("found.json")
ASIDE = 5  # beside the CPU's, a backend has one in so many calls


def keep(path: Path, law: str, backend: str, call: dict[str, Any], wrong: str) -> None:
    """Adds a call to the list of those that were once wrong."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    number = zlib.crc32(json.dumps([law, call], sort_keys=True).encode())
    entry = {"name": f"{law}/{call['mode']}/{call['dtype']}/{number:08x}", "law": law, "backend": backend, "function": "pool"}
    if entry["name"] not in {other["name"] for other in known}:
        known.append(entry | call | {"wrong": wrong})
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def asked(law: str, ours: Any, call: dict[str, Any]) -> None:
    """The law on one call; a call that a backend has no type for is drawn again."""
    try:
        with np.errstate(all="ignore"):
            LAWS[law].holds(ours, call)
    except TypeError as error:
        if "refuses this call" not in str(error) or not refused(getattr(ours, "name", ""), call["mode"], "float64"):
            raise
        hypothesis.reject()


def hold(law: str, name: str, ours: Any, found: Path, settings: hypothesis.settings) -> None:
    """The law on all calls that are drawn; the smallest that breaks it is kept."""
    last: list[Any] = []

    @hypothesis.settings(settings, suppress_health_check=list(hypothesis.HealthCheck), report_multiple_bugs=False)
    @hypothesis.given(LAWS[law].calls)
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
            keep(found, law, name, *last)
        raise


def own(share: int = 1) -> hypothesis.settings:
    """The profile's settings, with one in so many of its calls."""
    return hypothesis.settings(max_examples=max(1, hypothesis.settings().max_examples // share))


@pytest.mark.parametrize("backend", ["oracle", *BACKENDS])
@pytest.mark.parametrize("law", LAWS)
def test_law(law, backend):
    if backend == "oracle":
        control = saboteurs.backend(saboteurs.CONTROL)  # the oracle, and `out`
        hold(law, backend, control, FOUND, own(ASIDE))
    elif not LAWS[law].only or backend in LAWS[law].only:
        hold(law, backend, Backend(backend), FOUND, own(1 if backend == "cpu" else ASIDE))


BREAKING = hypothesis.settings(max_examples=400, derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize("law", LAWS)
def test_every_law_can_fail(law, tmp_path):
    """On a backend with one mistake; and the call on which it does is a file from then on."""
    row = next(row for row in (*saboteurs.SABOTEURS, *saboteurs.UNSEEN) if row.name == LAWS[law].broken_by)
    found = tmp_path / "found.json"
    with pytest.raises(AssertionError):
        hold(law, row.name, saboteurs.backend(row), found, hypothesis.settings(BREAKING, phases=[hypothesis.Phase.generate]))
    [call] = json.loads(found.read_text())
    assert call["law"] == law and call["name"].startswith(f"{law}/{call['mode']}/") and call["wrong"]
    with pytest.raises(AssertionError):
        asked(law, saboteurs.backend(row), call)
    asked(law, saboteurs.backend(saboteurs.CONTROL), call)
