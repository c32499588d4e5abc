"""API keys: entries of settings, kept as hashes, and the ring that finds whose key was sent.

An entry is `KEY`, `name:KEY`, `name:sha256:HEX` or `sha256:HEX`: whatever has no colon is a key.
`python -m service.keys [NAME]` makes a key and its entry.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.errors import SettingsError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASHED = "sha256"
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """A key's name and the SHA-256 of the key. `filed` keys are read again by `reload_keys`."""

    name: str
    digest: bytes = field(repr=False)
    filed: bool = False


class KeyRing:
    """The `keys` that let someone in. Without any, everyone is."""

    def __init__(self, keys: Iterable[Key] = (), file: Path | None = None) -> None:
        self.keys = tuple(keys)
        self._file = file

    def find(self, authorization: bytes | None, *, basic: bool = False) -> str | None:
        """The name of the key in an Authorization header, or None if it holds no known one.

        `basic` also takes the key as the password of HTTP's Basic scheme, for browsers.
        """
        sent = _extract_key(authorization or b"", basic=basic)
        if sent is None:
            return None
        digest = hashlib.sha256(sent).digest()
        found = None
        for key in self.keys:
            # Every key is compared, whole, whatever the others gave: time tells nothing.
            if hmac.compare_digest(key.digest, digest):
                found = key.name
        return found

    @property
    def filed(self) -> bool:
        """Whether some of them are a file's."""
        return self._file is not None

    def read(self) -> tuple[Key, ...]:
        """Its keys, those of its file as they stand there now. Raises SettingsError."""
        if self._file is None:
            return self.keys
        filed = read_keys(self._file, "the keys stay as they were")
        return (*(key for key in self.keys if not key.filed), *filed)

    def replace(self, keys: Iterable[Key]) -> None:
        """Let these in, and nobody else."""
        self.keys = tuple(keys)


def reload_keys(ring: KeyRing, admin_ring: KeyRing) -> None:
    """Read the files of both again. Raises SettingsError, and then both keep the keys they had."""
    keys, admin_keys = ring.read(), admin_ring.read()
    check_apart(keys, admin_keys, "the files of keys")
    ring.replace(keys)
    admin_ring.replace(admin_keys)


def check_apart(keys: Iterable[Key], admin_keys: Iterable[Key], source: str) -> None:
    """Raise SettingsError if a key is in both."""
    if {key.digest for key in keys} & {key.digest for key in admin_keys}:
        raise SettingsError(
            f"{source}: one of the admin keys is an API key too; who may ask must not be who may "
            "change the models: make another one"
        )


def parse_keys(text: str, source: str) -> tuple[Key, ...]:
    """The keys of a comma-separated setting. Raises SettingsError, which never tells a key."""
    entries = [part.strip() for part in text.split(",") if part.strip()]
    if text.strip() and not entries:
        # Whoever wrote that wanted keys, and would have none.
        raise SettingsError(
            f"{source}: {text!r} holds no key; name one, or unset it to serve without keys"
        )
    return tuple(
        _parse_entry(entry, f"{source}, entry {number}") for number, entry in enumerate(entries, 1)
    )


def read_keys(file: Path, source: str) -> tuple[Key, ...]:
    """The keys of a file. Raises SettingsError: without its keys everyone would be let in."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise SettingsError(
            f"{source}: {file} cannot be read ({error.strerror}); write one key a line into it, "
            "readable for the service, or unset it"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{source}: {file} is not UTF-8 text; write one key a line") from None
    keys = tuple(
        replace(_parse_entry(line, f"{source}: {file}, line {number}"), filed=True)
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    )
    if not keys:
        raise SettingsError(
            f"{source}: {file} holds no key; write one a line (the only one is revoked by another "
            "in its place), or unset it to serve without keys"
        )
    return keys


def _parse_entry(entry: str, place: str) -> Key:
    name, colon, rest = entry.partition(":")
    if not colon or name == _HASHED:
        name, rest = "", entry
    elif not _NAME.fullmatch(name):
        raise SettingsError(
            f"{place}: what stands before the first colon is no name (letters, digits, dot, dash "
            "and underscore, at most 64); write name:KEY, or a key without a colon"
        )
    if not rest:
        raise SettingsError(f"{place}: {name!r} has no key; write {name}:KEY")
    kind, _, text = rest.partition(":")
    if kind != _HASHED:
        digest = hashlib.sha256(rest.encode()).digest()
    elif _DIGEST.fullmatch(text):
        digest = bytes.fromhex(text)
    else:
        raise SettingsError(
            f"{place}: sha256: is not followed by 64 hexadecimal digits; "
            "`python -m service.keys` makes an entry"
        )
    return Key(name or f"key-{digest.hex()[:8]}", digest)


def _extract_key(authorization: bytes, *, basic: bool) -> bytes | None:
    scheme, _, given = authorization.partition(b" ")
    scheme, given = scheme.lower(), given.strip()
    if scheme == b"bearer":
        return given
    if basic and scheme == b"basic":
        try:
            return base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a key, and print it and the entry that lets it in."""
    parser = argparse.ArgumentParser(
        prog="python -m service.keys",
        description="Make an API key and the entry for CLOZE_API_KEYS_FILE that lets it in.",
    )
    parser.add_argument("name", nargs="?", default="", help="whose key it is; told in logs")
    name = parser.parse_args(arguments).name
    if name == _HASHED or (name and not _NAME.fullmatch(name)):
        parser.error(f"{name!r} is no name; take letters, digits, dot, dash and underscore")
    key = secrets.token_urlsafe(_KEY_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    entry = f"{name}:{_HASHED}:{digest}" if name else f"{_HASHED}:{digest}"
    sys.stdout.write(f"{entry}\n")
    sys.stderr.write(f"the key, for whoever asks; it is not shown again: {key}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
