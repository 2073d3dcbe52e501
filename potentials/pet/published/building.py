"""Potentials from checkpoints of metatrain's PET."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
from ase.data import chemical_symbols, covalent_radii
from ase.units import create_units
from torch import Tensor

from ...potential import Potential
from ...zbl import COULOMB
from ..model import PET
from .errors import PublishedError
from .names import is_species_table, their_name, to_config
from .parsing import Published, Target, chosen, parsed
from .pickles import opened
from .tensormaps import read_block
from .uncertainty import rigidity_of

UNITS = create_units("2018")  # those of metatomic
ENERGIES = {
    "ev": 1.0,
    "mev": 1e-3,
    "hartree": UNITS["Hartree"],
    "rydberg": UNITS["Rydberg"],
    "ry": UNITS["Rydberg"],
    "kcal/mol": UNITS["kcal"] / UNITS["mol"],
    "kj/mol": UNITS["kJ"] / UNITS["mol"],
}
ANGSTROM = ("angstrom", "angstroms", "å", "a", "")
FORCE_UNITS = ("ev/a", "ev/angstrom", "ev/å", "")
STRESS_UNITS = ("ev/a^3", "ev/angstrom^3", "ev/å^3", "")
# Ours, their names (the last one of metatomic 2026), and units in lower case.
DIRECT_TARGETS = {
    "non_conservative_forces": (("non_conservative_forces", "non_conservative_force"), FORCE_UNITS),
    "non_conservative_stress": (("non_conservative_stress",), STRESS_UNITS),
}


def load(path: str | Path, target: str | None = None, *, direct: bool = False) -> Potential:
    """Read a checkpoint of metatrain's PET, in the floating-point type it was saved in.

    Args:
        path: of the file.
        target: name of the energy to read, "energy/pbe", or of its variant, "pbe"; None: the only
            one, or the one called "energy".
        direct: also read forces and stress that the model predicts as such.

    Raises:
        PublishedError: the file is damaged, unsafe, of a future version, or of a model that is not
            computed here; it has several energies, and none was chosen; or no direct forces.

    Warns:
        UserWarning: what is in the file and not in the potential, if no target was named.
    """
    path = Path(path)
    with opened(path) as saved:
        try:
            published = parsed(saved)
            potential = built(published, chosen(published, target), direct=direct)
        except ValueError as error:
            raise PublishedError(f"{path}: {error}") from None
        except (KeyError, IndexError) as error:  # a part that every model has
            raise PublishedError(f"{path}: a part is missing or too short: {error}.") from None
    if target is None and (notes := potential.information["notes"]):
        warnings.warn(f"{path}: {' '.join(notes)}", UserWarning, stacklevel=2)
    return potential


def built(published: Published, target: Target, *, direct: bool = False) -> Potential:
    """The potential of a target; what else is in the file is noted in its information.

    Raises:
        PublishedError: a part of the model is missing, not known, or not computed here.
    """
    targets = {"energy": target, **(_direct(published, target) if direct else {})}
    network, used = _network(published, targets)
    _refuse_unknown(published, used, target)
    factor = _unit(published, target)
    potential = Potential(
        network,
        {z: factor * energy for z, energy in _baseline(published, target).items()},
        scale=factor * _scale(published, target),
        repulsion=bool(published.hypers.get("zbl")) and target.unit == "eV",
        information={
            **published.information,
            "origin": f"metatrain PET, model version {published.version}, target {target.name}",
            "notes": _notes(published, targets),
        },
    )
    potential.rigidity = rigidity_of(published.uncertainties, target.name, factor)
    for name in targets.keys() & DIRECT_TARGETS.keys():
        potential.scale_of(name)[list(published.species)] = _scales(published, targets[name])
    if potential.zbl is not None:
        round_like_metatrain(potential, published.state.get("additive_models.1.covalent_radii"))
    for name, tensor in potential.state_dict().items():
        if not tensor.isfinite().all():
            raise PublishedError(f"its values of {name} are not all finite.")
    return potential.eval()


def round_like_metatrain(potential: Potential, radii: Tensor | None = None) -> None:
    """Round screening and strength of the repulsion to float32, as metatrain does in any type.

    Raises:
        PublishedError: radii (K,) in Å are not those of the installed ASE.
    """
    zbl = potential.zbl
    assert zbl is not None
    expected = torch.tensor([covalent_radii[z] for z in potential.species], dtype=torch.float64)
    if radii is not None:  # rounded to float32 where the model once was of that type
        radii = radii.to(torch.float64)
        if not torch.allclose(radii, expected, rtol=1e-6, atol=0):
            raise PublishedError("the radii of its repulsion (ZBL) are not those of this ASE.")
        zbl.radius.copy_(radii[:, None] + radii)
    z = torch.tensor(potential.species, dtype=torch.int32)
    power = z**0.23  # float32 for integers
    zbl.screening.copy_(0.46850 / (power[:, None] + power))
    zbl.strength.copy_(COULOMB * z[:, None] * z)


def _direct(published: Published, target: Target) -> dict[str, Target]:
    """Targets of direct forces and stress, of the variant of an energy.

    Raises:
        PublishedError: there are no direct forces, or their unit is not known.
    """
    _, mark, variant = target.name.partition("/")
    known = {t.name: t for t in published.targets}
    found = {
        ours: known[name + mark + variant]
        for ours, (names, _) in DIRECT_TARGETS.items()
        for name in names
        if name + mark + variant in known
    }
    if "non_conservative_forces" not in found:
        raise PublishedError(f"it predicts no forces but as derivatives of {target.name}.")
    for ours, one in found.items():
        if one.unit.lower() not in DIRECT_TARGETS[ours][1]:
            raise PublishedError(f"its {one.name} are in {one.unit!r}; eV and Å are read here.")
    return found


def _network(published: Published, targets: dict[str, Target]) -> tuple[PET, set[str]]:
    """The network with its weights, and their names in the file."""
    state = published.state
    config = to_config(published.hypers, published.species, tuple(targets))
    network = PET(config)
    dtype = state["edge_embedder.weight"].dtype if "edge_embedder.weight" in state else None
    network.to(dtype if dtype in (torch.float32, torch.float64) else torch.float32)
    rows = state["species_to_species_index"][list(published.species)].to(torch.int64)
    if sorted(rows.tolist()) != list(range(len(rows))):
        raise PublishedError("its table of species does not fit its atomic numbers.")
    called = {ours: target.name for ours, target in targets.items()}
    names = {ours: their_name(ours, called["energy"], called) for ours in network.state_dict()}
    if missing := [theirs for theirs in names.values() if theirs not in state]:
        raise PublishedError(f"it lacks {len(missing)} tensor(s), such as {missing[0]}.")
    weights = {}
    for ours, parameter in network.state_dict().items():
        value = state[names[ours]]
        if is_species_table(ours) and len(value) == len(rows):
            value = value[rows]
        if value.shape != parameter.shape:
            raise PublishedError(
                f"its tensor {names[ours]} has shape {tuple(value.shape)}, but its "
                f"hyper-parameters ask for {tuple(parameter.shape)}."
            )
        weights[ours] = value
    network.load_state_dict(weights)
    return network, set(names.values())


def _refuse_unknown(published: Published, used: set[str], target: Target) -> None:
    """Refuse tensors that no part of the model explains."""
    others = "|".join(re.escape(t.name) for t in published.targets if t is not target)
    known = re.compile(
        r"species_to_species_index|system_conditioning\..*|scaler\..*|additive_models\.0\..*"
        + (r"|additive_models\.1\..*" if published.hypers.get("zbl") else "")
        + (rf"|(node|edge)_(heads|last_layers)\.({others})\..*" if others else "")
    )
    if unknown := [k for k in published.state if k not in used and not known.fullmatch(k)]:
        raise PublishedError(
            f"it has {len(unknown)} tensor(s) that are not known here, such as {unknown[0]}."
        )


def _baseline(published: Published, target: Target) -> dict[int, float]:
    """Energies of single atoms by atomic number, in the unit of the target."""
    name = f"additive_models.0.{target.name}_composition_buffer"
    if name not in published.state:
        raise PublishedError(f"it lacks {name}, the energies of single atoms.")
    block = read_block(published.state[name], name)
    if block.values.shape != (len(block.samples), 1):
        raise PublishedError(f"{name} has shape {block.values.shape}; energies are (species, 1).")
    energies = dict(zip(block.samples, block.values[:, 0].tolist(), strict=True))
    if missing := [chemical_symbols[z] for z in published.species if z not in energies]:
        raise PublishedError(f"{name} has no energy of {', '.join(missing)}.")
    return energies


def _scale(published: Published, target: Target) -> float:
    """The factor on the network's energies, in the unit of the target."""
    old, name = f"scaler.{target.name}_scale", f"scaler.{target.name}_scaler_buffer"
    if old in published.state:
        return float(published.state[old])
    if name not in published.state:
        return 1.0
    values = read_block(published.state[name], name).values.ravel()
    if len(set(values.tolist())) != 1:
        raise PublishedError("it scales the energies of each species apart: not computed here.")
    return float(values[0])


def _scales(published: Published, target: Target) -> Tensor:
    """Factors (K,) on what is predicted of atoms of each species, or one for all."""
    name = f"scaler.{target.name}_scaler_buffer"
    if name not in published.state:
        return torch.ones(len(published.species), dtype=torch.float64)
    block = read_block(published.state[name], name)
    if block.values.shape not in {(1, 1), (len(published.species), 1)}:
        raise PublishedError(f"{name} has shape {block.values.shape}: not computed here.")
    by_row = dict(zip(block.samples, block.values[:, 0].tolist(), strict=True))
    if list(by_row) == [-1]:  # one for the structure
        return torch.tensor(by_row[-1], dtype=torch.float64)
    rows = published.state["species_to_species_index"][list(published.species)].tolist()
    return torch.tensor([by_row[row] for row in rows], dtype=torch.float64)


def _unit(published: Published, target: Target) -> float:
    """The target's unit in eV."""
    if published.length_unit.lower() not in ANGSTROM:
        raise PublishedError(f"its lengths are in {published.length_unit}; only Å are read here.")
    if target.unit and target.unit.lower() not in ENERGIES:
        known = ", ".join(ENERGIES)
        raise PublishedError(f"its energy is in {target.unit!r}; known units are {known}.")
    return float(ENERGIES[target.unit.lower() or "ev"])


def _notes(published: Published, targets: dict[str, Target]) -> list[str]:
    """Sentences on what is in the file and not in the potential."""
    target = targets["energy"]
    others = [t.name for t in published.targets if t not in targets.values()]
    direct = [name for name in others if name.startswith("non_conservative_")]
    rest = [name for name in others if name not in direct]
    notes = []
    if direct:
        notes.append(
            f"Its direct predictions ({', '.join(direct)}) are not read (non_conservative=True "
            f"reads them): forces and stress are derivatives of {target.name}."
        )
    if rest:
        notes.append(f"Of its targets {target.name} is read, and not {', '.join(rest)}.")
    if not target.unit:
        notes.append(f"It does not state the unit of {target.name}, which is taken for eV.")
    if published.hypers.get("zbl") and target.unit != "eV":
        notes.append(f"Its repulsion (ZBL) does not act on {target.name}, which is not in eV.")
    return notes
