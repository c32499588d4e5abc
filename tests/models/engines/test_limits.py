"""Threads follow what the container was given, whichever version of cgroup gives it."""

import os
from pathlib import Path

import pytest

from models.engines import cores as module
from models.engines import count_cores

CORES = 8


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)), raising=False)


def count(root: Path, groups: str, files: dict[str, str]) -> int:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return count_cores(root)


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
    assert count(tmp_path, "0::/\n", {"cpu.max": quota}) == cores


def test_a_group_above_may_have_less(tmp_path: Path) -> None:
    files = {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"}
    assert count(tmp_path, "0::/a/b\n", files) == 3


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", CORES)])
def test_version_1(tmp_path: Path, controllers: str, quota: str, cores: int) -> None:
    """In a container the path of the group is the host's, and its files lie at the mount."""
    files = {f"{controllers}/cpu.cfs_quota_us": quota, f"{controllers}/cpu.cfs_period_us": "100000"}
    groups = f"4:memory:/docker/1f\n3:{controllers}:/docker/1f\n0::/\n"
    assert count(tmp_path, groups, files) == cores


def test_another_controller_says_nothing(tmp_path: Path) -> None:
    files = {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}
    assert count(tmp_path, "3:cpuset:/\n", files) == CORES


def test_without_cgroups_the_affinity_decides(tmp_path: Path) -> None:
    assert count_cores(tmp_path) == CORES


def test_without_affinity_the_machine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module.os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert count_cores(tmp_path) == 5
