"""U-LiRA: exact unlearning passes, a no-op is caught, and scores are as in plain loops."""

import numpy as np
import pytest
from scipy.stats import norm

from dcmu_jax.audits.u_lira import u_lira, u_lira_scores
from dcmu_jax.errors import InputError


def _pair(unlearned, oracles, examples, shift, seed=0):
    rng = np.random.default_rng(seed)
    hardness = rng.normal(2, 3, examples)
    return (
        hardness + shift + rng.normal(size=(unlearned, examples)),
        hardness + rng.normal(size=(oracles, examples)),
    )


def test_scores_are_those_of_plain_loops():
    unlearned, oracles = _pair(5, 4, 6, 1.0)
    found = u_lira_scores(unlearned, oracles, variance="per_example")
    assert [part.shape for part in found] == [(5, 6), (4, 6)]
    for model in range(5):  # the target, and the first of the other kind, are left out
        rest = np.delete(unlearned, model, axis=0), oracles[1:]
        fits = [norm(part.mean(axis=0), part.std(axis=0, ddof=1)) for part in rest]
        expected = fits[0].logpdf(unlearned[model]) - fits[1].logpdf(unlearned[model])
        np.testing.assert_allclose(found[0][model], expected, rtol=1e-6)
    for model in range(4):
        rest = unlearned[1:], np.delete(oracles, model, axis=0)
        fits = [norm(part.mean(axis=0), part.std(axis=0, ddof=1)) for part in rest]
        expected = fits[0].logpdf(oracles[model]) - fits[1].logpdf(oracles[model])
        np.testing.assert_allclose(found[1][model], expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 12)])
@pytest.mark.parametrize("variance", ["fixed", "per_example"])
def test_exact_unlearning_has_an_area_of_one_half(sizes, variance):
    found = u_lira(*_pair(*sizes, 4000, 0.0), variance=variance, resamples=20)
    assert abs(found.auc[0] - 0.5) < 0.02  # 4000 independent examples: under 4 errors of 0.5 / 63
    assert found.tpr_at_1_percent[0] < 0.02


def test_a_no_op_is_caught():
    found = u_lira(*_pair(24, 24, 500, 2.0), resamples=50)
    best = norm.cdf(np.sqrt(2))
    assert best - 0.03 < found.auc[0] < best + 0.01
    assert found.auc[1] > 0.85
    assert found.tpr_at_1_percent[0] > 0.2


def test_refusals():
    unlearned, oracles = _pair(3, 3, 4, 0.0)
    assert u_lira(unlearned, oracles, resamples=1).auc[0] >= 0
    for call in (u_lira, u_lira_scores):
        with pytest.raises(InputError, match=r"U-LiRA with 2 unlearned models. Allowed: 3 or more"):
            call(unlearned[1:], oracles)
        with pytest.raises(InputError, match="U-LiRA with 2 oracle models"):
            call(unlearned, oracles[1:])
        with pytest.raises(InputError, match="Margins of the unlearned of shape"):
            call(unlearned[:, 1:], oracles)
        with pytest.raises(InputError, match=r"oracle models .* 4 of them not finite"):
            call(unlearned, np.where([[True], [False], [False]], np.nan, oracles))
