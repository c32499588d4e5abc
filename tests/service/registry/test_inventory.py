"""What an operator sees of bundles that are loading, or could not be loaded."""

from pathlib import Path

import pytest

from models.errors import BundleNotFound
from service.registry.inventory import Attempts


def list_states(attempts: Attempts) -> list[tuple[str, str]]:
    return [(Path(entry.path).name, entry.state) for entry in attempts]


def test_a_bundle_is_loading_until_it_is_loaded(tmp_path: Path) -> None:
    attempts = Attempts()
    with attempts.follow(tmp_path / "one", "int8"):
        (entry,) = attempts
        assert (entry.path, entry.precision) == (str(tmp_path / "one"), "int8")
        assert (entry.state, entry.reason) == ("loading", None)
        with attempts.follow(tmp_path / "two", None):
            assert list_states(attempts) == [("one", "loading"), ("two", "loading")]
        assert list_states(attempts) == [("one", "loading")]
    assert list(attempts) == []


def test_what_has_failed_says_why_until_it_is_tried_again(tmp_path: Path) -> None:
    attempts = Attempts()
    with pytest.raises(BundleNotFound), attempts.follow(tmp_path / "one", "int8"):
        raise BundleNotFound("nothing there")
    (entry,) = attempts
    assert (entry.precision, entry.state, entry.reason) == ("int8", "failed", "nothing there")
    # The same place by another path.
    with attempts.follow(tmp_path / "two/../one", None):
        assert list_states(attempts) == [("one", "loading")]
    assert list(attempts) == []


def test_a_bug_is_told_without_internals(tmp_path: Path) -> None:
    attempts = Attempts()
    with pytest.raises(ZeroDivisionError), attempts.follow(tmp_path / "one", None):
        raise ZeroDivisionError("secret")
    (entry,) = attempts
    assert entry.state == "failed"
    assert "secret" not in str(entry.reason)


def test_the_latest_sixteen_failures_are_kept(tmp_path: Path) -> None:
    attempts = Attempts()
    attempts.start(None, [tmp_path / "loading"])
    for number in range(20):
        attempts.fail(tmp_path / str(number), BundleNotFound("nothing there"))
    kept = [(str(number), "failed") for number in range(4, 20)]
    assert list_states(attempts) == [("loading", "loading"), *kept]
    attempts.clear()
    assert list(attempts) == []
