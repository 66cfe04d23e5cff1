"""scikit-learn's own checks of an outlier detector, all of them."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from isthmus import Autoencoder, OutlierDetector

TINY = Autoencoder(n_components=1, kind="vanilla", max_epochs=2)


@parametrize_with_checks([OutlierDetector(TINY), OutlierDetector(TINY, contamination=0.1)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
    assert estimator.get_params()


def test_no_failure_is_expected():
    tags = OutlierDetector().__sklearn_tags__()
    assert tags.estimator_type == "outlier_detector"
    assert not getattr(tags, "_xfail_checks", None)
    assert not tags.non_deterministic
    assert not tags._skip_test
