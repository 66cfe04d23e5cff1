"""Tables of counts through the whole estimator: likelihood, size factors, sparse rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.optimize import minimize
from sklearn.base import clone

from isthmus import Autoencoder, load
from isthmus.counts import LogCounts
from isthmus.data import open_source
from isthmus.errors import DataError, RequestError
from isthmus.kinds import Multilayer
from isthmus.losses import Mixed, Squared
from isthmus.training import checkpoint

N, D = 500, 60


def drawn(n=N, seed=0, size=3.0):
    """(n, D) counts of two hidden numbers, in rows of unlike depth, and their rates at depth 1."""
    rng = np.random.default_rng(seed)
    own = np.random.default_rng(7)
    weight, offset = 0.6 * own.normal(size=(2, D)), own.normal(size=D) + 0.5
    rate = np.exp(rng.normal(size=(n, 2)) @ weight + offset)
    mean = np.exp(0.7 * rng.normal(size=(n, 1))) * rate
    return rng.negative_binomial(size, size / (size + mean)), rate, mean


@pytest.fixture(scope="module")
def fitted():
    X = sparse.csr_array(drawn()[0].astype(float))
    return Autoencoder(2, max_epochs=15, random_state=0).fit(open_source(X, roles="count"))


def log_error(found, mean):
    return float(np.mean((np.log(np.maximum(found, 1e-3)) - np.log(mean)) ** 2))


def test_declared_counts_are_judged_by_their_likelihood(fitted):
    assert isinstance(fitted.loss_, Mixed)
    assert fitted.loss_.facts.counts is not None
    assert fitted.preparation_.scaling == "size_factors"
    assert fitted.best_epoch_ > 0
    few = Autoencoder(1, max_epochs=3, random_state=0).fit(
        open_source(drawn()[0][:, :4], roles="count")
    )
    assert isinstance(few.loss_, Mixed)
    assert few.preparation_.scaling == "standard"


def test_rates_are_nearer_the_truth_than_those_of_squared_error(fitted):
    X, _, mean = drawn(seed=1)
    ours = fitted.reconstruct(sparse.csr_array(X.astype(float))).toarray()
    learned = drawn()[0].astype(float)
    squared = Autoencoder(2, max_epochs=15, loss="squared", preparation="standard", random_state=0)
    theirs = squared.fit(learned).reconstruct(X.astype(float))
    nothing = X.sum(axis=1, keepdims=True) / learned.sum(axis=1).mean() * learned.mean(axis=0)
    assert (ours > 0).all()
    assert log_error(ours, mean) < 0.5 * log_error(nothing, mean) < 0.5 * log_error(theirs, mean)


def test_depth_is_no_part_of_the_code(fitted):
    _, rate, _ = drawn(n=200, seed=2)
    rows = np.round(400 * rate)
    codes = fitted.transform(rows)
    deeper = fitted.transform(3 * rows)
    spread = fitted.transform(drawn()[0].astype(float)).std(axis=0)
    assert (np.abs(deeper - codes).mean(axis=0) < 0.15 * spread).all()
    ratio = fitted.reconstruct(3 * rows).toarray() / fitted.reconstruct(rows).toarray()
    assert np.median(ratio) == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize("counts", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_refined_codes_hold_no_depth_either(counts, precision):
    X = drawn()[0].astype(float)
    settings = {"max_epochs": 10, "transform_max_iter": 20, "random_state": 0}
    ae = Autoencoder(2, loss=Mixed(counts=counts), precision=precision, **settings)
    ae.fit(open_source(X, roles="count"))
    later = drawn(seed=1)[0][:200].astype(float)
    codes = ae.transform(later)
    assert np.abs(codes - ae.set_params(transform_max_iter=0).transform(later)).mean() > 0.01
    ae.set_params(transform_max_iter=20)
    exact = 1e-4 if precision == "float64" else 0.02
    for depth in (10.0, 1e6, 1e12, 1e30):
        assert np.abs(ae.transform(depth * later) - codes).max() < exact * codes.std()
        rates = ae.reconstruct(depth * later)
        np.testing.assert_allclose(rates, depth * ae.reconstruct(later), rtol=20 * exact)


def test_refining_nears_the_code_of_most_likelihood_whatever_the_depth(fitted):
    """The best code of a deep row, by SciPy's own minimiser of Poisson's deviance."""
    later = np.maximum(30 * drawn(seed=1)[0][:5], 0).astype(float)
    free = clone(fitted).set_params(transform_max_iter=60, max_epochs=10, precision="float64")
    free.fit(open_source(drawn()[0].astype(float), roles="count"))
    sizes = free.preparation_.size_factors(later)

    def lost(code, row):
        with torch.no_grad():
            log_rate = free.network_.decode(torch.as_tensor(code)[None])[0].numpy()
        weight = 1 / free.preparation_.counts.poisson_cost
        return weight @ (np.exp(log_rate) - row * log_rate)

    for code, row in zip(free.transform(later), later / sizes[:, None], strict=True):
        best = minimize(lost, code.astype(float), args=(row,), method="Nelder-Mead").fun
        assert lost(code.astype(float), row) - best < 1e-3 * abs(best)


@pytest.mark.parametrize(("precision", "depth"), [("float32", 1e37), ("float64", 1e200)])
def test_depths_that_no_number_holds_are_refused(precision, depth):
    X = drawn(seed=1)[0][:60].astype(float)
    ae = Autoencoder(2, max_epochs=1, precision=precision, random_state=0)
    ae.fit(open_source(X, roles="count"))
    deep = X.copy()
    deep[3] *= depth
    for method in (ae.transform, ae.reconstruct):
        with pytest.raises(DataError, match=r"row 3.*too far from the rows"):
            method(deep)
    rates = ae.inverse_transform(ae.transform(X), sizes=[1e300] * 60)
    flat = ae.inverse_transform(ae.transform(X), sizes=[1.0] * 60)
    np.testing.assert_allclose(rates, 1e300 * flat, rtol=1e-6)


def test_rows_that_were_all_counted_very_deep():
    X = drawn()[0].astype(float)
    rates = [
        Autoencoder(2, max_epochs=5, random_state=0)
        .fit(open_source(depth * X, roles="count"))
        .reconstruct(depth * X)
        / depth
        for depth in (1e4, 1e16)
    ]
    explained = [1 - np.sum((r - X) ** 2) / np.sum((X - X.mean(axis=0)) ** 2) for r in rates]
    assert explained[1] > explained[0] - 0.1 > 0


def test_codes_give_rates_at_the_mean_depth_or_at_that_of_sizes(fitted):
    X = drawn(seed=1)[0].astype(float)
    codes, sizes = fitted.transform(X), fitted.preparation_.size_factors(X)
    plain = fitted.inverse_transform(codes).toarray()
    back = fitted.reconstruct(X).toarray()
    np.testing.assert_allclose(plain * sizes[:, None], back, rtol=1e-5)
    sized = fitted.inverse_transform(codes, sizes=sizes).toarray()
    np.testing.assert_allclose(sized, back, rtol=2e-6)  # sizes are summed in single precision


@pytest.mark.parametrize("sizes", [[1.0], [0.0] * 5, [np.nan] * 5, "a", ["a"] * 5, [[1.0], [2, 3]]])
def test_odd_sizes_are_refused(fitted, sizes):
    with pytest.raises(DataError, match="5 codes need as many finite numbers above 0"):
        fitted.inverse_transform(np.zeros((5, 2)), sizes=sizes)


def test_sizes_are_refused_where_there_are_none():
    ae = Autoencoder(1, max_epochs=1, random_state=0).fit(np.random.default_rng(0).random((50, 3)))
    with pytest.raises(RequestError, match="have no size factors"):
        ae.inverse_transform(np.zeros((2, 1)), sizes=[1, 2])


def test_dense_and_sparse_rows_and_frames_give_the_same(fitted):
    X = drawn(seed=1)[0].astype(float)
    codes = fitted.transform(X)
    for rows in (sparse.csr_matrix(X), sparse.csc_array(X), pd.DataFrame(X)):
        np.testing.assert_allclose(fitted.transform(rows), codes, atol=1e-6)
    dense = Autoencoder(2, max_epochs=15, random_state=0)
    dense.fit(open_source(drawn()[0].astype(float), roles="count"))
    np.testing.assert_allclose(dense.transform(X), codes, atol=1e-4)


def test_saved_and_loaded_it_does_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "m")
    again = load(tmp_path / "m")
    X = sparse.csr_array(drawn(seed=1)[0].astype(float))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(again.reconstruct(X).toarray(), fitted.reconstruct(X).toarray())
    assert again.evaluate(X).total == fitted.evaluate(X).total


def test_later_rows_that_are_no_counts_are_refused(fitted):
    wrong = drawn(n=5)[0].astype(float)
    wrong[3, 2] = 1.5
    for rows in (wrong, sparse.csr_array(wrong)):
        with pytest.raises(DataError, match=r"'2' was declared count, and 1\.5 at row 3"):
            fitted.transform(rows)


def test_errors_are_those_of_the_counts_in_standard_deviations(fitted):
    X = drawn(seed=1)[0].astype(float)
    std = drawn()[0][fitted.train_rows_].std(axis=0)
    expected = ((X - fitted.reconstruct(X).toarray()) / std) ** 2
    found = fitted.reconstruction_error(X, by="value")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-8)


def test_size_factors_can_be_left_out_and_counts_taken_for_numbers():
    source = open_source(drawn()[0], roles="count")
    plain = Autoencoder(2, max_epochs=2, preparation="standard", random_state=0).fit(source)
    assert plain.preparation_.scaling == "standard"
    assert plain.loss_.size_factors(plain.network_.linear.encode_weight) is None
    squared = Autoencoder(2, max_epochs=2, loss="squared", random_state=0).fit(source)
    assert squared.preparation_.counts is None
    assert isinstance(squared.loss_, Squared)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_gaps_in_counts(likelihood):
    X = drawn()[0].astype(float)
    is_missing = np.random.default_rng(3).random(X.shape) < 0.1
    holed = np.where(is_missing, np.nan, X)
    ae = Autoencoder(2, loss=Mixed(counts=likelihood), max_epochs=15, random_state=0)
    ae.fit(open_source(holed, roles="count"))
    filled = ae.impute(holed)
    np.testing.assert_array_equal(filled[~is_missing], X[~is_missing])
    size = X.sum(axis=1, keepdims=True) / X.sum(axis=1).mean()
    guess = np.broadcast_to(X.mean(axis=0), X.shape)
    ours = np.abs(np.sqrt(filled) - np.sqrt(X))[is_missing].mean()
    theirs = np.abs(np.sqrt(guess) - np.sqrt(X))[is_missing].mean()
    assert ours < 0.9 * theirs
    assert np.corrcoef(ae.preparation_.size_factors(holed), size[:, 0])[0, 1] > 0.95


def interrupted(record):
    if record["epoch"] == 2:
        raise KeyboardInterrupt


def test_a_resumed_fit_ends_at_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    source = open_source(sparse.csr_array(drawn()[0]), roles="count")
    whole = Autoencoder(2, max_epochs=4, random_state=0).fit(source)
    resumed = Autoencoder(2, max_epochs=4, random_state=0, checkpoint=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        clone(resumed).set_params(callbacks=(interrupted,)).fit(source)
    resumed.fit(source, resume=True)
    assert len([r for r in resumed.history_ if "train" in r]) == 5
    rows = sparse.csr_array(drawn(seed=1)[0])
    np.testing.assert_array_equal(resumed.transform(rows), whole.transform(rows))


@pytest.mark.parametrize("start", ["autoencoder", "rbm", "lsuv", "random"])
@pytest.mark.parametrize("all_counts", [True, False])
def test_every_start_can_begin_with_counts(start, all_counts):
    X = drawn(n=150)[0][:, :51]
    roles = {"*": "count"} if all_counts else {"*": "count", "4": "numeric"}
    kind = Multilayer(activation="sigmoid") if start == "rbm" else "auto"
    ae = Autoencoder(2, kind=kind, pretraining=start, max_epochs=3, random_state=0)
    ae.fit(open_source(X, roles=roles))
    assert ae.preparation_.scaling == ("size_factors" if all_counts else "standard")
    losses = [r["train"]["reconstruction"] for r in ae.history_ if "train" in r]
    assert losses[-1] < losses[0]
    assert losses[-1] < 1.3 or start != "autoencoder"


def test_what_is_seen_is_the_logarithm_at_depth_one_and_comes_back(fitted):
    x = fitted.preparation_.encode(drawn(n=20)[0].astype(float), torch.float64)
    seen = LogCounts(fitted.preparation_.facts)
    X, facts = drawn(n=20)[0], fitted.preparation_.counts
    u = X / fitted.preparation_.size_factors(X)[:, None]
    expected = (np.log1p(u) - facts.log_mean) / facts.log_scale
    np.testing.assert_allclose(seen(x, None).numpy(), expected, atol=1e-9)
    back = seen.inverse(seen(x, None)) * torch.as_tensor(fitted.preparation_.scale)
    np.testing.assert_allclose(back.numpy(), u, atol=1e-9)


def test_it_goes_on_learning_from_pieces():
    pieces = (open_source(drawn(n=200, seed=seed)[0], roles="count") for seed in range(3))
    ae = Autoencoder(2, random_state=0).partial_fit(pieces)
    assert np.isfinite(ae.score(drawn(seed=9)[0]))
