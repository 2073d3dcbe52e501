"""Cases for files of ensembles: damaged bytes, edited trees, members that are none."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from pointedge.calculators.ensemble_files import KIND, SPREADS
from pointedge.calculators.models import make_calculator

from .checkpoints import originals
from .damage import damaged, edit_tree
from .outcomes import ERROR, RIGHT, FindingError, read_or_refused, same

MEMBERS = ("a.safetensors", "b.safetensors")
# A MODEL that is an ensemble, this file, code, a folder, and names that no file can have.
ODD_MEMBERS = (
    *("a.safetensors,b.safetensors", "ensemble.json", "./ensemble.json", "os:abort"),
    *("tests.fuzz.ensembles:harmful", ".", "..", "", "\0", "x" * 5000, "a.safetensors@b", "pet"),
)
harmed: list[str] = []


def harmful() -> None:
    """What a file must not call."""
    harmed.append("called")


def case(rng: random.Random, folder: Path) -> str:
    """One case: an ensemble has the members and factors that its file says."""
    for name, (data, *_) in zip(MEMBERS, originals(), strict=True):
        (folder / name).write_bytes(data)
    tree: dict[str, Any] = {
        "kind": KIND,
        "members": list(MEMBERS),
        "factors": {"energy": 1.5, "forces": 0.75},
        "information": {"validation": ["frames.xyz"], "before": {"forces": {"error": 0.1}}},
    }
    choice = rng.random()
    if choice < 0.2:
        place = rng.randrange(3)  # in place of a member, or one more
        tree["members"][place : place + 1] = [rng.choice(ODD_MEMBERS)]
    elif choice < 0.6:
        edit_tree(tree, rng)
    text = json.dumps(tree, indent=1).encode()
    path = folder / "ensemble.json"
    path.write_bytes(damaged(text, rng) if choice > 0.6 else text)
    ensemble, _ = read_or_refused(lambda: make_calculator(str(path)), (ValueError,), path.name)
    if harmed:
        raise FindingError("code that the file names was run")
    if ensemble is None:
        return ERROR
    meant = json.loads(path.read_text(encoding="utf-8"))
    found = [Path(member.parameters["model"]).name for member in ensemble.members]
    same(found, [Path(member).name for member in meant["members"]], "the list of members")
    factors = {name: meant.get("factors", {}).get(name, 1.0) for name in SPREADS}
    same(ensemble.factors, factors, "the table of factors")
    return RIGHT
