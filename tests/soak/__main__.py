"""Drive mixed load against the real service while it is damaged, and count what is lost or wrong.

Sessions are killed, hung and held, bundles replaced, clients leave, texts are poisonous, and the
queue is filled over its bound. Every answer is compared with the known one. Exit code 1 unless
nothing is lost, nothing is wrong, and the service is as before when it is over.
"""

import argparse
import json
import sys

import numpy as np

from benchmarks.results import save_results, say
from benchmarks.servers import stop_on_terminate
from tests.soak.judgement import Outcome
from tests.soak.soak import Plan, Report, soak


def show(report: Report) -> None:
    """Print what came of it."""
    tally, damage = report.tally, report.damage
    quick, slow = np.percentile(tally.seconds or [0.0], [50, 99]) * 1e3
    start, end = report.memory_mb
    rows = [
        ("requests sent", str(tally.sent)),
        *((str(outcome), str(tally.outcomes[outcome])) for outcome in Outcome),
        ("statuses", ", ".join(f"{n} x {code}" for code, n in sorted(tally.statuses.items()))),
        ("clients left while", ", ".join(f"{kind} {n}" for kind, n in tally.left.items())),
        ("sessions", ", ".join(f"{n} {kind}" for kind, n in damage.faults.items())),
        ("of these gone with their bundle", str(damage.swept)),
        ("sessions replaced, by its metric", str(report.replaced)),
        ("bundles replaced", f"{damage.bundles} by {'/admin' if damage.by_admin else 'SIGHUP'}"),
        ("times the queue was filled", str(damage.bursts)),
        ("longest time not ready", f"{damage.not_ready_s:.1f} s"),
        ("lines of the log nobody could read", str(len(damage.unread))),
        ("answered right, p50 and p99", f"{quick:.0f} ms, {slow:.0f} ms"),
        ("memory at start and end", f"{start:.0f} MB, {end:.0f} MB"),
    ]
    say(f"[bold]Soak: {report.seconds:.0f} s[/]")
    for what, found in rows:
        say(f"  {what:34}{found}")
    for failure in tally.failures:
        say(json.dumps(failure, indent=1))
    for problem in report.problems:
        say(f"problem: {problem}")


def save(report: Report) -> str:
    """Write it as JSON, and return where."""
    tally, damage, plan = report.tally, report.damage, report.plan
    quick, slow = np.percentile(tally.seconds or [0.0], [50, 99]) * 1e3
    content = {
        "passed": report.passed,
        "plan": {"seconds": plan.seconds, "rate": plan.rate, "seed": plan.seed},
        "seconds": report.seconds,
        "sent": tally.sent,
        "outcomes": {str(outcome): tally.outcomes[outcome] for outcome in Outcome},
        "statuses": dict(tally.statuses),
        "left": {str(kind): count for kind, count in tally.left.items()},
        "answered_ms": {"p50": quick, "p99": slow},
        "faults": dict(damage.faults),
        "swept": damage.swept,
        "sessions_replaced": report.replaced,
        "bundles_replaced": damage.bundles,
        "by_admin": damage.by_admin,
        "bursts": damage.bursts,
        "not_ready_s": damage.not_ready_s,
        "unread": sorted(damage.unread),
        "memory_mb": {"start": report.memory_mb[0], "end": report.memory_mb[1]},
        "failures": tally.failures,
        "problems": report.problems,
    }
    return str(save_results(plan.name, content))


def main() -> int:
    """Run the command line, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="default: 3")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second; default: 40")
    parser.add_argument("--seed", type=int, default=0, help="what is drawn; default: 0")
    given = parser.parse_args()
    if given.minutes <= 0 or given.rate <= 0:
        parser.error("--minutes and --rate are more than 0")
    stop_on_terminate()
    report = soak(Plan(60.0 * given.minutes, given.rate, given.seed))
    show(report)
    say(f"written to {save(report)}; the service's log is {report.plan.log}")
    say("passed" if report.passed else "[red]failed[/]")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
