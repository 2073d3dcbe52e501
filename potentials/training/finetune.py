"""Fine-tuning: a potential from a checkpoint, with new species, and what of it is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from .. import checkpoint
from ..packaged import packaged_models, split_target
from ..pet import PET, published
from ..pet.growth import SIZES, larger
from ..potential import Potential
from ..suggestions import did_you_mean
from .baseline import fit_baseline
from .config import TrainingConfig
from .data import Batch
from .lora import add_low_rank, train_new_rows
from .reading import find_file
from .settings import FineTuning
from .soup import mean_of

BASELINE_FRAMES = 50  # of each species, which a baseline is fitted to before training
OFFSET = 10.0  # meV/atom, above which a mean error is worth a hint

# What a checkpoint says of its weights, and not of where they come from.
OF_WEIGHTS = ("validation_rmse", "test_rmse", "uncertainty", "auxiliary", "steps")


def find_checkpoint(name: str, folder: Path) -> Path:
    """Path of a packaged model, or of a file in ``folder`` or ``POINTEDGE_DATA``.

    Raises:
        ValueError: there is neither.
    """
    packaged = packaged_models()
    if name in packaged:
        return packaged[name]
    try:
        return find_file(name, folder)
    except FileNotFoundError:
        raise ValueError(
            f"start_from: there is no packaged model {name!r}, and no such file in {folder} or"
            f" POINTEDGE_DATA; {did_you_mean(name, packaged)}"
        ) from None


def load_start(
    start: str | Sequence[str], folder: Path, changes: dict[str, Any] | None = None
) -> Potential:
    """The potential of a checkpoint, ours or a published one, or the mean of several.

    Args:
        start: a packaged model, or a file; "FILE@ENERGY" if a published one has several. Of more
            than one, the mean of their weights, see :func:`.soup.mean_of`.
        folder: where files are looked for first.
        changes: settings of its network to change. Sizes in :data:`..pet.growth.SIZES` may grow;
            others that shape its tensors cannot be changed.

    Raises:
        ValueError: there is no such checkpoint, it cannot be read, or the changes do not fit it.
    """
    names = _names(start)
    found = [_load(name, folder) for name in names]
    potential = mean_of(found, names) if len(found) > 1 else found[0]
    changes = dict(changes or {})
    if isinstance(potential.network, PET):
        sizes = {name: changes.pop(name) for name in SIZES if name in changes}
        if sizes:
            potential.network = larger(potential.network, sizes)
    if not changes:
        return potential
    return checkpoint.with_settings(potential, changes, ", ".join(names))


def _names(start: str | Sequence[str]) -> Sequence[str]:
    return [start] if isinstance(start, str) else start


def _load(name: str, folder: Path) -> Potential:
    """The potential of one checkpoint, see :func:`find_checkpoint`."""
    file, target = split_target(name)
    path = find_checkpoint(file, folder)
    if published.is_published(path):
        return published.load(path, target)
    if target is not None:
        raise ValueError(f"start_from: {file} has one energy only; leave '@{target}' out.")
    return checkpoint.load(path)


def started_from(
    config: TrainingConfig,
    folder: Path,
    species: Iterable[int],
    *,
    kept: Path | None = None,
    report: Callable[[str], None] = print,
) -> Potential:
    """The potential of ``start_from``, with the species that the data add, ready to be trained.

    Args:
        config: of the run.
        folder: where files are looked for first.
        species: atomic numbers of the data.
        kept: a copy of what it was when the run began, which is taken instead.
        report: told what of the checkpoint is not of the weights to come.

    Raises:
        ValueError: there is no such checkpoint, or it contradicts the configuration; it does not
            know a species; or the method is not for its architecture.
    """
    assert config.start_from is not None
    start = config.start_from if kept is None else str(kept.absolute())
    potential = load_start(start, folder, config.model)
    named = ", ".join(_names(config.start_from))
    if config.model:
        changes = ", ".join(f"{name}: {value}" for name, value in config.model.items())
        report(f"{named} with other settings: {changes}")
    found = {
        "architecture": checkpoint.name_of(potential.network),
        "zbl": potential.zbl is not None,
    }
    for name, value in found.items():
        if getattr(config, name) not in (None, value):
            raise ValueError(
                f"{name} is {getattr(config, name)}, but {named} has {value}; leave it out."
            )
    lost = {"auxiliary": potential.auxiliary, "uncertainty": potential.rigidity}
    for name, part in lost.items():
        if part is not None and not getattr(config, name):
            report(f"the {name} of {named} is of its weights, and left out; {name}: true fits one")
    potential.auxiliary = potential.rigidity = None  # they were fitted to other weights ...
    for name in OF_WEIGHTS:  # ... and what these were worth is no news of the new ones
        potential.information.pop(name, None)
    new = sorted(set(species) - set(potential.species))
    if new and not config.fine_tuning.add_species:
        symbols = ", ".join(chemical_symbols[z] for z in new)
        raise ValueError(
            f"{named} does not know {symbols}; set fine_tuning.add_species=true to give it those."
        )
    if new:
        potential = with_species(potential, new)
    potential.information.update(started_from=config.start_from, added_species=new)
    return potential


def prepare(
    potential: Potential,
    settings: FineTuning,
    batches: Sequence[Batch],
    report: Callable[[str], None],
) -> None:
    """Fit baselines to training frames, and freeze what is not trained; see below."""
    new = potential.information["added_species"]
    start_baseline(potential, settings, new, batches, report)
    choose_trained(potential, settings, new)


def with_species(potential: Potential, new: Sequence[int]) -> Potential:
    """A potential that knows more species; what it says of the old ones is the same to the bit.

    Whatever a network has for each species, a new one begins with the mean of; its baseline is 0.
    """
    network = potential.network
    config = network.to_config()  # type: ignore[operator]
    frames = config.get("frames") or {}
    if config.get("symmetry") == "layers" and frames.get("preference_species"):
        raise ValueError(
            "frames.preference_species counts species, so that new ones would change the energies"
            " of old ones; set it to 0 to add species."
        )
    known = potential.species
    species = sorted({*known, *new})
    with torch.random.fork_rng(devices=[]):
        grown = type(network).from_config({**config, "species": species})  # type: ignore[attr-defined]
    result = Potential(
        grown, repulsion=potential.zbl is not None, information=copy.deepcopy(potential.information)
    ).to(potential.dtype)
    places = torch.tensor([species.index(z) for z in known])
    state = potential.state_dict()
    for name, wanted in result.state_dict(keep_vars=True).items():
        if name.startswith("zbl."):
            state[name] = wanted
        elif state[name].shape != wanted.shape:
            state[name] = _with_rows(state[name], places, len(species))
    result.load_state_dict(state)
    return result.eval()


def _with_rows(values: Tensor, places: Tensor, count: int) -> Tensor:
    mean = values.mean(0, keepdim=True).expand(count, *values.shape[1:])
    return mean.index_copy(0, places, values)


def choose_trained(potential: Potential, settings: FineTuning, new: Sequence[int] = ()) -> None:
    """Freeze what the method does not train; new species are trained by every method.

    Args:
        potential: to be trained.
        settings: method and its parameters.
        new: species that were added.

    Raises:
        ValueError: the method has no meaning for the architecture.
    """
    network: Any = potential.network
    kind = checkpoint.name_of(network)
    if settings.method == "full":
        return
    if new and kind != "pet":
        raise ValueError(
            f"fine_tuning.method {settings.method} leaves the layers as they are, where {kind} has"
            " weights of every species; use full to add species."
        )
    if settings.method == "lora":
        modules = linear_maps(network, settings.linear_maps)
        if not modules:
            raise ValueError(
                f"fine_tuning.method lora updates the linear maps of a transformer, and {kind} has"
                " none; use full or heads."
            )
        add_low_rank(network, modules, settings.rank, settings.alpha)
    else:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in network.HEADS)
    if new:
        train_new_rows(network, [potential.species.index(z) for z in new])


def linear_maps(network: Any, which: str) -> list[nn.Linear]:
    """Linear maps of attention (into queries, keys, values; and out), or all but those of heads."""
    return [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and name.split(".")[0] not in network.HEADS
        and (which == "all" or name.split(".")[-2:-1] == ["attention"])
    ]


def start_baseline(
    potential: Potential,
    settings: FineTuning,
    new: Sequence[int],
    batches: Sequence[Batch],
    report: Callable[[str], None],
) -> None:
    """Fit baselines before training: of new species, or of all if ``baseline: refit``.

    Of least squares, the change of least norm, on energies minus what the potential predicts; old
    baselines are fixed unless refitted. Reports by how much energies are off.
    """
    chosen = _sample(batches, potential.species)
    if "energy" not in potential.properties or not chosen:
        return
    with torch.no_grad():
        found = [potential(batch.graph, forces=False) for batch in chosen]
    predicted = torch.cat([p.energy + p.baseline for p in found])
    fitted = tuple(potential.species) if settings.baseline == "refit" else tuple(new)
    counts = torch.stack(
        [(b.graph.species[:, None] == torch.tensor(fitted)).sum(0) for b in chosen]
    )
    if change := fit_baseline(fitted, chosen, predicted):
        energies = torch.tensor([change[z] for z in fitted], dtype=predicted.dtype)
        potential.baseline[list(fitted)] += energies
        predicted = predicted + counts.to(energies.dtype) @ energies
    atoms = torch.tensor([b.graph.num_atoms for b in chosen])
    errors = 1000 * (torch.cat([b.energy for b in chosen]) - predicted) / atoms
    mean, spread = errors.mean().item(), errors.std(correction=0).item()
    hint = ""
    if settings.baseline == "keep" and abs(mean) > max(OFFSET, spread / 2):
        hint = "; fine_tuning.baseline=refit takes out such an offset before training"
    report(
        f"before training, energies of {len(chosen)} training frames are off by {mean:.2f} ±"
        f" {spread:.2f} meV/atom (mean, standard deviation){hint}"
    )


def _sample(batches: Sequence[Batch], species: Sequence[int]) -> list[Batch]:
    """Frames with energies that count: of those with each species, some evenly spaced ones."""
    having: dict[int, list[int]] = {z: [] for z in species}
    for k, batch in enumerate(batches):
        if batch.weight.any() and not batch.energy.isnan().any():
            for number in batch.graph.species.unique().tolist():
                having[number].append(k)
    chosen = {k for ks in having.values() for k in ks[:: -(-len(ks) // BASELINE_FRAMES) or 1]}
    return [batches[k] for k in sorted(chosen)]
