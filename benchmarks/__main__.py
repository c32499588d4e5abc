"""All benchmarks, one after another: about ten minutes on two quiet cores."""

import argparse
import sys
from collections.abc import Callable

from benchmarks import in_process, over_http, startup
from benchmarks.results import say
from benchmarks.servers import stop_on_terminate


def main() -> int:
    """Run the command line, and return the exit code: 1 if a part could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Speed, start-up and memory, with the targets beside the figures.",
    )
    over_http.add_options(parser)
    parser.add_argument(
        "--quick", action="store_true", help="one short round of each: to see that it works"
    )
    options = parser.parse_args()
    stop_on_terminate()
    plan = over_http.Plan(baseline_python=options.baseline_python)
    rounds, starts = in_process.ROUNDS, startup.STARTS
    if options.quick:
        plan = over_http.Plan(1, 3, options.baseline_python)
        rounds, starts = 1, 1
    parts: tuple[Callable[[], object], ...] = (
        lambda: in_process.run(rounds),
        lambda: over_http.run(plan),
        lambda: startup.run(starts),
    )
    return max([_attempt(part) for part in parts])


def _attempt(part: Callable[[], object]) -> int:
    """Run a part; one that cannot be measured says why, and the others go on."""
    try:
        part()
    except SystemExit as refusal:
        if not isinstance(refusal.code, str):
            raise
        say(f"[red]not measured:[/] {refusal}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
