"""PET against numbers of metatrain 2026.4 and of the original research code."""

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.graph import Graph
from pointedge.potentials.pet import published

from .published.cases import CASES, metatrain_case, original_folder

METATRAIN = [
    "case1_default_small_f64",
    "case2_adaptive_solver_f64",
    "case3_adaptive_grid_f64",
    "case4_residual_postln_silu_layernorm_cosine_f64",
    "case7_conditioning_f64",
    "case8_zbl_f64",
    "case10_legacy_v7_f64",
]
ORIGINAL = ["orig1_default_like_f64", "orig3_only_length_f64"]


def structures():
    """The reference structures in full precision, by name."""
    file = np.load(CASES / "case1_default_small_f64.npz")
    keys = ("positions", "numbers", "cell", "pbc")
    return {
        name: Atoms(**{key: file[f"{name}/{key}"] for key in keys})
        for name in dict.fromkeys(key.split("/")[0] for key in file.files)
    }


@pytest.mark.parametrize("case", METATRAIN + ORIGINAL)
def test_energies_forces_virials(case, tmp_path):
    if case in ORIGINAL:
        potential = published.load(original_folder(tmp_path / "calculation", case))
    else:
        potential = metatrain_case(case)
    reference = np.load(CASES / f"{case}.npz")
    compared = 0
    for name, atoms in structures().items():
        if f"{name}/energy" not in reference:
            continue
        for key, info in (("charge", "charge"), ("spin_multiplicity", "spin")):
            if f"{name}/{key}" in reference:
                atoms.info[info] = int(reference[f"{name}/{key}"])
        graph = Graph.from_atoms(atoms, potential.cutoff, inputs=potential.inputs)
        prediction = potential(graph, virial=True)
        energy = (prediction.energy + prediction.baseline).item()
        assert energy == pytest.approx(float(reference[f"{name}/energy"]), rel=1e-9, abs=0)
        np.testing.assert_allclose(
            prediction.forces.numpy(), reference[f"{name}/forces"], rtol=0, atol=1e-8
        )
        if f"{name}/energies" in reference:
            energies = prediction.energies + prediction.atomic_baseline
            np.testing.assert_allclose(
                energies.numpy(), reference[f"{name}/energies"].reshape(-1), rtol=1e-9
            )
            np.testing.assert_allclose(
                prediction.strain_gradient[0].numpy(),
                reference[f"{name}/virial_dE_dstrain"],
                rtol=0,
                atol=1e-8,
            )
        compared += 1
    assert compared >= 5


def test_batch_of_all_structures_equals_each_alone():
    potential = metatrain_case("case1_default_small_f64")
    frames = list(structures().values())
    together = potential(Graph.from_atoms(frames, potential.cutoff), virial=True)
    assert together.energy.dtype == torch.float64
    start = 0
    for b, atoms in enumerate(frames):
        alone = potential(Graph.from_atoms(atoms, potential.cutoff), virial=True)
        stop = start + len(atoms)
        torch.testing.assert_close(together.energy[b], alone.energy[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.forces[start:stop], alone.forces, rtol=0, atol=1e-11)
        torch.testing.assert_close(together.virial[b], alone.virial[0], rtol=0, atol=1e-11)
        start = stop
