"""What an operator can set, and that it is written down."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.errors import SettingsError
from service.keys import KeyRing
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
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default is None else str(default)


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
        ("host", "::1", "::1"),
        ("host", "fe80::1:8080", "fe80::1:8080"),
        ("host", "unix:/run/cloze:1", "unix:/run/cloze:1"),
        ("default_prompt", "query", "query"),
        ("port", "0", 0),
        ("overflow", "truncate", "truncate"),
        ("max_inputs", "3", 3),
        ("max_body_bytes", "2048", 2048),
        ("max_characters", "9", 9),
        ("max_attention_tokens", "64", 64),
        ("max_header_bytes", "1024", 1024),
        ("max_connections", "1", 1),
        ("max_pending_bytes", "33554432", 33554432),
        ("receive_timeout_s", "0.5", 0.5),
        ("send_timeout_s", "0.5", 0.5),
        ("rate_limit", "0.5", 0.5),
        ("rate_burst", "3", 3),
        ("trusted_proxies", "2", 2),
        ("docs", "off", "off"),
        ("metrics", "off", "off"),
        (
            "cors_origins",
            "https://a.example, http://[::1]:80",
            ("https://a.example", "http://[::1]:80"),
        ),
        ("cors_origins", "*", ("*",)),
        ("max_batch_tokens", "1", 1),
        ("max_batch_ms", "12.5", 12.5),
        ("max_queue_ms", "7", 7.0),
        ("max_bulk_queue_ms", "7", 7.0),
        ("bulk_inputs", "5", 5),
        ("overtaking", "0", 0.0),
        ("stall_s", "1.5", 1.5),
        ("timeout_s", "0.5", 0.5),
        ("drain_s", "0", 0),
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


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "example.org:80", "[::1]:80"])
def test_a_host_with_a_port_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOZE_HOST", host)
    with pytest.raises(SettingsError, match=r"holds a port; give that by itself, as --port \d+"):
        read_settings()


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_no_host(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would take it for every address there is."""
    monkeypatch.setenv("CLOZE_HOST", host)
    with pytest.raises(SettingsError, match=r"CLOZE_HOST .*it is empty, which would be every"):
        read_settings()


def test_a_batch_is_as_large_as_was_said_or_as_the_engine_likes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_settings().limit_batch(16_384) == 16_384
    monkeypatch.setenv("CLOZE_MAX_BATCH_TOKENS", "512")
    assert read_settings().limit_batch(16_384) == 512


@pytest.mark.parametrize("keys", [",", " , ,"])
@pytest.mark.parametrize("name", ["CLOZE_API_KEYS", "CLOZE_ADMIN_KEYS"])
def test_keys_that_are_none_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, keys: str
) -> None:
    """Everyone would be let in."""
    monkeypatch.setenv(name, keys)
    with pytest.raises(SettingsError, match=rf"{name}: .* holds no key"):
        read_settings()


def find_keys(settings: Settings, kind: str, *keys: str) -> list[str]:
    """Those of the keys that let someone in."""
    ring = KeyRing(getattr(settings, kind))
    return [key for key in keys if ring.find(f"Bearer {key}".encode())]


@pytest.mark.parametrize("kind", ["api_keys", "admin_keys"])
def test_keys_are_read_and_never_shown(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv(NAMES[kind], "first,second")
    settings = read_settings()
    assert find_keys(settings, kind, "first", "second", "third") == ["first", "second"]
    assert "first" not in repr(settings)


def test_a_key_is_for_asking_or_for_the_models_not_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text("mine\n")
    monkeypatch.setenv("CLOZE_API_KEYS", "caller,mine")
    monkeypatch.setenv("CLOZE_ADMIN_KEYS_FILE", str(file))
    with pytest.raises(SettingsError, match="is an API key too") as refused:
        read_settings()
    assert "mine" not in str(refused.value)


@pytest.mark.parametrize("kind", ["api_keys", "admin_keys"])
def test_keys_of_a_file_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nsecond\n\n  third  \n")
    monkeypatch.setenv(NAMES[kind], "first")
    monkeypatch.setenv(f"{NAMES[kind]}_FILE", str(file))
    settings = read_settings()
    assert getattr(settings, f"{kind}_file") == file
    wanted = ["first", "second", "third"]
    assert find_keys(settings, kind, *wanted, "ours") == wanted
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
@pytest.mark.parametrize("name", ["CLOZE_API_KEYS_FILE", "CLOZE_ADMIN_KEYS_FILE"])
def test_a_file_without_keys_is_refused(
    name: str,
    content: bytes | None,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Served without keys, it would be open to everyone."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv(name, str(file))
    with pytest.raises(SettingsError) as refused:
        read_settings()
    message = str(refused.value)
    assert message.startswith(f"{name}: {file} {complaint}")
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
        ("max_batch_ms", "0"),
        ("max_queue_ms", "0"),
        ("max_bulk_queue_ms", "nan"),
        ("bulk_inputs", "0"),
        ("overtaking", "-1"),
        ("stall_s", "0"),
        ("timeout_s", "0"),
        ("timeout_s", "nan"),
        ("timeout_s", "inf"),
        ("drain_s", "-1"),
        ("drain_s", "inf"),
        ("threads", "-1"),
        ("max_characters", "0"),
        ("max_header_bytes", "100"),
        ("max_connections", "0"),
        ("max_pending_bytes", "-1"),
        ("receive_timeout_s", "0"),
        ("send_timeout_s", "nan"),
        ("rate_limit", "-1"),
        ("rate_limit", "inf"),
        ("rate_burst", "-1"),
        ("trusted_proxies", "all"),
        ("docs", "closed"),
        ("metrics", "true"),
        ("cors_origins", "a.example"),
        ("cors_origins", "https://a.example/"),
        ("cors_origins", "https://*.example"),
        ("cors_origins", "null"),
        ("spin", "yes"),
        ("aliases", "one"),
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
    assert "value error" not in message
    assert str(Settings.model_fields[name].description) in message


def test_all_origins_and_some_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOZE_CORS_ORIGINS", "*,https://a.example")
    with pytest.raises(SettingsError, match=r"\* stands for every origin"):
        read_settings()


@pytest.mark.parametrize("name", ["CLOZE_DOCS", "CLOZE_METRICS"])
def test_a_page_that_asks_for_keys_that_are_not_there(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "key")
    with pytest.raises(SettingsError, match=f"{name} is key, but there are no keys"):
        read_settings()
    monkeypatch.setenv("CLOZE_API_KEYS", "right")
    assert read_settings()


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
