"""Checkpoints that are written anew, for the tests that read them."""

import json

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pointedge.potentials import checkpoint


def rewrite(path, tensors=None, metadata=None):
    """Write the file anew with changed tensors or description, and without a digest."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()[checkpoint.METADATA_KEY])
    del description[checkpoint.DIGEST]
    tensors = load_file(path) if tensors is None else tensors
    description.update(metadata or {})
    save_file(tensors, path, metadata={checkpoint.METADATA_KEY: json.dumps(description)})
