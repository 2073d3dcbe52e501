"""What a set of frames is, collected frame by frame: the numbers of the table before a training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from pydantic import BaseModel

from .baseline import composition_fit
from .data import LABELS, Batch
from .kinds import KINDS
from .labels import KeyCount
from .strain import StrainedCopies, StressCheck

SHORTEST_BOND = 0.5  # of the sum of covalent radii; what is closer is worth a look
OVERLAP = 0.1  # Å; even two H atoms repel with about 100 eV here (ZBL)
NET_FORCE = 0.02  # eV/Å
OUTLIER = 20.0  # robust standard deviations
OUTLIER_ENERGY = 0.1  # eV/atom
OUTLIER_FORCE = 30.0  # root mean squares
ASYMMETRY = 1e-3  # of the largest component


class Range(BaseModel):
    """Values of a label: of all components, the energy per atom; and the sum of frames' weights."""

    frames: int = 0
    count: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    squares: float = 0.0
    weight: float = 0.0

    def add(self, values: np.ndarray, frames: int, weight: float) -> None:
        """Count the values of some frames."""
        self.frames += frames
        self.count += values.size
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        self.squares += float(np.square(values).sum())
        self.weight += weight

    @property
    def rms(self) -> float:
        """Root mean square."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan


class Extreme(BaseModel):
    """A number and the frame that has it."""

    value: float
    frame: str


class Summary(BaseModel):
    """A set of frames in numbers, in the units of :data:`.labels.KINDS` and Å.

    Attributes:
        name: of the set.
        frames, atoms, edges: counts.
        smallest, largest: atoms of a frame.
        elements: atoms by symbol.
        periodic: frames by periodic axes, such as "TTF".
        labels: ranges of labels by name.
        keys: where labels were found.
        baseline: a sum over species fitted to the energies, and what is left of them.
        net_force: largest component of the sum of a frame's forces, eV/Å.
        shortest: shortest distance below the cutoff by pair of elements.
        cutoff: within which distances were looked for, Å.
        duplicates: frames that are copies of others.
        stress_check: whether stresses are derivatives of energies.
        warnings: what is suspicious, a line each.
    """

    name: str
    frames: int = 0
    atoms: int = 0
    edges: int = 0
    smallest: int = 0
    largest: int = 0
    elements: dict[str, int] = {}
    periodic: dict[str, int] = {}
    labels: dict[str, Range] = {}
    keys: KeyCount = KeyCount()
    baseline: str = ""
    net_force: Extreme | None = None
    shortest: dict[str, Extreme] = {}
    cutoff: float = 0.0
    duplicates: int = 0
    stress_check: StressCheck | None = None
    warnings: list[str] = []


class Summarizer:
    """Makes a :class:`Summary` of frames that are shown to it once."""

    def __init__(self, name: str, cutoff: float) -> None:
        self.found = Summary(name=name, cutoff=cutoff, keys=KeyCount())
        self._hashes: dict[str, str] = {}
        self._copies: list[tuple[str, str]] = []
        self._elements: Counter[int] = Counter()
        self._periodic: Counter[str] = Counter()
        self._compositions: list[dict[int, int]] = []
        self._energies: list[float] = []
        self._names: list[str] = []
        self._largest_force = Extreme(value=0.0, frame="")
        self._zero_forces: list[str] = []
        self._asymmetric: list[str] = []
        self._strained = StrainedCopies()

    def add(
        self,
        names: Sequence[str],
        structures: Sequence[Atoms],
        batch: Batch,
        used: Sequence[dict[str, str]],
        hashes: Sequence[str],
    ) -> None:
        """Take note of frames.

        Args:
            names: what messages call them.
            structures: the frames.
            batch: their graph and labels.
            used: keys of the labels of each.
            hashes: of each.

        Raises:
            ValueError: two atoms are at the same place.
        """
        found = self.found
        sizes = [len(atoms) for atoms in structures]
        found.frames += len(sizes)
        found.atoms += sum(sizes)
        found.edges += batch.graph.num_edges
        found.smallest = min(found.smallest or sizes[0], *sizes)
        found.largest = max(found.largest, *sizes)
        self._distances(names, batch)
        for label in LABELS:
            self._label(label, names, batch, np.array([label in keys for keys in used]))
        for k, (where, atoms) in enumerate(zip(names, structures, strict=True)):
            found.keys.add(atoms, used[k])
            composition = Counter(atoms.numbers.tolist())
            self._elements += composition
            self._periodic["".join("FT"[int(x)] for x in atoms.pbc)] += 1
            if (twin := self._hashes.setdefault(hashes[k], where)) is not where:
                self._copies.append((where, twin))
            if "energy" in used[k]:
                self._compositions.append(composition)
                self._energies.append(batch.energy[k].item())
                self._names.append(where)
                if "stress" in used[k]:
                    self._strained.add(atoms, self._energies[-1], batch.stress[k].numpy())

    def finish(self) -> Summary:
        """The summary of all frames."""
        found = self.found
        found.elements = {chemical_symbols[z]: n for z, n in sorted(self._elements.items())}
        found.periodic = dict(self._periodic.most_common())
        found.duplicates = len(self._copies)
        if "stress" in found.labels:
            found.stress_check = self._strained.check()
        found.warnings = [*self._outliers(), *self._suspicions()]
        return found

    def _distances(self, names: Sequence[str], batch: Batch) -> None:
        """Shortest distance of each pair of elements."""
        graph = batch.graph
        lengths = graph.edge_vectors().norm(dim=1).numpy()
        numbers = graph.species.numpy()
        ends = np.sort([numbers[graph.centers], numbers[graph.neighbors]], axis=0)
        codes = 200 * ends[0] + ends[1]
        order = np.lexsort((lengths, codes))
        for k in order[np.flatnonzero(np.diff(codes[order], prepend=-1))]:
            structure = int(graph.structure[graph.centers[k]])
            where = names[structure]
            if lengths[k] < OVERLAP:
                first = int(torch.searchsorted(graph.structure, structure))
                one, other = sorted(int(x[k]) - first for x in (graph.centers, graph.neighbors))
                raise ValueError(
                    f"atoms {one} and {other} of {where} are {lengths[k]:.3g} Å apart; "
                    "remove the frame, or mend its positions or cell."
                )
            pair = "-".join(chemical_symbols[z] for z in divmod(int(codes[k]), 200))
            known = self.found.shortest.get(pair)
            if known is None or lengths[k] < known.value:
                self.found.shortest[pair] = Extreme(value=float(lengths[k]), frame=where)

    def _label(self, label: str, names: Sequence[str], batch: Batch, has: np.ndarray) -> None:
        if not has.any():
            return
        frame = batch.graph.structure.numpy()
        sizes = np.bincount(frame, minlength=len(names))
        values = getattr(batch, label).numpy()
        if label == "energy":
            values = values / sizes
        known = values[has[frame] if label == "forces" else has]
        weight = float(batch.weight.numpy()[has].sum())
        self.found.labels.setdefault(label, Range()).add(known, int(has.sum()), weight)
        if label == "forces":
            self._forces([n for n, h in zip(names, has, strict=True) if h], known, sizes[has])
        if label in ("stress", "polarizability"):
            rest = np.abs(known - known.transpose(0, 2, 1)).max(axis=(1, 2))
            odd = np.flatnonzero(has)[rest > ASYMMETRY * np.abs(known).max(axis=(1, 2))]
            self._asymmetric += [f"{label} of {names[k]}" for k in odd.tolist()]

    def _forces(self, names: Sequence[str], forces: np.ndarray, sizes: np.ndarray) -> None:
        starts = np.cumsum(sizes) - sizes
        net = np.abs(np.add.reduceat(forces, starts)).max(axis=1)
        largest = np.maximum.reduceat(np.abs(forces).max(axis=1), starts)
        k, m = int(net.argmax()), int(largest.argmax())
        if self.found.net_force is None or net[k] > self.found.net_force.value:
            self.found.net_force = Extreme(value=float(net[k]), frame=names[k])
        if largest[m] > self._largest_force.value:
            self._largest_force = Extreme(value=float(largest[m]), frame=names[m])
        still = np.flatnonzero((largest == 0) & (sizes > 1)).tolist()
        self._zero_forces += [names[j] for j in still]

    def _outliers(self) -> list[str]:
        """Energies far from what their compositions say; describes the baseline."""
        if not self._energies:
            return []
        species = sorted(self._elements)
        counts = np.array([[c.get(z, 0) for z in species] for c in self._compositions], float)
        energies = np.array(self._energies)
        fit = composition_fit(counts, energies)
        self.found.baseline = fit.in_words(species)
        rest = (energies - counts @ fit.energies) / counts.sum(1)
        spread = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
        limit = max(OUTLIER * spread, OUTLIER_ENERGY)
        far = np.flatnonzero(np.abs(rest - np.median(rest)) > limit)
        if not len(far):
            return []
        k = far[np.argmax(np.abs(rest[far]))]
        return [
            f"{len(far)} frames have energies beyond {OUTLIER:g} standard deviations of the others "
            f"of their composition, {rest[k]:.3g} eV/atom in {self._names[k]}"
        ]

    def _suspicions(self) -> list[str]:
        found, lines = self.found, []
        for label, values in found.labels.items():
            if values.frames < found.frames:
                lines.append(f"{values.frames} of {found.frames} frames have {label}")
        if self._copies:
            one, other = self._copies[0]
            lines.append(f"{len(self._copies)} frames are copies of others: {one} of {other}")
        net, forces = found.net_force, found.labels.get("forces")
        if net is not None and net.value > NET_FORCE:
            lines.append(
                f"the forces of {net.frame} sum to {net.value:.2g} eV/Å, those of any model to zero"
            )
        if forces is not None and self._largest_force.value > OUTLIER_FORCE * forces.rms:
            worst = self._largest_force
            lines.append(
                f"a force of {worst.value:.3g} eV/Å in {worst.frame}; their rms is {forces.rms:.2g}"
            )
        for pair, close in found.shortest.items():
            one, other = (covalent_radii[chemical_symbols.index(s)] for s in pair.split("-"))
            if close.value < SHORTEST_BOND * (one + other):
                lines.append(f"{pair} atoms are {close.value:.3f} Å apart in {close.frame}")
        if self._zero_forces:
            lines.append(
                f"all forces are exactly zero in {len(self._zero_forces)} frames, such as "
                f"{self._zero_forces[0]}: by symmetry, or not computed?"
            )
        if self._asymmetric:
            lines.append(
                f"{len(self._asymmetric)} tensors are not symmetric: {self._asymmetric[0]}"
            )
        if found.stress_check is not None and found.stress_check.wrong:
            unit = KINDS["stress"].unit
            lines.append(
                f"stress is not the derivative of the energy in {unit}, negative if compressed: "
                f"{found.stress_check.verdict.removeprefix('WRONG: ')}"
            )
        return lines
