"""Addresses: where the service is told to listen, as a URL, and as ASGI has them."""

from typing import Any

# Before the path of a socket, in the place of a host.
UNIX = "unix:"
# All addresses of both kinds, and of one.
BOTH = "*"
_EVERY = {BOTH: "127.0.0.1", "": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def bind(host: str, port: int) -> dict[str, Any]:
    """What uvicorn's settings have for an address, a name, `*` or `unix:PATH`."""
    if host.startswith(UNIX):
        return {"uds": host.removeprefix(UNIX)}
    return {"host": "" if host == BOTH else host, "port": port}


def write_url(host: str, port: int, root: str = "") -> str:
    """Where one on this machine asks a service that listens there; of a socket its own name."""
    if host.startswith(UNIX):
        return host
    name = _EVERY.get(host, host)
    # RFC 3986: an address of IPv6 stands in brackets, and the % of its zone is written out.
    shown = f"[{name.replace('%', '%25')}]" if ":" in name else name
    return f"http://{shown}:{port}{root}"


def read_address(found: Any) -> tuple[str, int | None] | None:
    """An address as ASGI has it: host and port, or the path of a Unix socket."""
    if isinstance(found, tuple):
        return str(found[0]), int(found[1])
    return (found, None) if isinstance(found, str) and found else None
