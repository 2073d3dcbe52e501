"""The parts of the trainer: configuration, data, loss, schedule and second derivatives."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.potential import Potential
from pointedge.potentials.training.baseline import fit_baseline
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.data import labelled
from pointedge.potentials.training.loss import residuals
from pointedge.potentials.training.reading import find_file, read_frames
from pointedge.potentials.training.run import _normalize
from pointedge.potentials.training.schedule import learning_rate
from pointedge.potentials.training.settings import Data, Frames

from ...networks import tiny_pet

DATA = Data(train=Frames(files=["a"]), validation=Frames(files=["b"]))


def water(**labels):
    atoms = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0.1], [-0.2, 0.93, 0]], cell=[6, 6, 6], pbc=True)
    atoms.info["REF_energy"] = -1.0
    atoms.arrays["REF_forces"] = np.arange(9.0).reshape(3, 3)
    for key, value in labels.items():
        (atoms.arrays if key == "REF_forces" else atoms.info)[key] = value
    return atoms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimisation": {}}, "'optimization'"),
        ({"optimization": {"lerning_rate": 1}}, "'learning_rate'"),
        ({"loss": {"energy": -1}}, "loss.energy"),
        ({"data": {"train": {"files": []}, "validation": {"files": ["x"]}}}, "data.train.files"),
    ],
)
def test_configuration_refuses_what_it_does_not_know(resolved, change, message):
    tree = resolved.model_dump() | change
    with pytest.raises(ValueError, match=message):
        TrainingConfig.from_dict(tree)


def test_overrides_and_round_trip(resolved, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(resolved.to_yaml())
    assert TrainingConfig.from_yaml(path) == resolved
    changed = TrainingConfig.from_yaml(path, ["optimization.learning_rate=0.5", "zbl=false"])
    assert changed.optimization.learning_rate == 0.5
    assert changed.zbl is False
    with pytest.raises(ValueError, match="key=value"):
        TrainingConfig.from_yaml(path, ["zbl"])


def test_frames_are_selected_by_info_and_found_in_the_data_folder(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "f.xyz", [water(source="x"), water(source="y"), water(source="y")])
    assert len(read_frames(Frames(files=["f.xyz"], where={"source": ["y"]}), tmp_path)) == 2
    with pytest.raises(ValueError, match="no frame"):
        read_frames(Frames(files=["f.xyz"], where={"source": ["z"]}), tmp_path)
    monkeypatch.setenv("POINTEDGE_DATA", str(tmp_path))
    assert find_file("f.xyz", tmp_path / "elsewhere") == tmp_path / "f.xyz"
    with pytest.raises(FileNotFoundError, match="POINTEDGE_DATA"):
        find_file("g.xyz", tmp_path)


def test_frames_are_selected_by_patterns_and_dropped_after_the_slice(tmp_path):
    """``unless`` thins what ``leave`` left, so that validation frames stay out."""
    names = ["md-300", "md-3000", "relaxed", "md-[1]", "md-300", "md-3000"]
    ase.io.write(tmp_path / "f.xyz", [water(note=n, k=k) for k, n in enumerate(names)])

    def chosen(**selection):
        frames = read_frames(Frames(files=["f.xyz"], **selection), tmp_path)
        return [atoms.info["k"] for atoms in frames]

    assert chosen(where={"note": ["md-*"]}) == [0, 1, 3, 4, 5]
    assert chosen(where={"note": ["md-[1]", "rel?xed"]}) == [2, 3], "a name is taken as it is, too"
    assert chosen(leave="::3", unless={"note": ["*-300"]}) == [1, 2, 5]
    assert chosen(take="::3", unless={"note": ["*-300"]}) == [3]
    with pytest.raises(ValueError, match=r"unless .* widen the selection"):
        chosen(unless={"note": ["*"]})


def test_labels_of_wrong_shape_or_not_finite_are_refused():
    with pytest.raises(ValueError, match="REF_stress of the frame has shape"):
        labelled(water(REF_stress=np.zeros(5)), DATA, 3.0, ())
    with pytest.raises(ValueError, match="not finite"):
        labelled(water(REF_energy=np.nan), DATA, 3.0, ())


def test_stress_labels_in_either_form():
    voigt = np.array([1.0, 2, 3, 4, 5, 6])
    full = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    for label in (voigt, full, full.ravel()):
        batch = labelled(water(REF_stress=label), DATA, 3.0, ())
        np.testing.assert_array_equal(batch.stress[0].numpy(), full)


def test_baseline_of_one_composition_reproduces_its_energy():
    batches = [labelled(water(REF_energy=-30.0 - k), DATA, 3.0, ()) for k in range(2)]
    baseline = fit_baseline((1, 8), batches, torch.zeros(2, dtype=torch.float64))
    assert 2 * baseline[1] + baseline[8] == pytest.approx(-30.5)


def test_baseline_and_scale_count_frames_by_their_weights():
    """A group of weight zero, energies 300 eV off and huge forces, says nothing."""
    data = DATA.model_copy(update={"weight_key": "weight"})
    good = [labelled(water(REF_energy=-30.0 - k), data, 3.0, ()) for k in range(3)]
    bad = [labelled(water(REF_energy=270.0, weight=0.0), data, 3.0, ()) for _ in range(9)]
    for batch in bad:
        batch.forces.mul_(1e3)
    potential, alone = (Potential(tiny_pet(0, species=(1, 8))) for _ in range(2))
    _normalize(potential, [*bad, *good])
    _normalize(alone, good)
    assert torch.allclose(potential.baseline, alone.baseline)
    assert potential.scale == alone.scale > 0
    twice = labelled(water(REF_energy=-33.0, weight=2.0), data, 3.0, ())
    once = labelled(water(REF_energy=-33.0), data, 3.0, ())
    twice.forces.mul_(2), once.forces.mul_(2)
    _normalize(potential, [good[0], twice])
    _normalize(alone, [good[0], once, once])
    assert torch.allclose(potential.baseline, alone.baseline)
    assert potential.scale.item() == pytest.approx(alone.scale.item())


def test_augmentation_turns_labels_with_the_structure():
    labels = {"REF_dipole": [0.1, 0.7, -0.3], "REF_polarizability": np.diag([3.0, 1, 7])}
    batch = labelled(water(REF_stress=np.diag([1.0, 2, 3]), **labels), DATA, 3.0, ())
    turned = batch.augmented(seed=3)
    again = batch.augmented(seed=3)
    assert torch.equal(turned.forces, again.forces)
    assert not torch.allclose(turned.forces, batch.augmented(seed=4).forces)
    # Scalars made of vectors and tensors do not change.
    for one in (turned, batch):
        v = one.graph.edge_vectors()
        f = one.forces[one.graph.centers]
        scalars = torch.stack(
            [
                (v * f).sum(),
                (v @ one.stress[0] * v).sum(),
                (v @ one.dipole[0]).abs().sum(),
                (v @ one.polarizability[0] * v).sum(),
            ]
        )
        if one is turned:
            expected = scalars
    torch.testing.assert_close(scalars, expected, rtol=1e-12, atol=1e-12)


def test_learning_rate_warms_up_and_falls_to_zero():
    rates = [learning_rate(p, 1.0, 0.1) for p in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[10] == max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0)
    assert all(np.diff(rates[10:]) < 0)


@pytest.mark.parametrize("label", ["forces", "stress"])
def test_weight_gradients_of_derivative_losses_by_finite_differences(label):
    """Second derivatives: the gradient in the weights of a loss on forces or stress."""
    potential = Potential(tiny_pet(0, species=(1, 8), cutoff=3.0))
    batch = labelled(water(REF_stress=np.eye(3)), DATA, 3.0, ())

    def loss():
        prediction = potential(batch.graph, virial=True, create_graph=True)
        return residuals(prediction, batch)[label].sums()[0]

    parameters = list(potential.network.parameters())
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
    expected = sum(
        (g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None
    )

    def shifted(step):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(step * d)
        value = loss().item()
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(step * d)
        return value

    errors = []
    for h in (1e-4, 3e-5, 1e-5):
        slope = (8 * (shifted(h) - shifted(-h)) - (shifted(2 * h) - shifted(-2 * h))) / (12 * h)
        errors.append(abs(slope / expected.item() - 1))
    assert min(errors) < 1e-7
