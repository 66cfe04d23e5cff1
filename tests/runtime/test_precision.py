"""The measured choice between bfloat16 and single precision."""

import json

import pytest
import torch

from isthmus.errors import RequestError
from isthmus.kinds import Multilayer
from isthmus.runtime import precision
from isthmus.runtime.precision import Probe, precision_from_environment, probe_bf16
from isthmus.types import Facts

PRECISIONS = ("auto", "float64", "float32", "bf16")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "_IN_MEMORY", {})
    return tmp_path / "isthmus"


def network(width=40):
    torch.manual_seed(0)
    return Multilayer(hidden=(32,)).build(Facts(shape=(width,)), 3)


def test_the_faster_precision_is_chosen_with_a_margin():
    assert Probe(float32=2.0, bf16=1.0).is_faster
    assert not Probe(float32=1.0, bf16=2.0).is_faster
    assert not Probe(float32=1.05, bf16=1.0).is_faster
    assert Probe(float32=3.0, bf16=2.0).speedup == 1.5


def test_a_probe_changes_neither_the_network_nor_the_random_state(cache):
    net, state = network(), torch.get_rng_state()
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    probe = probe_bf16(net, (40,), 64)
    assert probe.float32 > 0
    assert probe.bf16 > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_it_is_measured_once_and_kept(cache, monkeypatch):
    probe = probe_bf16(network(), (40,), 64)
    (path,) = cache.glob("precision-*.json")
    assert json.loads(path.read_text()) == probe._asdict()
    monkeypatch.setattr(precision, "_measure", lambda *_: pytest.fail("it was measured again"))
    assert probe_bf16(network(), (40,), 64) == probe
    monkeypatch.setattr(precision, "_IN_MEMORY", {})  # as in another process
    assert probe_bf16(network(), (40,), 64) == probe


@pytest.mark.parametrize("change", ["width", "batch", "threads", "torch", "processor"])
def test_anything_that_changes_the_result_is_measured_again(cache, monkeypatch, change):
    probe_bf16(network(), (40,), 64)
    width, batch = 40, 64
    if change == "width":
        width = 41
    elif change == "batch":
        batch = 65
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    else:
        monkeypatch.setattr(precision, "processor_name", lambda: "another")
    probe_bf16(network(width), (width,), batch)
    assert len(list(cache.glob("precision-*.json"))) == 2


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"float32": "x", "bf16": 1}', '{"float32": 0, "bf16": 1}']
)
def test_a_damaged_answer_is_measured_again(cache, monkeypatch, text):
    probe_bf16(network(), (40,), 64)
    (path,) = cache.glob("precision-*.json")
    path.write_text(text)
    monkeypatch.setattr(precision, "_IN_MEMORY", {})
    assert probe_bf16(network(), (40,), 64).float32 > 0
    assert json.loads(path.read_text())["float32"] > 0


def test_a_folder_that_cannot_be_written_costs_only_time(cache, monkeypatch):
    cache.parent.joinpath("isthmus").write_text("a file")
    assert probe_bf16(network(), (40,), 64).bf16 > 0


def test_the_environment_decides_before_any_measurement(monkeypatch):
    monkeypatch.delenv("ISTHMUS_PRECISION", raising=False)
    assert precision_from_environment(PRECISIONS) is None
    monkeypatch.setenv("ISTHMUS_PRECISION", "auto")
    assert precision_from_environment(PRECISIONS) is None
    monkeypatch.setenv("ISTHMUS_PRECISION", "float32")
    assert precision_from_environment(PRECISIONS) == "float32"
    monkeypatch.setenv("ISTHMUS_PRECISION", "half")
    with pytest.raises(RequestError, match="ISTHMUS_PRECISION='half' is not known"):
        precision_from_environment(PRECISIONS)
