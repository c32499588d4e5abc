"""The headers that every answer carries, also errors: what browsers may not do with it.

Made once, as bytes.
"""

_POLICY = b"content-security-policy"
COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
# Nothing is loaded, run or framed.
STRICT = [*COMMON, (_POLICY, b"default-src 'none'; frame-ancestors 'none'")]


def choose_headers(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What an answer lacks: one that has a policy of its own, as a page has, keeps that."""
    for name, _ in given:
        if name == _POLICY:
            return COMMON
    return STRICT
