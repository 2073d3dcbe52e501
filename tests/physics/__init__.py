import pytest

for _part in ("behavior", "common", "derivatives", "locality", "numerics", "symmetries"):
    pytest.register_assert_rewrite(f"tests.physics.{_part}")
