"""Keys: how entries are written, that only hashes are kept, and whose key was sent."""

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import SettingsError
from service.keys import KeyRing, parse_keys, read_keys, reload_keys

ROOT = Path(__file__).parents[2]
DIGEST = hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("secret", f"key-{DIGEST[:8]}"),
        ("shop:secret", "shop"),
        ("shop-2.eu_west:secret", "shop-2.eu_west"),
        (f"shop:sha256:{DIGEST}", "shop"),
        (f"shop:sha256:{DIGEST.upper()}", "shop"),
        (f"sha256:{DIGEST}", f"key-{DIGEST[:8]}"),
    ],
)
def test_every_way_to_write_a_key(entry: str, name: str) -> None:
    ring = KeyRing(parse_keys(entry, "here"))
    assert ring.find(b"Bearer secret") == name
    assert ring.find(b"Bearer " + entry.encode()) == (name if entry == "secret" else None)
    assert ring.find(b"Bearer " + DIGEST.encode()) is None


def test_a_key_may_hold_colons_behind_its_name() -> None:
    (key,) = parse_keys("shop:a:b", "here")
    assert KeyRing([key]).find(b"Bearer a:b") == "shop"


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("shop:", "has no key"),
        (":secret", "is no name"),
        ("my shop:secret", "is no name"),
        ("x" * 65 + ":secret", "is no name"),
        ("shop:sha256:abc", "64 hexadecimal digits"),
        ("shop:sha256:" + "g" * 64, "64 hexadecimal digits"),
        ("sha256:secret", "64 hexadecimal digits"),
    ],
)
def test_a_wrong_entry_is_named_by_its_place_and_never_told(
    entry: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=complaint) as refused:
        parse_keys(f"right,{entry}", "CLOZE_API_KEYS")
    assert str(refused.value).startswith("CLOZE_API_KEYS, entry 2: ")
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nright\n{entry}\n")
    with pytest.raises(SettingsError, match=complaint) as refused:
        read_keys(file, "CLOZE_API_KEYS_FILE")
    assert f"{file}, line 4: " in str(refused.value)
    assert "secret" not in str(refused.value)


def test_only_hashes_are_kept() -> None:
    (key,) = parse_keys("shop:secret", "here")
    assert key.digest == hashlib.sha256(b"secret").digest()
    assert "secret" not in repr(key)
    assert key.digest.hex() not in repr(key)
    assert repr(key.digest) not in repr(key)


@pytest.mark.parametrize(
    ("authorization", "name"),
    [
        (b"Bearer one", "first"),
        (b"bEARER   two ", "second"),
        (b"Bearer three", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"one", None),
        (b"", None),
        (None, None),
        (b"Bearer one,Bearer one", None),
        (b"Bearer \xff\xfe", None),
        (b"Basic " + base64.b64encode(b"any:two"), None),
    ],
)
def test_whose_key_it_is(authorization: bytes | None, name: str | None) -> None:
    ring = KeyRing(parse_keys("first:one,second:two", "here"))
    assert ring.find(authorization) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [(b"any:two", "second"), (b":two", "second"), (b"two", None), (b"two:any", None)],
)
def test_browsers_send_a_key_as_password(given: bytes, name: str | None) -> None:
    ring = KeyRing(parse_keys("first:one,second:two", "here"))
    assert ring.find(b"Basic " + base64.b64encode(given), basic=True) == name
    assert ring.find(b"Basic ?", basic=True) is None
    assert ring.find(b"Bearer one", basic=True) == "first"


def test_a_rotated_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("shop:old\n")
    ring = KeyRing((*parse_keys("mine:set", "here"), *read_keys(file, "there")), file)
    file.write_text("shop:old\nshop:new\n")
    reload_keys(ring, KeyRing())
    assert [ring.find(b"Bearer " + key) for key in (b"old", b"new")] == ["shop", "shop"]
    file.write_text("shop:new\n")
    reload_keys(ring, KeyRing())
    assert [ring.find(b"Bearer " + key) for key in (b"old", b"new")] == [None, "shop"]
    assert ring.find(b"Bearer set") == "mine"


def test_a_file_that_lost_its_keys_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("shop:old\n")
    ring = KeyRing(read_keys(file, "there"), file)
    for content in ("", "# none\n", "shop:\n"):
        file.write_text(content)
        with pytest.raises(SettingsError):
            reload_keys(ring, KeyRing())
        assert ring
        assert ring.find(b"Bearer old") == "shop"
    file.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        reload_keys(ring, KeyRing())
    assert ring.find(b"Bearer old") == "shop"


@pytest.mark.parametrize("filed", ["api", "admin"])
def test_a_key_that_comes_to_stand_in_both_lists_changes_neither(
    tmp_path: Path, filed: str
) -> None:
    files = {name: tmp_path / name for name in ("api", "admin")}
    for name, file in files.items():
        file.write_text(f"old-{name}\n")
    # One of the lists has a key from the settings, which stays.
    given = parse_keys("given", "here") if filed == "admin" else ()
    rings = [
        KeyRing((*(given if name == "api" else ()), *read_keys(file, "there")), file)
        for name, file in files.items()
    ]
    shared = "given" if given else "new-api"
    files["api"].write_text("new-api\n")
    files["admin"].write_text(f"new-admin\nboss:{shared}\n")
    with pytest.raises(SettingsError, match="is an API key too") as refused:
        reload_keys(*rings)
    assert shared not in str(refused.value)
    for ring, name in zip(rings, files, strict=True):
        assert ring.find(f"Bearer old-{name}".encode())
        assert not ring.find(f"Bearer new-{name}".encode())
    assert not rings[1].find(f"Bearer {shared}".encode())
    # A key may change sides, as long as it leaves the other.
    files["admin"].write_text("old-api\n")
    reload_keys(*rings)
    assert [bool(ring.find(b"Bearer old-api")) for ring in rings] == [False, True]


@pytest.mark.parametrize("broken", [0, 1])
def test_of_two_files_neither_counts_if_one_is_broken(tmp_path: Path, broken: int) -> None:
    files = [tmp_path / "api", tmp_path / "admin"]
    for file in files:
        file.write_text(f"old-{file.name}\n")
    rings = [KeyRing(read_keys(file, "there"), file) for file in files]
    for number, file in enumerate(files):
        file.write_text("" if number == broken else f"new-{file.name}\n")
    with pytest.raises(SettingsError, match="holds no key"):
        reload_keys(*rings)
    for ring, file in zip(rings, files, strict=True):
        assert ring.find(f"Bearer old-{file.name}".encode())
        assert not ring.find(f"Bearer new-{file.name}".encode())


@pytest.mark.parametrize("name", [(), ("shop",)])
def test_the_command_makes_a_key_and_its_entry(name: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "service.keys", *name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    key = done.stderr.split()[-1]
    assert len(key) >= 43
    # What goes into the file does not hold the key.
    assert key not in done.stdout
    (found,) = parse_keys(done.stdout.strip(), "here")
    assert KeyRing([found]).find(f"Bearer {key}".encode()) == found.name
    assert not name or found.name == "shop"
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout != done.stdout


def test_the_command_refuses_what_is_no_name() -> None:
    for name in ("my shop", "sha256", "a:b"):
        command = [sys.executable, "-m", "service.keys", name]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
        )
        assert done.returncode == 2
        assert "is no name" in done.stderr
