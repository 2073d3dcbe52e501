"""Writing files so that whoever reads them, or is left with them, has a whole one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

PARTIAL = ".partial"  # ends the name of a file that is being written


class UnwrittenError(OSError):
    """A file could not be written; what was there before is whole."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> UnwrittenError:
        """The error in words."""
        rest = "; its last version is whole" if path.exists() else ""
        found = cls(f"{path} could not be written ({error.strerror or error}){rest}")
        found.errno = error.errno
        return found


def partial_of(path: Path) -> Path:
    """A new name beside a file for its next version, which no other process has."""
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}{PARTIAL}")


def check_writable(path: Path) -> None:
    """Raise UnwrittenError where no file of this name can be made, before work that fills it."""
    trial = partial_of(path.resolve())
    try:
        with trial.open("xb"):
            pass
        trial.unlink()
    except OSError as error:
        raise UnwrittenError.of(path, error) from None


def check_not_read(path: Path, reads: Iterable[str | Path]) -> None:
    """Raise ValueError where an output is one of the files that are read, by whatever name."""
    for read in reads:
        if path.exists() and Path(read).exists() and path.samefile(read):
            raise ValueError(f"{read} cannot be both read and written; name another output.")


@contextmanager
def replacing(path: Path, *, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Write a file anew: the old one stays until the new one is complete and on the disk.

    Args:
        path: of the file; of a symbolic link what it points to is written.
        keep: a name under which the old file is kept.

    Raises:
        UnwrittenError: the disk is full, or the like.
    """
    target = path.resolve()
    partial = partial_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and target.exists():
            target.replace(keep)
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise UnwrittenError.of(path, error) from None
    finally:
        partial.unlink(missing_ok=True)  # which also frees a full disk


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
