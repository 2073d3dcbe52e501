"""Audits of other packages' calculators, all with the same settings; kept in tests/peers/audits.

``python -m tests.peers.audits NAME...`` in an environment with the package. Structures are not
relaxed: a crystal of four atoms, its slab, and a free cluster; of silicon for Tersoff, of copper
and gold for all others. ``--only CHECK...`` runs these anew, and leaves what is kept of others.
``tests.peers.table`` prints what was found.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from pointedge.calculators.audit import audit
from pointedge.calculators.audit.runner import select

from . import calculators

FOLDER = Path(__file__).parent / "audits"
RANDOM = "random, seeded"
NONE = "no weights"


@dataclass(frozen=True)
class Peer:
    """How a calculator is audited.

    Attributes:
        packages: whose versions are kept.
        weights: where they come from.
        cutoff: Å, where the calculator has one that is known.
        dtypes: what it can be made in; the audit is of the first. Empty: it has no choice.
        exact: whether it claims to be invariant.
        skip: checks that say nothing of it.
    """

    packages: tuple[str, ...]
    weights: str = NONE
    cutoff: float | None = None
    dtypes: tuple[str, ...] = ()
    exact: bool = True
    skip: tuple[str, ...] = field(default=())

    @classmethod
    def random(cls, *packages: str, exact: bool = True) -> Peer:
        """A network with random weights, whose dimers mean nothing."""
        both = ("float64", "float32")
        return cls(packages, RANDOM, calculators.CUTOFF, both, exact, ("approach",))


PEERS = {
    "pointedge": Peer.random("torch", exact=False),
    "mace": Peer.random("mace-torch", "e3nn", "torch"),
    "nequip": Peer.random("nequip", "e3nn", "torch"),
    "metatrain": Peer.random("metatrain", "metatomic-ase", "torch", exact=False),
    "chgnet": Peer(("chgnet", "torch"), "0.3.0, in its wheel", cutoff=6.0),
    "emt": Peer(("ase",)),
    "lennard_jones": Peer(("ase",), cutoff=calculators.CUTOFF),
    "lennard_jones_smooth": Peer(("ase",), cutoff=calculators.CUTOFF),
    "morse": Peer(("ase",), cutoff=2.7 * 2.6),
    "tersoff": Peer(("ase",), cutoff=3.2),
}


def structures(name: str) -> list[Atoms]:
    """Crystal and cluster of low symmetry."""
    if name == "tersoff":
        crystal = bulk("Si").repeat((2, 1, 1))
        cluster = bulk("Si", cubic=True)[:5]
    else:
        crystal = bulk("Cu", a=3.9, cubic=True)
        cluster = bulk("Cu", a=3.9, cubic=True).repeat((2, 1, 1))[:5]
        crystal.numbers[::2] = cluster.numbers[::2] = 79
    shear = np.array([[1, 0.05, 0], [0, 1, 0.1], [0.03, 0, 1.03]])
    crystal.set_cell(np.asarray(crystal.cell) @ shear, scale_atoms=True)
    crystal.rattle(0.08, seed=1)
    cluster = Atoms(cluster.numbers, cluster.positions)
    cluster.rattle(0.08, seed=2)
    return [crystal, cluster]


def run(name: str, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Audit a peer; its report with what belongs to it, as plain values."""
    peer = PEERS[name]
    make = getattr(calculators, name)

    def build(precision: str | None) -> Any:
        return make(dtype=precision or peer.dtypes[0]) if peer.dtypes else make()

    checks = select(only, peer.skip)
    report = audit(
        build(None),
        structures(name),
        model=name,
        exact=peer.exact,
        cutoff=peer.cutoff,
        build=build,
        checks=checks,
        progress=lambda _: print(".", end="", file=sys.stderr, flush=True),
    ).to_dict()
    return {
        "versions": {package: version(package) for package in ("ase", *peer.packages)},
        "python": platform.python_version(),
        "weights": peer.weights,
        "dtype": peer.dtypes[0] if peer.dtypes else "its own",
        "cutoff": peer.cutoff,
        "exact": peer.exact,
        "skipped": list(peer.skip),
        **_small(report),
    }


def _small(report: dict[str, Any]) -> dict[str, Any]:
    """Without the texts that all audits share, and with numbers of a few digits."""
    for check in report["checks"]:
        del check["statement"], check["consequence"]
        for number in check["numbers"]:
            for key in ("value", "limit"):
                if number[key] is not None and np.isfinite(number[key]):
                    number[key] = float(f"{number[key]:.4g}")
                else:
                    number[key] = None
        check["seconds"] = round(check["seconds"], 1)
    return report


def merged(kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """An audit with checks of a newer one in place of its own.

    Raises:
        ValueError: they are not of the same calculator.
    """
    checks = {check["name"]: check for check in new["checks"]}
    for key in kept.keys() - {"checks", "seconds"}:
        if kept[key] != new[key]:
            raise ValueError(f"{key} was {kept[key]} and is {new[key]}; run all checks.")
    return {**kept, "checks": [checks.get(check["name"], check) for check in kept["checks"]]}


def written(audit: dict[str, Any]) -> str:
    """JSON with a line for each check."""
    head = json.dumps({k: v for k, v in audit.items() if k != "checks"}, indent=1)
    lines = [json.dumps(check, allow_nan=False, ensure_ascii=False) for check in audit["checks"]]
    return head.removesuffix("\n}") + ',\n "checks": [\n' + ",\n".join(lines) + "\n]}\n"


def main() -> None:
    """Audit the peers named, one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=PEERS)
    parser.add_argument("--only", nargs="+", default=())
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in arguments.names:
        path = FOLDER / f"{name}.json"
        found = run(name, tuple(arguments.only))
        if arguments.only:
            found = merged(json.loads(path.read_text()), found)
        path.write_text(written(found))
        print(name)


if __name__ == "__main__":
    main()
