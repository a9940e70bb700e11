"""`python -m bench compare`: pooling on the CPU beside a memcpy of the same bytes and every library that pools.
`python -m bench gpu`: pooling on MLX's device, beside a copy of the same bytes, mlx.nn and PyTorch.
`python -m bench limits`: of each row of `compare`, how much is work and how much is waiting for memory.
`python -m bench accuracy`: the errors of averages, sums and 2-norms, ours and other libraries'. Tables in Markdown.

It owns the arguments and the exit codes: 0 where a table was made, 1 where our implementations differ, fail or exceed their
bound, 2 where nothing can run. (pytest-benchmark has the rest: see test_backends.py and test_mlx.py.)
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
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--quick", action="store_true", help="less of every problem, to see that it runs")
    both.add_argument("--only", metavar="NAME", action="append", help="this problem; may be repeated")
    both.add_argument("--rounds", type=int, metavar="N", help="how often each row is measured (default: 7; with --quick fewer)")
    both.add_argument("--json", type=Path, metavar="FILE", help="also write every time, in seconds")
    gpu = commands.add_parser("gpu", parents=[both], help="the named problems on the GPU, by MLX and PyTorch")
    gpu.add_argument("--batch", type=int, default=1, metavar="N", help="N times as many images (default: 1)")
    gpu.add_argument("--cpu", action="store_true", help="on MLX's CPU device, without PyTorch")
    cpu = commands.add_parser("compare", parents=[both], help="the named problems on the CPU, by every library that pools")
    cpu.add_argument("--rivals", metavar="A,B", type=lambda text: text.split(","), help="these libraries only")
    cpu.add_argument("--threads", type=int, metavar="N", help="of every library (default: all)")
    cpu.add_argument("--limit", type=float, metavar="S", help="seconds for a call (default: 5; with --quick 1)")
    kept = "measure nothing: print what --json has kept, of several files the least times"
    cpu.add_argument("--load", type=Path, metavar="FILE", action="append", help=kept)
    cpu.add_argument("--write", action="store_true", help="also write the README's tables, docs/benchmarks.md and the plots")
    exact = commands.add_parser("accuracy", help="errors against exact arithmetic, of every library that pools")
    exact.add_argument("--quick", action="store_true", help="a quarter of the results, to see that it runs")
    exact.add_argument("--json", type=Path, metavar="FILE", dest="file", help="also write every figure")
    exact.add_argument("--write", action="store_true", help="also write docs/accuracy.md and its plot")
    bound = commands.add_parser("limits", help="what limits each of the named problems on the CPU: work, or memory")
    bound.add_argument("--quick", action="store_true", help="shorter, to see that it runs")
    bound.add_argument("--only", metavar="NAME", action="append", help="this problem; may be repeated")
    bound.add_argument("--write", action="store_true", help="also write docs/limits.md")
    given = vars(parser.parse_args(arguments))
    command = given.pop("command")
    if command == "accuracy":
        from accuracy import accuracy

        return accuracy(**given)
    if command == "limits":
        from limits import limits

        return limits(**given)
    given["rounds"] = given["rounds"] or (2 if given["quick"] else 7)
    if command == "gpu":
        from gpu import table

        return table(**given)
    from compare import Options, compare

    import pooling

    given["limit"] = given["limit"] or (1.0 if given["quick"] else 5.0)
    given["threads"] = given["threads"] or pooling.get_num_threads()
    return compare(Options(**given))


if __name__ == "__main__":
    raise SystemExit(main())
