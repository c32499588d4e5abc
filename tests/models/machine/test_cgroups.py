"""Groups are found in the kernel's list of them, and what cannot be read says nothing."""

from pathlib import Path

from models.machine.cgroups import find_groups, read_words
from tests.helpers.groups import make_groups


def test_a_group_comes_before_those_above_it(tmp_path: Path) -> None:
    root = make_groups(tmp_path, "4:memory:/x\n3:cpu,cpuacct:/a/b\n", {})
    mounts = [root / "sys/fs/cgroup/cpu,cpuacct", root / "sys/fs/cgroup/cpu"]
    wanted = [folder for mount in mounts for folder in (mount / "a/b", mount / "a", mount)]
    assert list(find_groups(root, "cpu")) == wanted


def test_what_cannot_be_read_has_no_words(tmp_path: Path) -> None:
    assert read_words(tmp_path / "nowhere") == []
    assert read_words(tmp_path) == []
    # What is no text is read as the system reads names, and is no number.
    (tmp_path / "bytes").write_bytes(b"\xff\xfe 1")
    assert [word for word in read_words(tmp_path / "bytes") if word.isdecimal()] == ["1"]
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert read_words(tmp_path / "cpu.max") == ["max", "100000"]
