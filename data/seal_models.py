"""Give checkpoints that lack one a digest, by which damage to them is noticed.

    python data/seal_models.py data/models/*.safetensors

Tensors and descriptions stay as they are, to the bit; files that have a digest are left alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save as serialize

from pointedge.potentials.checkpoint import DIGEST, METADATA_KEY, describe, digest_of, load
from pointedge.potentials.files import replacing


def seal(path: Path) -> bool:
    """Add the digest, and say whether it was missing."""
    description = describe(path)
    if DIGEST in description:
        load(path)  # which checks it
        return False
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    description[DIGEST] = digest_of(description, tensors)
    with replacing(path) as file:
        file.write(serialize(tensors, metadata={METADATA_KEY: json.dumps(description)}))
    load(path)
    return True


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {'sealed' if seal(Path(argument)) else 'had a digest'}")
