"""`python -m bench gpu`: pooling on MLX's device, beside a copy of the same bytes, mlx.nn and PyTorch; a table in Markdown.

It owns the arguments and the exit codes: 0 where a table was made, 1 where our implementations differ or fail, 2 where
nothing can run. (pytest-benchmark has the rest: see test_backends.py and test_mlx.py.)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does, for `problems`


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures pooling; see also: python -m pytest bench")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    gpu = commands.add_parser("gpu", help="the named problems on the GPU, by MLX and PyTorch")
    gpu.add_argument("--quick", action="store_true", help="a few cells of every problem, to see that it runs")
    gpu.add_argument("--cpu", action="store_true", help="on MLX's CPU device, without PyTorch")
    gpu.add_argument("--only", metavar="NAME", action="append", help="this problem; may be repeated")
    gpu.add_argument("--rounds", type=int, default=7, help="how often each row is measured (default: %(default)s)")
    gpu.add_argument("--json", type=Path, metavar="FILE", help="also write every time, in seconds")
    given = parser.parse_args(arguments)
    from gpu import table

    return table(given.quick, given.cpu, given.only, given.rounds, given.json)


if __name__ == "__main__":
    raise SystemExit(main())
