"""Cores are those the container was given, whichever cgroup version gives them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.groups import GroupRefused, make_group
from models.machine import limits as module
from models.machine.limits import count_cores, owns_cores
from tests.helpers.groups import make_groups

CORES = 8
# Those of this machine that the tests may use.
FREE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
ROOT = Path(__file__).resolve().parents[3]
COUNT = (
    "from models.engines.onnx_runtime import decide_spin; "
    "from models.machine.limits import count_cores; "
    "print(count_cores(), decide_spin('auto', 2))"
)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)), raising=False)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000", 2),
        ("240000 100000", 2),
        ("150000 100000", 2),
        ("140000 100000", 1),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("200000 50000", 4),
        ("1600000 100000", CORES),
        ("max 100000", CORES),
        ("garbage", CORES),
        ("100000", CORES),
        ("0 0", CORES),
        ("100000 0", CORES),
        ("", CORES),
    ],
)
def test_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    assert count_cores(make_groups(tmp_path, "0::/\n", {"cpu.max": quota})) == cores


def test_a_group_may_be_called_anything(tmp_path: Path) -> None:
    root = make_groups(tmp_path, "", {})
    (root / "proc/self/cgroup").write_bytes(b"0::/caf\xe9\n")
    group = root / "sys/fs/cgroup" / os.fsdecode(b"caf\xe9")
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("200000 100000")
    assert count_cores(root) == 2


def test_a_group_above_may_have_less(tmp_path: Path) -> None:
    files = {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"}
    assert count_cores(make_groups(tmp_path, "0::/a/b\n", files)) == 3


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", CORES)])
def test_version_1(tmp_path: Path, controllers: str, quota: str, cores: int) -> None:
    """In a container the path of the group is the host's, and its files lie at the mount."""
    files = {f"{controllers}/cpu.cfs_quota_us": quota, f"{controllers}/cpu.cfs_period_us": "100000"}
    groups = f"4:memory:/docker/1f\n3:{controllers}:/docker/1f\n0::/\n"
    assert count_cores(make_groups(tmp_path, groups, files)) == cores


def test_both_versions_at_once(tmp_path: Path) -> None:
    """A hybrid mount: version 1 has the controllers, version 2 lies beside them without any."""
    files = {
        "cpu/cpu.cfs_quota_us": "300000",
        "cpu/cpu.cfs_period_us": "100000",
        "unified/a/cgroup.procs": "1",
        "unified/a/b/cpu.max": "600000 100000",
    }
    groups = "2:cpuacct:/x\n1:cpu:/x\n0::/a/b\n"
    assert count_cores(make_groups(tmp_path, groups, files)) == 3


def test_a_group_outside_of_what_is_mounted(tmp_path: Path) -> None:
    """Another namespace's path leads out of the mount, and nothing outside is read."""
    (tmp_path / "sys/fs/other").mkdir(parents=True)
    (tmp_path / "sys/fs/other/cpu.max").write_text("100000 100000")
    root = make_groups(tmp_path, "0::/../other\n", {"cpu.max": "400000 100000"})
    assert count_cores(root) == 4


@pytest.mark.parametrize("groups", ["", "\n", "garbage\n", "0::\n", "1:cpu\n", ":::\n"])
def test_a_list_of_groups_that_says_nothing(tmp_path: Path, groups: str) -> None:
    assert count_cores(make_groups(tmp_path, groups, {})) == CORES


def test_another_controller_says_nothing(tmp_path: Path) -> None:
    files = {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}
    assert count_cores(make_groups(tmp_path, "3:cpuset:/\n", files)) == CORES


def test_without_cgroups_the_affinity_decides(tmp_path: Path) -> None:
    assert count_cores(tmp_path) == CORES


def test_without_affinity_the_machine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module.os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert count_cores(tmp_path) == 5


def test_cores_are_owned_where_there_are_enough_and_no_quota(tmp_path: Path) -> None:
    assert owns_cores(1, tmp_path)
    assert owns_cores(CORES, tmp_path)
    assert not owns_cores(CORES + 1, tmp_path)
    assert not owns_cores(1, make_groups(tmp_path, "0::/\n", {"cpu.max": "790000 100000"}))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_bound_to_one_core_counts_one() -> None:
    """For real: this machine's kernel, and its own groups."""
    bind = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {COUNT}"
    assert count_in(sys.executable, "-c", bind) == "1 False"


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.0, 1), (1.5, min(2, FREE))])
def test_a_process_in_a_real_group_counts_its_quota(quota: float, cores: int) -> None:
    """For real, where groups can be made here: as root, or in a delegated group."""
    try:
        with make_group(quota) as enter:
            assert count_in(*enter, sys.executable, "-c", COUNT) == f"{cores} False"
    except GroupRefused as reason:
        pytest.skip(str(reason))


def count_in(*command: str) -> str:
    """What a process of its own prints."""
    finished = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return finished.stdout.strip()
