"""Control groups as files: a root with a proc and a sys of its own."""

from pathlib import Path


def make_groups(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root with those groups and those files of theirs."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root
