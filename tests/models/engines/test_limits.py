"""Cores and memory are those the container was given, whichever cgroup version gives them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.groups import GroupRefused, make_group
from models.engines import count_cores, decide_spin, find_memory_limit
from models.engines import limits as module

CORES = 8
# Those of this machine that the tests may use.
FREE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
ROOT = Path(__file__).resolve().parents[3]
COUNT = (
    "from models.engines import count_cores, decide_spin; "
    "print(count_cores(), decide_spin('auto', 2))"
)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert count_cores(make(tmp_path, "0::/\n", {"cpu.max": quota})) == cores


def test_a_group_may_be_called_anything(tmp_path: Path) -> None:
    root = make(tmp_path, "", {})
    (root / "proc/self/cgroup").write_bytes(b"0::/caf\xe9\n")
    group = root / "sys/fs/cgroup" / os.fsdecode(b"caf\xe9")
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("200000 100000")
    assert count_cores(root) == 2


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


def test_both_versions_at_once(tmp_path: Path) -> None:
    """A hybrid mount: version 1 has the controllers, version 2 lies beside them without any."""
    files = {
        "cpu/cpu.cfs_quota_us": "300000",
        "cpu/cpu.cfs_period_us": "100000",
        "unified/a/cgroup.procs": "1",
        "unified/a/b/cpu.max": "600000 100000",
    }
    groups = "2:cpuacct:/x\n1:cpu:/x\n0::/a/b\n"
    assert count_cores(make(tmp_path, groups, files)) == 3


def test_a_group_outside_of_what_is_mounted(tmp_path: Path) -> None:
    """Another namespace's path leads out of the mount, and nothing outside is read."""
    (tmp_path / "sys/fs/other").mkdir(parents=True)
    (tmp_path / "sys/fs/other/cpu.max").write_text("100000 100000")
    root = make(tmp_path, "0::/../other\n", {"cpu.max": "400000 100000"})
    assert count_cores(root) == 4


@pytest.mark.parametrize("groups", ["", "\n", "garbage\n", "0::\n", "1:cpu\n", ":::\n"])
def test_a_list_of_groups_that_says_nothing(tmp_path: Path, groups: str) -> None:
    assert count_cores(make(tmp_path, groups, {})) == CORES
    assert find_memory_limit(tmp_path) is None


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


@pytest.mark.parametrize(
    ("threads", "quota", "spin"),
    [
        (2, "max 100000", True),
        (CORES, "max 100000", True),
        (CORES, "800000 100000", True),  # all there are: it cannot run out
        (2, "790000 100000", False),
        (4, "400000 100000", False),
        (1, "max 100000", False),
        (CORES + 1, "max 100000", False),
    ],
)
def test_threads_spin_where_the_cores_are_theirs(
    tmp_path: Path, threads: int, quota: str, *, spin: bool
) -> None:
    root = make(tmp_path, "0::/\n", {"cpu.max": quota})
    assert decide_spin("auto", threads, root) is spin
    assert decide_spin("on", threads, root) is True
    assert decide_spin("off", threads, root) is False


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
