"""scikit-learn's own estimator checks, all of them, for every kind and for the defaults."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from isthmus import Autoencoder
from isthmus.kinds import KINDS

TINY = [Autoencoder(n_components=1, kind=name, max_epochs=3) for name in KINDS]


@parametrize_with_checks([*TINY, Autoencoder()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
    assert estimator.get_params()


def test_every_kind_is_checked():
    assert {estimator.kind for estimator in TINY} == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_no_failure_is_expected(name):
    tags = Autoencoder(kind=name).__sklearn_tags__()
    assert not getattr(tags, "_xfail_checks", None)
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
