"""What i-PI loads as a custom ``pes``: by its path, in no package, so imports are absolute."""

from pointedge.calculators.engines.ipi import PotentialDriver

__all__ = ["PotentialDriver"]
__DRIVER_NAME__ = "pointedge"
__DRIVER_CLASS__ = "PotentialDriver"
