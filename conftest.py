"""How much is drawn where nothing else is said, and how the tests are shared out between processes by pytest-xdist."""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import pytest

# `--hypothesis-profile=long`, or the environment variable, draws for hours, and other calls each time.
hypothesis.settings.register_profile("quick", max_examples=150, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("long", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """A process that has none left takes half of what another one still has: the longest tests stand together."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None
