"""`python -m service.healthcheck`: exit 0 if the service beside it is ready, else 1 and why not.

For containers, which need neither a shell nor curl for it.
"""

import http.client
import os
import sys
from contextlib import closing

_TIMEOUT_S = 2.0


def main() -> int:
    """Ask /health/ready on this machine, at the port of the settings."""
    port = os.environ.get("CLOZE_PORT", "8080")
    try:
        with closing(
            http.client.HTTPConnection("127.0.0.1", int(port), timeout=_TIMEOUT_S)
        ) as connection:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            answer = response.read().decode()
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer on port {port}: {error}\n")
        return 1
    sys.stdout.write(f"{answer}\n")
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
