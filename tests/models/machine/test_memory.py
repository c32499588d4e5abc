"""Memory is what the container was given, whichever cgroup version gives it."""

from pathlib import Path

import pytest

from models.machine.memory import find_memory_limit
from tests.helpers.groups import make_groups


@pytest.mark.parametrize(
    ("text", "limit"), [("1073741824", 1 << 30), ("max", None), ("", None), ("garbage", None)]
)
def test_memory_of_version_2(tmp_path: Path, text: str, limit: int | None) -> None:
    assert find_memory_limit(make_groups(tmp_path, "0::/\n", {"memory.max": text})) == limit


def test_a_group_above_may_have_less_memory(tmp_path: Path) -> None:
    files = {"a/b/memory.max": "3000000", "a/memory.max": "2000000", "memory.max": "max"}
    assert find_memory_limit(make_groups(tmp_path, "0::/a/b\n", files)) == 2_000_000


@pytest.mark.parametrize(
    ("text", "limit"), [("536870912", 512 << 20), ("9223372036854771712", None)]
)
def test_memory_of_version_1(tmp_path: Path, text: str, limit: int | None) -> None:
    """Without a limit it says the largest number of pages, not "max"."""
    files = {"memory/memory.limit_in_bytes": text}
    groups = "4:memory:/docker/1f\n3:cpu:/docker/1f\n0::/\n"
    assert find_memory_limit(make_groups(tmp_path, groups, files)) == limit


def test_without_groups_memory_has_no_limit(tmp_path: Path) -> None:
    assert find_memory_limit(tmp_path) is None


@pytest.mark.parametrize("groups", ["", "\n", "garbage\n", "0::\n", "1:cpu\n", ":::\n"])
def test_a_list_of_groups_that_says_nothing(tmp_path: Path, groups: str) -> None:
    assert find_memory_limit(make_groups(tmp_path, groups, {})) is None
