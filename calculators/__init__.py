"""Everything that a person or a simulation engine touches: ASE calculators, evaluation, commands."""
