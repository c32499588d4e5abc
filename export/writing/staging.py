"""Where a bundle is made before it has its name: a locked directory beside OUT, renamed when whole.

Owns the rename, and what an export that was killed left behind. What a signal does meanwhile:
signals.py.
"""

import ctypes
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from export.errors import OutputError
from models.bundle.bundle import MANIFEST
from models.paths import exists, follow, is_file, is_folder, is_taken

# From linux/fcntl.h and linux/fs.h, for renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_destination(out: Path, *, replace: bool = False) -> None:
    """Raise OutputError where nothing can be put, before any work is spent; changes nothing.

    `replace` allows for a bundle there, and nothing else.
    """
    try:
        taken = is_taken(out)
        replaceable = replace and not out.is_symlink() and is_file(out / MANIFEST)
        above = next(parent for parent in (out.parent, *out.parent.parents) if exists(parent))
        open_above = is_folder(above)
    except OSError as error:
        raise OutputError(f"{out} cannot be made: {error.strerror}") from None
    if taken and not replace:
        raise OutputError(
            f"{out} exists; remove it, choose another OUT, or give --replace if it is a bundle"
        )
    if taken and not replaceable:
        raise OutputError(f"{out} is not a bundle, which --replace may remove; choose another OUT")
    if not open_above:
        raise OutputError(f"{out} cannot be made: {above} is not a directory; choose another OUT")
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"{above} cannot be written to; choose another OUT")


def check_apart(out: Path, source: str) -> None:
    """Raise OutputError where OUT is the source's directory, or one that it lies in.

    Replacing that would take the source away. Inside the source a bundle may lie: nothing that
    is read there changes.
    """
    try:
        swallowed = is_folder(Path(source)) and follow(Path(source)).is_relative_to(follow(out))
    except OSError:  # no directory: others say so
        return
    if swallowed:
        raise OutputError(f"{out} holds the source {source}; choose another OUT")


@contextmanager
def stage(out: Path) -> Iterator[Path]:
    """A directory beside `out` for this process alone, removed again unless it was placed.

    The directories above are made where they are missing, and go too if they stay empty.
    """
    made = _make_parents(out.parent)
    try:
        folder, lock = _make_locked(out)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    finally:
        for parent in reversed(made):
            with suppress(OSError):  # something is in it
                parent.rmdir()


def place(folder: Path, out: Path, *, replace: bool) -> None:
    """Give the finished directory its name, all at once. Raises OutputError.

    What it replaces is swapped with it where the system can do that, and so never missing.
    """
    before = folder.with_suffix(".replaced")
    try:
        # mkdtemp makes directories for their owner; a bundle may be read by the service's user.
        folder.chmod(0o755)
        for entry in (*folder.iterdir(), folder):
            _flush(entry)
        if not (replace and exists(out)):
            folder.rename(out)
        elif not _exchange(folder, out):
            out.rename(before)
            folder.rename(out)
        _flush(out.parent)
    except OSError as error:
        with suppress(OSError):
            if is_taken(before) and not is_taken(out):
                before.rename(out)
        raise OutputError(f"{out} cannot be written: {error.strerror}") from None
    shutil.rmtree(before, ignore_errors=True)


def clear_leftovers(out: Path) -> list[str]:
    """Remove what killed exports to `out` left, and say so; what is locked is still being made.

    A bundle that was moved aside and never replaced gets its name back.
    """
    name = re.compile(re.escape(f".{out.name}.") + r"\w{8}\.(partial|replaced)")
    notes = []
    try:
        found = sorted(entry for entry in out.parent.iterdir() if name.fullmatch(entry.name))
    except OSError:
        return []
    for entry in found:
        with suppress(OSError):  # a link, in use, or another user's
            lock = _lock(entry)
            try:
                if entry.suffix == ".replaced" and not is_taken(out):
                    entry.rename(out)
                    notes.append(f"{out} is back, which an export that was killed had moved away")
                else:
                    shutil.rmtree(entry)
                    notes.append(f"{entry} is removed, which an export that was killed had left")
            finally:
                os.close(lock)
    return notes


def _make_parents(folder: Path) -> list[Path]:
    made: list[Path] = []
    for parent in reversed((folder, *folder.parents)):
        try:
            if exists(parent):
                continue
            parent.mkdir(exist_ok=True)
        except OSError as error:
            for done in reversed(made):
                done.rmdir()
            raise OutputError(
                f"{parent} cannot be made: {error.strerror}; choose another OUT"
            ) from None
        made.append(parent)
    return made


def _make_locked(out: Path) -> tuple[Path, int]:
    while True:
        try:
            folder = Path(
                tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)
            )
        except OSError as error:
            raise OutputError(
                f"{out.parent} cannot be written to: {error.strerror}; choose another OUT"
            ) from None
        try:
            lock = _lock(folder)
        except (FileNotFoundError, BlockingIOError):
            continue  # another export took it for a leftover, in the instant before it was locked
        except OSError:
            # A file system without locks: nobody can lock it, so nobody takes it for a leftover.
            return folder, os.open(os.devnull, os.O_RDONLY)
        if exists(folder):
            return folder, lock
        os.close(lock)


def _lock(folder: Path) -> int:
    """A descriptor that holds the lock, which the system lets go of when its process ends."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _flush(path: Path) -> None:
    """Have it on disk before it has its name, so that a power cut leaves no half of it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step, as renameat2(2) does; False where it cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap is None:
        return False
    names = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second))
    return bool(swap(*names, _RENAME_EXCHANGE) == 0)
