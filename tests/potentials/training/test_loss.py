"""The loss: penalties, weights, scales, missing labels, and sums over ranks."""

from __future__ import annotations

from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.potential import Potential
from pointedge.potentials.training.data import LABELS, Batch, labelled
from pointedge.potentials.training.dataset import FrameSource
from pointedge.potentials.training.loss import Residual, WeightedLoss, residuals
from pointedge.potentials.training.settings import Data, Frames, Loss

from ...networks import tiny_pet

DATA = Data(train=Frames(files=["a"]), validation=Frames(files=["b"]))
EPS = torch.finfo(torch.float64).eps


def water(seed=0, **labels):
    """A water molecule in a cell, with labels, if they are not None."""
    atoms = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0.1], [-0.2, 0.93, 0]], cell=[6, 6, 6], pbc=True)
    atoms.rattle(0.05, seed=seed)
    given = {"REF_energy": -1.0, "REF_forces": np.arange(9.0).reshape(3, 3), **labels}
    for key, value in given.items():
        if value is not None:
            (atoms.arrays if key == "REF_forces" else atoms.info)[key] = value
    return atoms


def batch_of(*frames, data=DATA):
    return Batch.join([labelled(atoms, data, 3.0, ()) for atoms in frames])


def potential():
    return Potential(tiny_pet(0, species=(1, 8), cutoff=3.0))


def loss_of(batch, loss, model=None, labels=("energy", "forces", "stress")):
    model = model or potential()
    return loss(residuals(model(batch.graph, virial=True, create_graph=True), batch, labels))


def residual(*errors, weight=None):
    values = torch.tensor(errors, dtype=torch.float64)[:, None]
    known = ~values.isnan()
    weight = torch.ones(len(values)) if weight is None else torch.tensor(weight)
    return Residual(values.nan_to_num(), known, weight.double())


def gradients(value, model):
    parameters = list(model.network.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def test_missing_labels_do_not_count_and_have_no_gradient():
    """A batch with bare frames (one a molecule, without a volume) has the loss of the rest."""
    bare = water(1, REF_energy=None, REF_forces=None)
    molecule = water(2, REF_energy=None, REF_forces=None)
    molecule.cell, molecule.pbc = None, False
    whole = water(3, REF_stress=np.eye(3))
    settings = Loss(energy=0.3, forces=1, stress=2, normalization="fixed")
    model = potential()
    alone = loss_of(batch_of(whole), WeightedLoss(settings), model)
    among = loss_of(batch_of(bare, whole, molecule), WeightedLoss(settings), model)
    assert among.item() == pytest.approx(alone.item(), rel=100 * EPS)
    for one, other in zip(gradients(alone, model), gradients(among, model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    nothing = loss_of(batch_of(bare, molecule), WeightedLoss(settings), model)
    assert nothing.item() == 0
    assert all((g == 0).all() for g in gradients(nothing, model))


def test_single_components_may_be_missing():
    batch = batch_of(water())
    forces = batch.forces.clone()
    forces[1] = torch.nan
    batch = replace(batch, forces=forces)
    found = residuals(potential()(batch.graph), batch)["forces"]
    assert found.sums()[1] == 6
    assert (found.errors[1] == 0).all()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("squared", (9 + 0.25) / 2), ("absolute", 3.5 / 2), ("huber", (2.5 + 0.125) / 2)],
)
def test_penalties(kind, expected):
    """Huber's with δ = 1: of 3, 3 - 1/2; of 1/2, 1/8."""
    settings = {"kind": kind, "normalization": "fixed", "energy": 0, "forces": 2}
    if kind == "huber":
        settings["huber_delta"] = {"forces": 1.0}
    loss = WeightedLoss(Loss.model_validate(settings))
    assert loss({"forces": residual(3.0, -0.5, np.nan)}).item() == pytest.approx(2 * expected)


def test_sliding_scales_are_running_means():
    loss = WeightedLoss(Loss(energy=0.5, forces=2.0, memory=0.5))
    first = loss({"energy": residual(3.0), "forces": residual(1.0, -1.0)})
    assert first.item() == pytest.approx(2.5), "first errors are their own mean"
    # energy: mean (9 + 1) / 2 = 5 -> 1 / 5; forces: mean (1 + 4) / 2 -> 4 / 2.5
    second = loss({"energy": residual(1.0), "forces": residual(2.0, -2.0)})
    assert second.item() == pytest.approx(0.5 / 5 + 2.0 * 4 / 2.5)
    scales = loss.scales.clone()
    missing = loss({"energy": residual(np.nan), "forces": residual(0.0)})
    assert missing.item() == 0
    assert loss.scales[0] == scales[0], "a step without a label leaves its scale alone"


def test_scales_of_epochs_follow_validations():
    """As steps until the first validation; then s ← 0.7 s + 0.3 RMSE, and no step moves them."""
    loss = WeightedLoss(Loss(energy=0, forces=1, normalization="sliding_epoch"))
    loss({"forces": residual(5.0)})
    force = LABELS.index("forces")

    def validate(rmse):
        sums = torch.zeros(len(LABELS), 2, dtype=torch.float64)
        sums[force] = torch.tensor([3 * rmse**2, 3])
        loss.validated(sums)

    validate(2.0)
    assert loss.scales[force].sqrt().item() == pytest.approx(2.0)
    assert loss({"forces": residual(4.0)}).item() == pytest.approx((4 / 2) ** 2)
    validate(1.0)
    assert loss.scales[force].sqrt().item() == pytest.approx(0.7 * 2 + 0.3)
    again = WeightedLoss(loss.settings)
    again.load_state_dict(loss.state_dict())
    assert again({"forces": residual(1.0)}).item() == pytest.approx(1 / 1.7**2)


def test_frames_weigh_what_they_and_their_groups_say():
    data = DATA.model_copy(
        update={"weight_key": "w", "group_weights": {"kind": {"slab": 3.0}}}, deep=True
    )
    frames = [water(0, w=2.0), water(1, kind="slab"), water(2, kind="bulk"), water(3, w=0.0)]
    batch = batch_of(*frames, data=data)
    assert batch.weight.tolist() == [2.0, 3.0, 1.0, 0.0]
    loss = WeightedLoss(Loss(energy=1, forces=1, normalization="fixed"))
    model = potential()
    single = [loss_of(batch_of(a), loss, model).item() for a in frames]
    expected = np.mean([w * x for w, x in zip(batch.weight.tolist(), single, strict=True)])
    assert loss_of(batch, loss, model).item() == pytest.approx(expected, rel=1e-12)
    for weight in (-1, "much", np.nan):
        with pytest.raises(ValueError, match="weight w = "):
            batch_of(water(w=weight), data=data)


def test_selections_have_weights_too(tmp_path):
    ase.io.write(tmp_path / "f.xyz", [water(k, kind="slab" if k else "bulk") for k in range(3)])
    data = DATA.model_copy(
        update={
            "train": [
                Frames(files=["f.xyz"], take=":1", weight=0.5),
                Frames(files=["f.xyz"], leave=":1"),
            ],
            "group_weights": {"kind": {"slab": 3.0}},
        }
    )
    frames = FrameSource("training", data.train, data, tmp_path).dataset(3.0, ())
    assert [batch.weight.item() for batch in frames] == [0.5, 3.0, 3.0]
    data = data.model_copy(update={"group_weights": {"kind": {"slb": 3.0}}})
    with pytest.raises(ValueError, match="group_weights has kind slb, but no training frame does"):
        FrameSource("training", data.train, data, tmp_path).dataset(3.0, ())


def test_two_ranks_with_unequal_frames_take_the_step_of_one():
    """Gradients averaged over ranks, each of a loss by global counts; running means agree."""
    frames = [
        water(0),
        water(1, REF_forces=None),
        water(2, REF_energy=None),
        water(3, REF_stress=np.eye(3)),
        water(4),
    ]
    parts = [batch_of(*frames[:1]), batch_of(*frames[1:])]
    model, settings = potential(), Loss(energy=0.1, forces=1, stress=1)
    together = WeightedLoss(settings)
    ranks = [WeightedLoss(settings) for _ in parts]
    labels = ("energy", "forces", "stress")
    for _ in range(2):
        expected = loss_of(batch_of(*frames), together, model)
        errors = [
            residuals(model(b.graph, virial=True, create_graph=True), b, labels) for b in parts
        ]
        with torch.no_grad():
            totals = sum(
                torch.cat([loss.sums(e), torch.ones(1, 2).double()])
                for loss, e in zip(ranks, errors, strict=True)
            )
        for loss in ranks:
            loss.reduce = lambda sums, totals=totals: totals
        mean = torch.stack([loss(e) for loss, e in zip(ranks, errors, strict=True)]).mean()
        assert mean.item() == pytest.approx(expected.item(), rel=1e-12)
        for one, other in zip(gradients(mean, model), gradients(expected, model), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(ranks[0].scales, together.scales, rtol=1e-13, atol=0)
        torch.testing.assert_close(ranks[1].scales, together.scales, rtol=1e-13, atol=0)


def test_the_score_has_no_unit():
    """Changed units add a constant, whatever the normalisation; fixed weights have units."""
    for normalization in ("sliding", "fixed"):
        loss = WeightedLoss(Loss(energy=0.1, forces=1, normalization=normalization))
        one = loss.score({"energy": 1.0, "forces": 50.0}) - loss.score(
            {"energy": 2.0, "forces": 40.0}
        )
        other = loss.score({"energy": 1000.0, "forces": 50.0}) - loss.score(
            {"energy": 2000.0, "forces": 40.0}
        )
        assert one == pytest.approx(other)
    assert np.isfinite(loss.score({"energy": 0.0, "forces": 1.0}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": 0, "forces": 0}, "all weights are 0"),
        ({"kind": "square"}, "kind"),
        ({"huber_delta": {"forces": 0.2}}, "huber_delta.forces is set, but kind.forces"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Loss.model_validate(change)
