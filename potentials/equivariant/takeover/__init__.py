"""Weights of models of the packages ``mace-torch`` and ``nequip``, in our networks.

Their files are pickles that only their own environment opens. Export there, and build here::

    numpy.savez("weights.npz", **{k: v.numpy() for k, v in model.state_dict().items()})

together with the arguments the model was built with. Arrays are those of mace-torch 0.3 and of
nequip 0.16 to 0.19 (older ones lay irreps out in another order), whose energies and forces come out
to rounding in float64. What was trained in float32 agrees to some 1e-7.
"""

from .blocks import TakeOverError
from .mace import from_mace
from .nequip import from_nequip

__all__ = ["TakeOverError", "from_mace", "from_nequip"]
