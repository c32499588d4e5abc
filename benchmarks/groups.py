"""A control group with a quota of CPU time, made where this machine lets us: what a container gets.

Knows both versions of cgroup. It needs root, or a group that was delegated to this user.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
# Enters the group and becomes the command, so that nothing of it ever ran outside.
_ENTER = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')


class GroupRefused(Exception):
    """No group can be made here; the message says why."""


@contextmanager
def make_group(cores: float) -> Iterator[tuple[str, ...]]:
    """A new group with that quota, in cores: what a command is to be preceded by to run in it.

    The group is removed in the end; what runs in it must have ended. Raises GroupRefused.
    """
    parent, files = _find_parent(cores)
    group = parent / f"cloze-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise GroupRefused(_explain(error, parent)) from error
    try:
        try:
            for name, value in files.items():
                (group / name).write_text(value)
        except OSError as error:
            raise GroupRefused(_explain(error, group)) from error
        yield (*_ENTER, str(group))
    finally:
        group.rmdir()


def _find_parent(cores: float) -> tuple[Path, dict[str, str]]:
    """Where a group can be made, and what is written into it for such a quota."""
    quota = str(round(cores * _PERIOD_US))
    for name in ("cpu", "cpu,cpuacct"):
        if (_MOUNT / name / "cpu.cfs_quota_us").exists():
            files = {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": quota}
            return _MOUNT / name, files
    try:
        controllers = (_MOUNT / "cgroup.subtree_control").read_text().split()
    except OSError:
        controllers = []
    if "cpu" in controllers:
        return _MOUNT, {"cpu.max": f"{quota} {_PERIOD_US}"}
    raise GroupRefused(f"{_MOUNT} hands no control over CPU time to groups below it")


def _explain(error: OSError, folder: Path) -> str:
    return f"{folder} cannot be changed ({error.strerror}); run as root"
