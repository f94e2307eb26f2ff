"""What is not finite is refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.metrics.finite import require_finite, where_finite


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_metric_and_row(bad):
    values = np.zeros((5, 3), np.float32)
    values[[2, 4], 1] = bad
    with pytest.raises(UserError, match=r"average drop is not finite for 2 of 5 images, .* row 2"):
        require_finite("average drop", values)
    with pytest.raises(UserError, match="pearson is not finite for 1 of 1 images"):
        require_finite("pearson", jnp.float32(bad))


def test_lets_numbers_pass():
    for values in (np.zeros((0,)), np.ones((4,)), np.ones((2, 3, 3)), jnp.float32(0), [1, 2]):
        require_finite("gini", values)


def test_where_finite_reads_every_input():
    fine, bad = jnp.ones(3), jnp.array([1.0, jnp.inf])
    assert where_finite(jnp.float32(2), fine, fine) == 2
    assert jnp.isnan(where_finite(jnp.float32(2), fine, bad))
