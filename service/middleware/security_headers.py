"""The headers that every answer carries, also errors: what browsers may not do with it.

Made once, as bytes. An answer that has a policy of its own, as a page has, keeps that.
"""

POLICY = b"content-security-policy"
COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
# Nothing is loaded, run or framed.
STRICT = [*COMMON, (POLICY, b"default-src 'none'; frame-ancestors 'none'")]
