"""Addresses as ASGI has them."""

from typing import Any


def read_address(found: Any) -> tuple[str, int | None] | None:
    """An address as ASGI has it: host and port, or the path of a Unix socket."""
    if isinstance(found, tuple):
        return str(found[0]), int(found[1])
    return (found, None) if isinstance(found, str) and found else None
