"""What lies at a path, asked of the system itself.

pathlib's own answers change: whether `resolve` raises for links in a circle, and whether `exists`
and `is_file` raise for what may not be looked at or say that it is not there.
"""

import errno
import os
import stat
from pathlib import Path

# Nothing is there; a circle of links leads to nothing.
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def look(path: Path) -> os.stat_result | None:
    """The state of what the path leads to, links followed; None where nothing is there.

    Raises OSError where that cannot be told: a folder that may not be entered, a disk that fails.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - beside the others
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise


def exists(path: Path) -> bool:
    """Whether the path leads to anything. Raises OSError as `look` does."""
    return look(path) is not None


def is_file(path: Path) -> bool:
    """Whether the path leads to a regular file. Raises OSError as `look` does."""
    found = look(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: Path) -> bool:
    """Whether the path leads to a directory. Raises OSError as `look` does."""
    found = look(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_taken(path: Path) -> bool:
    """Whether there is anything of that name, be it a link to nothing. Raises OSError."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in _NOTHING:
            return False
        raise
    return True


def follow(path: Path) -> Path:
    """Where the path leads, links followed as far as they lead, whatever is there."""
    return Path(os.path.realpath(path))


def follow_to_end(path: Path) -> Path:
    """Where the path leads. Raises OSError where nothing is there, or links lead in a circle."""
    return Path(os.path.realpath(path, strict=True))


def is_circle(path: Path) -> bool:
    """Whether links lead in a circle."""
    try:
        os.stat(path)  # noqa: PTH116 - beside the others
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def find_cache_dir() -> Path | None:
    """Cloze's folder for what can be found anew (XDG Base Directory), None where nobody has one."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib's raises where there is none
    base = given if os.path.isabs(given) else os.path.join(home, ".cache")  # noqa: PTH117, PTH118
    return Path(base) / "cloze" if os.path.isabs(base) else None  # noqa: PTH117
