"""PET, the Point Edge Transformer (Pozdnyakov and Ceriotti, arXiv 2305.19302)."""

from .config import PETConfig
from .model import PET

__all__ = ["PET", "PETConfig"]
