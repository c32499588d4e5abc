"""Cores and memory are those the container was given, whichever version of cgroup gives them."""

import os
from pathlib import Path

import pytest

from models.engines import count_cores, find_memory_limit
from models.engines import limits as module

CORES = 8


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)), raising=False)


def make(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root with those groups and those files of theirs."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", CORES),
        ("max 100000", CORES),
        ("garbage", CORES),
        ("", CORES),
    ],
)
def test_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    assert count_cores(make(tmp_path, "0::/\n", {"cpu.max": quota})) == cores


def test_a_group_above_may_have_less(tmp_path: Path) -> None:
    files = {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"}
    assert count_cores(make(tmp_path, "0::/a/b\n", files)) == 3


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", CORES)])
def test_version_1(tmp_path: Path, controllers: str, quota: str, cores: int) -> None:
    """In a container the path of the group is the host's, and its files lie at the mount."""
    files = {f"{controllers}/cpu.cfs_quota_us": quota, f"{controllers}/cpu.cfs_period_us": "100000"}
    groups = f"4:memory:/docker/1f\n3:{controllers}:/docker/1f\n0::/\n"
    assert count_cores(make(tmp_path, groups, files)) == cores


def test_another_controller_says_nothing(tmp_path: Path) -> None:
    files = {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}
    assert count_cores(make(tmp_path, "3:cpuset:/\n", files)) == CORES


def test_without_cgroups_the_affinity_decides(tmp_path: Path) -> None:
    assert count_cores(tmp_path) == CORES


def test_without_affinity_the_machine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module.os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert count_cores(tmp_path) == 5


@pytest.mark.parametrize(
    ("text", "limit"), [("1073741824", 1 << 30), ("max", None), ("", None), ("garbage", None)]
)
def test_memory_of_version_2(tmp_path: Path, text: str, limit: int | None) -> None:
    assert find_memory_limit(make(tmp_path, "0::/\n", {"memory.max": text})) == limit


def test_a_group_above_may_have_less_memory(tmp_path: Path) -> None:
    files = {"a/b/memory.max": "3000000", "a/memory.max": "2000000", "memory.max": "max"}
    assert find_memory_limit(make(tmp_path, "0::/a/b\n", files)) == 2_000_000


@pytest.mark.parametrize(
    ("text", "limit"), [("536870912", 512 << 20), ("9223372036854771712", None)]
)
def test_memory_of_version_1(tmp_path: Path, text: str, limit: int | None) -> None:
    """Without a limit it says the largest number of pages, not "max"."""
    files = {"memory/memory.limit_in_bytes": text}
    groups = "4:memory:/docker/1f\n3:cpu:/docker/1f\n0::/\n"
    assert find_memory_limit(make(tmp_path, groups, files)) == limit


def test_without_groups_memory_has_no_limit(tmp_path: Path) -> None:
    assert find_memory_limit(tmp_path) is None
