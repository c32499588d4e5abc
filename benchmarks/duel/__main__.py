"""The command line of the duel."""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.duel import __doc__ as about
from benchmarks.duel.measure import CONNECTIONS, Found, ask_some, make_texts, measure
from benchmarks.duel.report import draw, list_rates, list_targets, write_markdown
from benchmarks.duel.rivals import FOLDER, REFERENCE, Rival, list_rivals
from benchmarks.load import require_wrk
from benchmarks.results import save_results, say, show_table
from benchmarks.servers import BASELINE_PYTHON, stop_on_terminate
from benchmarks.texts import KINDS


def run(rivals: list[Rival], rounds: int, seconds: int, page: Path | None) -> None:
    """Verify, measure in rounds, show the tables, write the results."""
    require_wrk()
    texts = make_texts(FOLDER / "bundle" / "all-MiniLM-L6-v2")
    found = {rival.name: Found() for rival in rivals}
    wanted = next(ask_some(each.server, texts) for each in rivals if each.name == REFERENCE)
    for rival in list(rivals):
        try:
            cosine = float(np.sum(ask_some(rival.server, texts) * wanted, axis=1).min())
            reason = f"it gives other vectors, worst cosine {cosine:.5f}"
        except (SystemExit, RuntimeError) as error:
            cosine, reason = 0.0, str(error)
        if not cosine >= rival.cosine:
            say(f"{rival.name} is left out: {reason}")
            rivals.remove(rival)
            del found[rival.name]
            continue
        found[rival.name].worst_cosine = cosine
        say(f"{rival.name}: worst cosine to {REFERENCE} {cosine:.5f}")
    for turn in range(rounds):
        shift = turn * len(rivals) // rounds
        for rival in [*rivals[shift:], *rivals[:shift]]:
            say(f"round {turn + 1}: {rival.name}")
            measure(rival, texts, seconds, found[rival.name])
    rates, targets = list_rates(found), list_targets(found)
    head, rows = rates
    for place, kind in enumerate(KINDS):
        cut = slice(1 + len(CONNECTIONS) * place, 1 + len(CONNECTIONS) * (place + 1))
        shown = [(row[0], *row[cut]) for row in rows]
        title = f"{kind.name} texts: requests a second, medians of {rounds} rounds"
        show_table(title, ("server, connections", *map(str, CONNECTIONS)), shown)
    rest = 1 + len(CONNECTIONS) * len(KINDS)
    show_table("The rest", ("server", *head[rest:]), [(row[0], *row[rest:]) for row in rows])
    show_table("Ratios that there are targets for", *targets)
    content = {name: each.save() for name, each in found.items()}
    say(f"written to {save_results('duel', {'rounds': rounds, 'servers': content})}")
    picture = (page or FOLDER / "speed.md").with_suffix(".png")
    draw(found, picture)
    if page is not None:
        page.write_text(write_markdown(*rates) + "\n" + write_markdown(*targets))
    say(f"drawn in {picture}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.duel",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=int, default=4, help="of each load; default: 4")
    parser.add_argument("--only", default="", help="names that begin so, separated by commas")
    parser.add_argument("--page", type=Path, help="write the tables here, and the picture beside")
    parser.add_argument(
        "--baseline-python", type=Path, default=BASELINE_PYTHON, help=f"default: {BASELINE_PYTHON}"
    )
    options = parser.parse_args()
    stop_on_terminate()
    only = tuple(options.only.split(",")) if options.only else ("",)
    rivals = [
        each
        for each in list_rivals(options.baseline_python)
        if each.name.startswith(only) or each.name == REFERENCE
    ]
    run(rivals, options.rounds, options.seconds, options.page)


if __name__ == "__main__":
    main()
