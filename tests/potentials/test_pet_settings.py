"""Settings of a PET that no model can be built from are refused in a sentence."""

from __future__ import annotations

import pytest

from pointedge.potentials.pet import PETConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 0}, "num_heads = 0 must be at least 1."),
        ({"num_heads": -2}, "num_heads = -2 must be at least 1."),
        ({"num_heads": 3}, "d_pet = 128 must be a multiple of num_heads = 3."),
        ({"d_node": 0}, "d_node = 0 must be at least 1."),
        ({"num_gnn_layers": 0}, "num_gnn_layers = 0 must be at least 1."),
        ({"attention_temperature": 0}, "attention_temperature = 0.0 must be positive."),
        ({"attention_temperature": -1.0}, "attention_temperature = -1.0 must be positive."),
        ({"num_neighbors_adaptive": 0}, "num_neighbors_adaptive = 0.0 must be positive."),
        ({"num_neighbors_adaptive": -3.0}, "num_neighbors_adaptive = -3.0 must be positive."),
        ({"cutoff_width_adaptive": 0}, "cutoff_width_adaptive = 0.0 must be positive."),
        ({"cutoff_width_adaptive": -1.0}, "cutoff_width_adaptive = -1.0 must be positive."),
        ({"typical_moment": 0}, "typical_moment = 0.0 must be positive."),
        ({"max_charge": -1}, "max_charge = -1 must not be negative."),
        ({"max_spin_multiplicity": 0}, "max_spin_multiplicity = 0 must be at least 1."),
        ({"properties": []}, "properties is empty; name at least one, such as 'energy'."),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(changes, message):
    with pytest.raises(ValueError, match=r"must|empty") as refused:
        PETConfig.from_dict({"species": (1, 8), **changes})
    assert str(refused.value) == message


def test_what_may_be_left_out_may_be_none():
    config = PETConfig((1, 8), d_node=None, num_neighbors_adaptive=None, typical_moment=None)
    assert config.node_width == config.d_pet
