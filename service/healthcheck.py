"""`python -m service.healthcheck`: exit 0 if the service beside it is ready, else 1 and why not.

For containers, which need neither a shell nor curl for it. It takes `--host` and `--port` as the
service does, and reads CLOZE_HOST and CLOZE_PORT by itself: a check comes every few seconds, and
all the settings would take longer than it.
"""

import argparse
import http.client
import os
import sys
from collections.abc import Sequence
from contextlib import closing

_TIMEOUT_S = 2.0
# A service that listens on every address of a kind is asked on the machine's own.
_OWN = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask /health/ready where flags say that the service listens, else where the settings do."""
    parser = argparse.ArgumentParser(
        prog="python -m service.healthcheck",
        description="Exit 0 if the service on this machine is ready, else 1.",
    )
    parser.add_argument(
        "--host",
        default=os.environ.get("CLOZE_HOST", "127.0.0.1"),
        help="the address it listens on (CLOZE_HOST)",
    )
    parser.add_argument(
        "--port",
        default=os.environ.get("CLOZE_PORT", "8080"),
        help="the port it listens on (CLOZE_PORT)",
    )
    given = parser.parse_args(arguments)
    try:
        host, port = _OWN.get(given.host, given.host), int(given.port)
        with closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)) as connection:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            answer = response.read().decode()
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer on port {given.port}: {error}\n")
        return 1
    sys.stdout.write(f"{answer}\n")
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
