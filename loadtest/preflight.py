"""What is known of a server before it is loaded: that it is there, lets us in, and what it answers.

Any server may be loaded: one that says nothing of its models is asked for everything.
"""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable

# Where tasks have another name in the list of models.
_LISTED_AS = {"question-answering": "answer"}
_PATIENCE_S = 3.0
_TIMEOUT_S = 5.0
_REFUSED = (401, 403)


class NoServer(Exception):
    """There is nothing to load; says why, and what to do."""


def find_tasks(host: str, key: str, tasks: Iterable[str]) -> list[str]:
    """Which of these tasks the server answers: all of them where it does not say.

    Waits a while for one that is about to start. Raises NoServer.
    """
    listed = _list_tasks(host.rstrip("/"), key)
    return [each for each in tasks if listed is None or _LISTED_AS.get(each, each) in listed]


def _list_tasks(host: str, key: str) -> set[str] | None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # The operator's own word for where the server is.
    request = urllib.request.Request(f"{host}/v1/models", headers=headers)  # noqa: S310
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                return _read_tasks(response.read())
        except urllib.error.HTTPError as error:
            if error.code in _REFUSED:
                raise NoServer(
                    f"{host} wants a key that it knows; give it with --key, or in LOADTEST_KEY"
                ) from None
            return None
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError | socket.gaierror):
                return None
            if time.monotonic() > end:
                raise NoServer(
                    f"no server answers at {host} ({error.reason}); start one, or name another "
                    "with --host"
                ) from None
            time.sleep(0.5)
        except OSError:
            return None


def _read_tasks(content: bytes) -> set[str] | None:
    """All that the models of a list answer; None where it does not say."""
    try:
        models = json.loads(content)["data"]
        return {task for model in models for task in model["tasks"] + model["derived_tasks"]}
    except (ValueError, KeyError, TypeError):
        return None
