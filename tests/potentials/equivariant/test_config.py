"""Settings: what no network can be built from is refused, in words that quote it."""

from __future__ import annotations

import pytest

from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.equivariant.config import EquivariantConfig
from pointedge.potentials.equivariant.mace import MACEConfig

SETTINGS = {"species": (8, 1), "cutoff": 3.0}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("convolution", {"irreps": "4x1o"}, "irreps '4x1o' need scalars"),
        ("convolution", {"irreps": "4x0e + 1x"}, r"'1x' in irreps '4x0e \+ 1x' is no irrep"),
        ("convolution", {"lmax": -1}, "lmax = -1 must not be negative"),
        ("convolution", {"lmax": 2**60}, "lmax = 1152921504606846976 must be at most 16"),
        ("convolution", {"num_layers": 0}, "num_layers = 0 must be at least 1"),
        ("convolution", {"cutoff": 0.0}, "cutoff = 0.0 must be positive"),
        ("convolution", {"properties": []}, "properties is empty; name at least one"),
        ("convolution", {"species": (1, 1)}, r"distinct atomic numbers, not \(1, 1\)"),
        ("convolution", {"convention": "e3mm"}, "unknown convention 'e3mm'; known: e3nn"),
        ("convolution", {"properties": ("dipol",)}, "'dipol'; did you mean 'dipole'"),
        (
            "convolution",
            {"properties": ("dipole",), "lmax": 0, "irreps": "4x0e"},
            "'dipole' needs harmonics of degree 1, but lmax = 0",
        ),
        (
            "convolution",
            {"irreps": "4x0e + 4x3o", "lmax": 1},
            r"3o of irreps '4x0e \+ 4x3o' cannot reach the output: .* in 3 layers .* lmax = 1",
        ),
        ("nequip", {"irreps": "4x0e + 4x1o + 4x1e", "num_layers": 3}, "1e of irreps .* cannot"),
        ("nequip", {"radial_widht": 8}, "'radial_widht'; did you mean 'radial_width'"),
        ("nequip", {"readout_depth": -1}, "readout_depth = -1 must not be negative"),
        ("nequip", {"readout_width": 0}, "readout_width = 0 must be at least 1"),
        ("nequip", {"embedding_width": -2}, "embedding_width = -2 must be at least 1"),
        ("mace", {"readout_width": 0}, "readout_width = 0 must be at least 1"),
        ("mace", {"correlation": 4}, "correlation = 4 must be of 1, 2 or 3"),
        ("mace", {"correlation": (3, 2, 1)}, r"correlation = \(3, 2, 1\) names 3 layers"),
        ("mace", {"irreps": "4x0e + 4x1e"}, "1e of irreps '4x0e [+] 4x1e': MACE has those of"),
        ("mace", {"irreps": "4x0e + 2x1o"}, "'4x0e [+] 2x1o' must have equally many channels"),
        ("mace", {"irreps": "4x0e + 4x1o", "lmax": 0}, r"harmonics up to lmax = 0 only: 0e\."),
        ("mace", {"first_interaction": "agnostik"}, "did you mean 'agnostic'"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        architecture(kind).from_config({**SETTINGS, **changes})


@pytest.mark.parametrize("kind", ["convolution", "nequip", "mace"])
def test_settings_are_plain_values_that_build_the_same(kind):
    network = architecture(kind).from_config(SETTINGS)
    assert network.config.species == (1, 8)
    again = architecture(kind).from_config(network.to_config())
    assert again.config == network.config
    assert again.state_dict().keys() == network.state_dict().keys()


def test_layers_have_what_leads_to_them_and_on():
    config = EquivariantConfig(
        (1,), irreps="4x0e + 3x1o + 2x1e + 1x2e", lmax=1, num_layers=4, cutoff=3.0
    )
    assert [str(irreps) for irreps in config.layers()] == [
        "4x0e",
        "4x0e + 3x1o",
        "4x0e + 3x1o + 2x1e + 1x2e",
        "4x0e + 3x1o",  # the last layer makes scalars of scalars and vectors only
        "4x0e",
    ]


def test_correlation_of_each_layer():
    assert MACEConfig((1,), correlation=2).correlations == (2, 2)
    assert MACEConfig((1,), correlation=(3, 1)).correlations == (3, 1)
