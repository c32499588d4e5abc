"""`python -m service.healthcheck`: exit 0 if the service beside it is ready, else 1 and why not.

For containers, which need neither a shell nor curl for it. It takes `--host` and `--port` as the
service does, and reads CLOZE_HOST and CLOZE_PORT by itself: a check comes every few seconds, and
all the settings would take longer than it.
"""

import argparse
import http.client
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import closing

_TIMEOUT_S = 2.0
# A service that listens on every address of a kind is asked on the machine's own. (As
# service/server/addresses.py has it, which would take longer to import than the check.)
_OWN = {"*": "127.0.0.1", "": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_UNIX = "unix:"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket at a path."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


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
    host = _OWN.get(given.host, given.host)
    where = f"port {given.port}"
    connection: http.client.HTTPConnection
    try:
        if host.startswith(_UNIX):
            where, connection = host, _UnixConnection(host.removeprefix(_UNIX))
        else:
            connection = http.client.HTTPConnection(host, int(given.port), timeout=_TIMEOUT_S)
        with closing(connection):
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            answer = response.read().decode()
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer on {where}: {error}\n")
        return 1
    sys.stdout.write(f"{answer}\n")
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
