"""The examples do what they say, and say what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[1] / "examples" / "digits.py"


def run(*arguments):
    """A fresh interpreter on one thread: other tests have the other processors."""
    environment = {**os.environ, "POOLING_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment)


def test_digits_are_learnt_as_well_as_with_mlx_nn():
    done = run(DIGITS, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^MLX .* on Device\(.*\); pooling's backend is mlx, which takes the best of .*mlx:ops", done.stdout)
    assert re.findall(r"^(\S+): MaxPool2d", done.stdout, re.MULTILINE) == ["pooling.mlx_nn", "mlx.nn"]
    shares = [float(share) for share in re.findall(r"recognises ([\d.]+)%", done.stdout)]
    assert len(shares) == 2 and min(shares) >= 95 and abs(shares[0] - shares[1]) < 2


def test_digits_can_be_learnt_with_one_implementation():
    done = run(DIGITS, "--quick", "--backend", "mlx:ops")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pooling's backend is mlx:ops\n" in done.stdout


@pytest.mark.parametrize("least, apart, code", [(0, 1, 0), (1.01, 1, 1), (0, 0, 1)])
def test_digits_that_are_not_learnt_are_a_failure(least, apart, code):
    """The script's own checks, with what they ask for within and out of reach of one epoch."""
    program = f"import runpy, sys; main = runpy.run_path({str(DIGITS)!r})['main']; sys.argv[1:] = ['--quick']"
    program += f"; main.__globals__.update(QUICK_EPOCHS=1, LEAST={least}, APART={apart}); main()"
    done = run("-c", program)
    assert done.returncode == code, done.stderr
    assert ("FAILED" in done.stderr) == bool(code)


@pytest.mark.parametrize("missing", ["mlx", "sklearn"])
def test_what_is_missing_is_said(missing):
    program = f"import runpy, sys; sys.modules[{missing!r}] = None; runpy.run_path({str(DIGITS)!r}, run_name='__main__')"
    done = run("-c", program)
    assert done.returncode == 1
    assert missing in done.stderr and 'pip install "pooling[examples]"' in done.stderr and "Traceback" not in done.stderr
