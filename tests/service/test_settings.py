"""What an operator can set, and that it is written down."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.errors import SettingsError
from service.settings import DEFAULT_BUNDLE, PREFIX, Settings, read_settings

ROOT = Path(__file__).parents[2]
NAMES = {field: f"{PREFIX}{field}".upper() for field in Settings.model_fields}


def read_table() -> dict[str, tuple[str, str]]:
    """Default and meaning of each variable in docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(CLOZE_\w+)` \|(.*?)\|(.*)\|$", text, re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows}), "a variable is documented twice"
    return {name: (default.strip().strip("`"), meaning.strip()) for name, default, meaning in rows}


def show(default: Any) -> str:
    """A default as the environment would have it."""
    if default == (DEFAULT_BUNDLE,):
        return str(DEFAULT_BUNDLE.relative_to(ROOT))
    return "" if default in (None, ()) else str(default)


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {name: default for name, (default, _) in read_table().items()}
    assert documented == {
        NAMES[field]: show(info.default) for field, info in Settings.model_fields.items()
    }


def test_every_setting_says_what_it_means() -> None:
    for name, (_, meaning) in read_table().items():
        assert len(meaning.split()) > 2, name
    assert all(info.description for info in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("bundles", "one, two/three ,", (Path("one"), Path("two/three"))),
        ("precision", "int8", "int8"),
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "0", 0),
        ("overflow", "truncate", "truncate"),
        ("max_inputs", "3", 3),
        ("max_body_bytes", "2048", 2048),
        ("max_batch_tokens", "1", 1),
        ("max_queue_tokens", "7", 7),
        ("timeout_s", "0.5", 0.5),
        ("threads", "4", 4),
        ("spin", "off", "off"),
    ],
)
def test_each_is_read_from_the_environment(
    name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(read_settings(), name) == Settings.model_fields[name].default
    monkeypatch.setenv(NAMES[name], text)
    assert getattr(read_settings(), name) == value


@pytest.mark.parametrize("keys", [",", " , ,"])
def test_keys_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """Everyone would be let in."""
    monkeypatch.setenv("CLOZE_API_KEYS", keys)
    with pytest.raises(SettingsError, match=r"CLOZE_API_KEYS: .* holds no key"):
        read_settings()


def test_keys_are_read_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOZE_API_KEYS", "first,second")
    settings = read_settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["first", "second"]
    assert "first" not in repr(settings)


def test_keys_of_a_file_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nsecond\n\n  third  \n")
    monkeypatch.setenv("CLOZE_API_KEYS", "first")
    monkeypatch.setenv("CLOZE_API_KEYS_FILE", str(file))
    settings = read_settings()
    assert settings.api_keys_file == file
    assert [key.get_secret_value() for key in settings.api_keys] == ["first", "second", "third"]
    assert "second" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "holds no key"),
        (b"# nothing\n\n", "holds no key"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_file_without_keys_is_refused(
    content: bytes | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served without keys, it would be open to everyone."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("CLOZE_API_KEYS_FILE", str(file))
    with pytest.raises(SettingsError) as refused:
        read_settings()
    message = str(refused.value)
    assert message.startswith(f"CLOZE_API_KEYS_FILE: {file} {complaint}")
    assert "key a line" in message or "one a line" in message


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOZE_PORT", "1")
    monkeypatch.setenv("CLOZE_BUNDLES", ",")
    settings = read_settings({"port": 2, "bundles": (Path("flag"),)})
    assert (settings.port, settings.bundles) == (2, (Path("flag"),))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bundles", " , "),
        ("port", "tcp://10.0.0.1:80"),
        ("port", "65536"),
        ("port", "-1"),
        ("port", ""),
        ("overflow", "cut"),
        ("max_inputs", "0"),
        ("max_inputs", "many"),
        ("max_body_bytes", "1"),
        ("max_batch_tokens", "0"),
        ("max_queue_tokens", "0"),
        ("timeout_s", "0"),
        ("timeout_s", "nan"),
        ("timeout_s", "inf"),
        ("threads", "-1"),
        ("spin", "yes"),
    ],
)
def test_a_bad_value_is_refused_by_name(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAMES[name], text)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    message = str(refused.value)
    assert message.startswith(f"{NAMES[name]} is ")
    # What was set, and what it is for.
    assert text.strip(" ,") in message
    assert str(Settings.model_fields[name].description) in message


@pytest.mark.parametrize("name", ["CLOZE_PROT", "CLOZE_", "cloze_bundle"])
def test_an_unknown_name_is_refused_with_those_there_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError) as refused:
        read_settings()
    message = str(refused.value)
    assert message.startswith(f"{name} is not a setting")
    assert all(known in message for known in NAMES.values())


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
