import pytest

pytest.register_assert_rewrite("tests.physics.battery", "tests.physics.numerics")
