"""Uncertainties of a published model, against those that metatrain computes."""

import numpy as np
import pytest
import torch

from pointedge.calculators import PETCalculator
from pointedge.potentials.pet.published import PublishedError
from pointedge.potentials.pet.published.uncertainty import rigidity_of

from ...peers.metatrain_references import structures
from .cases import FORMAT, unpacked


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return unpacked("uncertain.ckpt.gz", tmp_path_factory.mktemp("uncertain"))


@pytest.mark.filterwarnings("ignore:.*direct predictions")
def test_they_are_those_of_metatrain(model):
    expected = np.load(FORMAT / "uncertain.npz")
    calculator = PETCalculator(model)
    for k, atoms in enumerate(structures()):
        of_structure = calculator.get_property("energy_std", atoms)
        assert of_structure == pytest.approx(expected[f"{k}/system"].item(), rel=1e-10)
        of_atoms = calculator.get_property("energies_std", atoms)
        np.testing.assert_allclose(of_atoms, expected[f"{k}/atom"], rtol=1e-10)


def tensors(name):
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).double()
    covariance = features.T @ features
    return {
        f"covariance_{name}": covariance,
        f"cholesky_{name}": torch.linalg.cholesky(covariance),
        f"multiplier_{name}": torch.tensor([2.0]),
    }


def test_older_versions_and_units():
    features = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).double()
    new = tensors("energy_uncertainty")
    expected = rigidity_of(new, "energy", 1.0)(features)
    old = {k.replace("cholesky", "inv_covariance"): v for k, v in new.items()}
    torch.testing.assert_close(rigidity_of(old, "energy", 1.0)(features), expected)
    torch.testing.assert_close(rigidity_of(new, "energy", 0.5)(features), 0.5 * expected)
    variant = tensors("mtt::aux::energy/pbe_uncertainty")
    torch.testing.assert_close(rigidity_of(variant, "energy/pbe", 1.0)(features), expected)
    assert rigidity_of(new, "energy/pbe", 1.0) is None


def test_what_is_no_uncertainty():
    known = tensors("energy_uncertainty")
    with pytest.raises(PublishedError, match="lack a covariance of energy"):
        rigidity_of({"multiplier_energy_uncertainty": torch.ones(1)}, "energy", 1.0)
    unfitted = known | {"cholesky_energy_uncertainty": torch.zeros(4, 4)}
    with pytest.raises(PublishedError, match="not those of a fitted model"):
        rigidity_of(unfitted, "energy", 1.0)
    del known["cholesky_energy_uncertainty"]
    known["covariance_energy_uncertainty"].fill_(torch.nan)
    with pytest.raises(PublishedError, match="no Cholesky factor"):
        rigidity_of(known, "energy", 1.0)
