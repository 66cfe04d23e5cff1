"""Save and load: the same codes back, no pickle, and a clear word about every damaged folder."""

import builtins
import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from isthmus import Autoencoder, corruptions, kinds, load, losses, optim
from isthmus.errors import ArtifactError, RequestError
from isthmus.kinds import KINDS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)).astype(np.float32)
IMAGES = RNG.integers(0, 256, size=(40, 7, 5), dtype=np.uint8)


@pytest.fixture
def saved(tmp_path):
    Autoencoder(2, kind="multilayer", max_epochs=1, random_state=0).fit(X).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rows", [X, IMAGES, pd.DataFrame(X, columns=list("abcdef"))], ids=["array", "images", "frame"]
)
def test_loaded_gives_the_same_codes_and_rows(tmp_path, kind, rows):
    model = Autoencoder(2, kind=kind, max_epochs=1, random_state=0).fit(rows)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(rows), model.transform(rows))
    np.testing.assert_array_equal(again.reconstruct(rows), model.reconstruct(rows))
    assert again.score(rows) == model.score(rows)
    assert again.history_ == model.history_
    assert type(again.reconstruct(rows)) is type(rows)


def test_every_setting_comes_back(tmp_path):
    model = Autoencoder(
        3,
        kind=kinds.Regularized(hidden=(4,), denoising=0.2),
        loss=losses.Huber(delta=0.5),
        penalties=(losses.L1(weight=0.1), "contraction"),
        corruption=corruptions.Gaussian(std=0.3),
        optimizer=optim.Nesterov(lr=0.01),
        max_epochs=1,
        validation_fraction=0.3,
        random_state=5,
    ).fit(X)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    ours, theirs = model.get_params(), again.get_params()
    assert {k: repr(v) for k, v in ours.items()} == {k: repr(v) for k, v in theirs.items()}
    np.testing.assert_array_equal(again.fit(X).transform(X), model.transform(X))


def test_the_folder_holds_what_it_says(saved):
    assert sorted(p.name for p in saved.iterdir()) == [
        "history.jsonl",
        "model.json",
        "weights.safetensors",
    ]
    model = json.loads((saved / "model.json").read_text())
    assert model["format"] == 2
    assert {"isthmus", "python", "torch", "numpy"} <= model["versions"].keys()
    assert model["kind"]["type"] == "Multilayer"
    assert model["preparation"]["schema"]["dtypes"] == ["float32"]
    assert [
        json.loads(line)["epoch"] for line in (saved / "history.jsonl").read_text().splitlines()
    ][:2] == [0, 1]


def test_no_pickle_is_written_or_read(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle was used")

    model = Autoencoder(2, max_epochs=1, random_state=0).fit(X)
    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").transform(X).shape == (80, 2)


def test_loads_in_another_process_and_in_single_thread(saved, tmp_path):
    expected = load(saved).transform(X)
    np.save(tmp_path / "x.npy", X)
    code = (
        "import sys, numpy as np, isthmus; np.save(sys.argv[3], "
        "isthmus.load(sys.argv[1], device='cpu').transform(np.load(sys.argv[2])))"
    )
    paths = [str(p) for p in (saved, tmp_path / "x.npy", tmp_path / "h.npy")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "h.npy"), expected, rtol=1e-5, atol=1e-6)


def test_saving_over_a_model_replaces_it_whole(saved):
    (saved / "report.html").write_text("old")
    Autoencoder(3, max_epochs=1, random_state=0).fit(X).save(saved)
    assert load(saved).n_components_ == 3
    assert not (saved / "report.html").exists()
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_saving_never_replaces_what_is_not_a_model(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all of it")
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(X)
    with pytest.raises(RequestError, match="not a model folder"):
        model.save(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "all of it"


def test_a_failed_save_leaves_the_old_model(saved, monkeypatch):
    before = load(saved).transform(X)
    model = Autoencoder(3, max_epochs=1, random_state=0).fit(X)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        model.save(saved)
    np.testing.assert_array_equal(load(saved).transform(X), before)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def edit(saved, **changes):
    path = saved / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(("number", "remedy"), [(1, "fit and save"), (3, "upgrade")])
def test_another_format_names_the_version_that_wrote_it(saved, number, remedy):
    edit(saved, format=number, versions={"isthmus": "9.9"})
    found = rf"format {number} was written by isthmus 9\.9, .* reads format 2; {remedy}"
    with pytest.raises(ArtifactError, match=found):
        load(saved)


DAMAGE = {
    "weights cut": lambda m: (m / "weights.safetensors").write_bytes(
        (m / "weights.safetensors").read_bytes()[:-50]
    ),
    "weights gone": lambda m: (m / "weights.safetensors").unlink(),
    "weights foreign": lambda m: (m / "weights.safetensors").write_bytes(b"not tensors at all"),
    "json cut": lambda m: (m / "model.json").write_text((m / "model.json").read_text()[:200]),
    "json empty": lambda m: (m / "model.json").write_text("{}"),
    "json a list": lambda m: (m / "model.json").write_text("[1, 2]"),
    "history cut": lambda m: (m / "history.jsonl").write_text('{"epoch": 0, "tr'),
    "settings gone": lambda m: edit(m, settings={"n_units": 3}),
    "kind unknown": lambda m: edit(m, kind={"type": "Transformer"}),
    "kind other": lambda m: edit(m, kind={"type": "Multilayer", "hidden": [3]}),
    "kind no object": lambda m: edit(m, kind="multilayer"),
    "facts gone": lambda m: edit(m, facts={}),
    "width other": lambda m: edit(m, facts={"n_components": 5, "best_epoch": 0}),
    "schema gone": lambda m: edit(m, preparation={}),
    "loss unknown": lambda m: edit(m, loss={"type": "Luck"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_in_one_line(saved, damage):
    DAMAGE[damage](saved)
    with pytest.raises(ArtifactError) as caught:
        load(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value) or "not part of this isthmus" in str(caught.value)


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_folder_that_is_no_model(tmp_path, name):
    with pytest.raises(ArtifactError, match=r"model\.json|does not exist"):
        load(tmp_path / name)


def test_a_class_of_ones_own_is_handed_to_load(tmp_path):
    model = Autoencoder(2, kind=Own(), max_epochs=1, random_state=0).fit(X)
    model.save(tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"specs=\[Own\]"):
        load(tmp_path / "model")
    again = load(tmp_path / "model", specs=[Own])
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


class Own(kinds.Vanilla):
    """A kind that the package does not know."""


def test_loading_runs_no_code_of_the_folder(saved, monkeypatch):
    edit(saved, kind={"type": "__import__('os').system('true')"})

    def refuse(*args, **kwargs):
        raise AssertionError("code was run")

    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, refuse)
    with pytest.raises(ArtifactError):
        load(saved)


def test_loads_onto_the_device_asked_for(saved):
    model = load(saved, device="cpu")
    assert next(model.network_.parameters()).device == torch.device("cpu")
    with pytest.raises(RequestError, match="abacus"):  # the model is not at fault
        load(saved, device="abacus")


def rewritten(saved, change, *, honest):
    """The model with its tensors changed, and model.json told of it or not."""
    path = saved / "weights.safetensors"
    save_file({name: change(tensor) for name, tensor in load_file(path).items()}, path)
    if honest:
        described = json.loads((saved / "model.json").read_text())
        del described["weights_blake2b"]
        (saved / "model.json").write_text(json.dumps(described))
    return saved


def test_weights_of_another_model_are_refused(saved):
    with pytest.raises(ArtifactError, match=r"weights.*is not the file that model\.json"):
        load(rewritten(saved, lambda w: w + 1, honest=False))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: w * torch.nan, "NaN or infinity"),
        (lambda w: w.int() if w.ndim > 1 else w, "is torch.int32"),
        (lambda w: w.half(), "the mean is torch.float16"),
    ],
)
def test_weights_that_cannot_be_are_refused(saved, change, match):
    with pytest.raises(ArtifactError, match=match):
        load(rewritten(saved, change, honest=True))


@pytest.mark.parametrize("stranger", ["notes.txt", "kept/codes.csv"])
def test_a_model_folder_with_other_files_is_not_replaced(saved, stranger):
    path = saved / stranger
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    model = load(saved)
    with pytest.raises(RequestError, match=f"holds {stranger.split('/')[0]}"):
        model.save(saved)
    assert path.read_text() == "precious"


def test_another_tools_model_folder_is_not_replaced(saved, tmp_path):
    other = tmp_path / "tfjs"
    other.mkdir()
    (other / "model.json").write_text('{"modelTopology": {}}')
    with pytest.raises(RequestError, match="is not a model folder"):
        load(saved).save(other)
    assert json.loads((other / "model.json").read_text()) == {"modelTopology": {}}


def test_a_loaded_model_can_be_trained_on(saved):
    model = load(saved)
    before = model.transform(X)
    model.partial_fit(X)
    assert (model.transform(X) != before).any()


@pytest.mark.parametrize(
    ("steps", "metric", "match"),
    [
        (-4, None, "transform_max_iter is -4"),
        ("many", None, "transform_max_iter is 'many'"),
        (4, "gone", "there is no metric to refine by"),
        (4, torch.ones(5, 5), "the metric has shape"),
        (4, torch.ones(2), "the metric has shape"),
    ],
)
def test_refining_that_does_not_fit_is_refused(saved, steps, metric, match):
    path, described = saved / "weights.safetensors", json.loads((saved / "model.json").read_text())
    tensors = load_file(path)
    if isinstance(metric, torch.Tensor):
        tensors["metric"] = metric.to(tensors["mean"].dtype)
    elif metric == "gone":
        del tensors["metric"]
    save_file(tensors, path)
    del described["weights_blake2b"]
    described["facts"]["transform_max_iter"] = steps
    (saved / "model.json").write_text(json.dumps(described))
    with pytest.raises(ArtifactError, match=match):
        load(saved)


def test_a_model_from_before_codes_were_refined_is_read(saved):
    path, described = saved / "weights.safetensors", json.loads((saved / "model.json").read_text())
    tensors = load_file(path)
    del tensors["metric"]
    save_file(tensors, path)
    for place, name in (("facts", "transform_max_iter"), ("settings", "transform_max_iter")):
        del described[place][name]
    del described["weights_blake2b"]
    (saved / "model.json").write_text(json.dumps(described))
    model = load(saved)
    assert model.facts_["transform_max_iter"] == 0
    assert np.isfinite(model.transform(X)).all()
