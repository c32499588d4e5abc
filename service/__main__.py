"""The command line of the service: flags, settings, and the exit code."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from models.errors import ClozeError, explain_missing


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop, and return the exit code: 0, 1 if nothing can be served, 2.

    A second SIGTERM or SIGINT ends the process here, with 128 and the signal's number.
    """
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve bundles over HTTP.",
        epilog="Every other setting is an environment variable; see docs/settings.md. "
        "SIGHUP reads the bundles and the files of keys again, without disturbing what runs.",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        dest="bundles",
        metavar="DIR",
        help="a bundle to serve, or a folder of them; may be given several times (CLOZE_BUNDLES)",
    )
    parser.add_argument("--precision", help="which of its precisions to run (CLOZE_PRECISION)")
    parser.add_argument(
        "--min-cosine",
        type=float,
        help="the least cosine that --precision auto may have by its proof (CLOZE_MIN_COSINE)",
    )
    parser.add_argument("--host", help="the address to listen on (CLOZE_HOST)")
    parser.add_argument("--port", type=int, help="the port to listen on (CLOZE_PORT)")
    parser.add_argument(
        "--engines",
        action="store_true",
        help="tell what this machine has to compute with and what the bundles reach, and end",
    )
    given = vars(parser.parse_args(arguments))
    telling = given.pop("engines")
    flags = {key: value for key, value in given.items() if value is not None}
    if "bundles" in flags:
        flags["bundles"] = tuple(flags["bundles"])
    try:
        return _tell(flags) if telling else _serve(flags)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {explain_missing(error, '.venv-serve', '')}\n")
        return 2


def _tell(flags: dict[str, Any]) -> int:
    from service.engines import tell_engines
    from service.observability.log_stream import say
    from service.settings import read_settings

    try:
        return tell_engines(read_settings(flags))
    except ClozeError as error:
        say(f"error: {error}")
        return 2


def _serve(flags: dict[str, Any]) -> int:
    # Imported here: --help and wrong arguments need not wait for the web framework.
    from models.machine.allocator import return_large_blocks
    from service.app import create_app, reload_all, tell_refused
    from service.observability.log_stream import say
    from service.observability.logging import configure_logging
    from service.server.process import (
        end_early_without_loss,
        leave_the_cores,
        reload_at_hangup,
    )
    from service.server.protocol import allow_files
    from service.server.server import Server
    from service.settings import read_settings

    end_early_without_loss()
    # Asked for before it serves, the set of bundles is read anyway.
    reload_at_hangup(None)
    failures: list[Exception] = []

    def stop(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    try:
        settings = read_settings(flags)
    except ClozeError as error:
        say(f"error: {error}")
        return 2
    configure_logging(texts=settings.log_texts)
    return_large_blocks()
    if not allow_files(settings):
        say(
            f"warning: this process may not open enough files for {settings.max_connections} "
            "connections; raise its limit (ulimit -n), or set CLOZE_MAX_CONNECTIONS lower"
        )
    try:
        app = create_app(settings, on_failure=stop)
    except ClozeError as error:
        say(f"error: {error}")
        return 2
    server = Server(app, settings, partial(tell_refused, app))
    reload_at_hangup(lambda: reload_all(app))
    leave_the_cores()
    code = server.run_to_the_end()
    for failure in failures:
        say(f"error: {failure}")
    return 1 if failures else code


if __name__ == "__main__":
    code = main()
    # Not before: it brings the web framework along.
    from service.server.process import end_process

    end_process(code)
