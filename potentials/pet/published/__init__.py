"""Published PET models: checkpoints of metatrain, and folders of the original research code.

They are recognised by content, and read without the code that wrote them and without running
anything that is in them (:mod:`.pickles`). Energies, forces and virials agree with that code's to
rounding.
"""

from __future__ import annotations

from pathlib import Path

from ...potential import Potential
from .errors import PublishedError

__all__ = ["PublishedError", "is_published", "load"]


def is_published(path: str | Path) -> bool:
    """Whether a file or folder claims to be a published PET, whatever its name."""
    path = Path(path)
    if path.is_dir():
        return (path / "hypers_used.yaml").is_file()
    with path.open("rb") as file:
        head = file.read(9)
    pickled = head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5" and head[8:] != b"{"
    return head.startswith(b"PK\x03\x04") or pickled


def load(path: str | Path, name: str | None = None, *, direct: bool = False) -> Potential:
    """Read a published PET.

    Args:
        path: of a checkpoint of metatrain, or of a folder of the original code.
        name: of the energy in a checkpoint that has several, or of the weights in a folder.
        direct: also read forces and stress that a checkpoint predicts as such.

    Raises:
        PublishedError: it is damaged, unsafe to read, or not computed by our PET; or it predicts no
            forces directly, and they were asked for.
    """
    from .building import load as load_checkpoint
    from .originals import load_original

    if not Path(path).is_dir():
        return load_checkpoint(path, name, direct=direct)
    if direct:
        raise PublishedError(f"{path}: it predicts no forces but as derivatives of its energy.")
    return load_original(path, name)
