"""How fast are rows encoded and scored, beside ONNX Runtime and plain torch on the same weights?

    python benchmarks/coding.py [--rows 400000] [--repeats 3]

Two networks with random weights; the codes are the encoder's own. Each rival takes the batches
that suit it best: 256, 2048 or 16,384 rows. Without onnx and onnxruntime that rival is left out,
which is said.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import rivals
import speed
from common import machine, record, table
from isthmus import Autoencoder, kinds

NETWORKS = ("64-32", "784-1000-500-250-30")
BATCHES = (256, 2048, 16_384)
PAUSE_S = 0.3
Rows = NDArray[np.float32]


def fitted(size: rivals.Size, rows: Rows) -> Autoencoder:
    """A model after one epoch of a few rows: what is measured does not hang on its weights."""
    kind: Any = kinds.Vanilla()
    if size.hidden:
        kind = kinds.Multilayer(hidden=size.hidden, activation="relu", skip=False)
    return Autoencoder(
        size.code, kind=kind, pretraining="random", max_epochs=1, transform_max_iter=0
    ).fit(rows[:2000])


def layers_of(model: Autoencoder, half: str) -> list[tuple[Rows, Rows, bool]]:
    """Weights (I, O), offset and whether a ReLU follows, of the encoder or decoder; scaling in."""
    network = model.network_
    if network.encoder is None:
        path = network.linear
        pairs = {
            "encode": (path.encode_weight.T, path.encode_bias),
            "decode": (path.decode_weight, path.decode_bias),
        }
        found = [pairs[half]]
    else:
        stack = getattr(network, f"{half}r")
        found = [(one.weight.T, one.bias) for one in (stack.affine(i) for i in range(stack.depth))]
    last = len(found) - 1
    return [
        (w.detach().numpy().copy(), b.detach().numpy().copy(), at != last)
        for at, (w, b) in enumerate(found)
    ]


def by_torch(layers: list[tuple[Rows, Rows, bool]]) -> Callable[[Rows], Rows]:
    """A plain torch module."""
    parts: list[nn.Module] = []
    for weight, offset, bent in layers:
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(offset))
        parts += [layer, nn.ReLU()] if bent else [layer]
    network = nn.Sequential(*parts).eval()

    def run(rows: Rows) -> Rows:
        with torch.inference_mode():
            return network(torch.from_numpy(rows)).numpy()

    return run


def by_onnx(layers: list[tuple[Rows, Rows, bool]], threads: int) -> Callable[[Rows], Rows] | None:
    """ONNX Runtime on the same weights; None where it is not installed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    nodes, weights, name = [], [], "x"
    for at, (weight, offset, bent) in enumerate(layers):
        weights += [
            numpy_helper.from_array(np.ascontiguousarray(weight), f"w{at}"),
            numpy_helper.from_array(offset, f"b{at}"),
        ]
        nodes.append(helper.make_node("Gemm", [name, f"w{at}", f"b{at}"], [f"g{at}"]))
        name = f"g{at}"
        if bent:
            nodes.append(helper.make_node("Relu", [name], [f"r{at}"]))
            name = f"r{at}"
    ends = [
        helper.make_tensor_value_info(one, TensorProto.FLOAT, ["n", None]) for one in ("x", name)
    ]
    graph = helper.make_graph(nodes, "coder", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda rows: session.run(None, {"x": rows})[0]


def in_batches(run: Callable[[Rows], Rows], size: int) -> Callable[[Rows], Rows]:
    """Rows through `run`, some at a time."""
    return lambda rows: np.concatenate(
        [run(rows[at : at + size]) for at in range(0, len(rows), size)]
    )


def seconds_of(run: Callable[[Rows], Any], rows: Rows) -> float:
    """How long it takes, with no thread of whoever ran before still spinning."""
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    run(rows)
    return time.perf_counter() - began


def compared(name: str, count: int, repeats: int) -> list[dict[str, Any]]:
    """Encoding and scoring by each."""
    size = speed.SIZE_FACTORS[name]._replace(rows=count)
    rows = speed.rows_of(size)
    model, threads = fitted(size, rows), torch.get_num_threads()
    shift, scale = (
        np.asarray(part, np.float32)
        for part in (model.preparation_.shift, model.preparation_.scale)
    )
    halves = {half: layers_of(model, half) for half in ("encode", "decode")}
    makers = {"torch": by_torch, "onnxruntime": lambda layers: by_onnx(layers, threads)}
    results = []
    for task in ("encode", "score"):
        runs: dict[str, Callable[[Rows], Any]] = {
            "isthmus": model.transform if task == "encode" else model.score_samples
        }
        for rival, make in makers.items():
            encode, decode = make(halves["encode"]), make(halves["decode"])
            if encode is None or decode is None:
                print(f"{rival} is not installed")
                continue

            def one(
                given: Rows, encode: Any = encode, decode: Any = decode, task: str = task
            ) -> Rows:
                x = (given - shift) / scale
                code = encode(x)
                return code if task == "encode" else -((decode(code) - x) ** 2).mean(axis=1)

            fastest = min(BATCHES, key=lambda b: seconds_of(in_batches(one, b), rows[:50_000]))
            runs[f"{rival}, batches of {fastest}"] = in_batches(one, fastest)
        expected = next(run(rows[:100]) for rival, run in runs.items() if rival != "isthmus")
        if task == "encode":
            np.testing.assert_allclose(model.transform(rows[:100]), expected, rtol=1e-3, atol=1e-4)
        spent: dict[str, list[float]] = {rival: [] for rival in runs}
        for _ in range(repeats):
            for rival, run in runs.items():
                spent[rival].append(seconds_of(run, rows))
        ours = statistics.median(spent["isthmus"])
        results += [
            {
                "network": name,
                "task": task,
                "by": rival,
                "rows a second": round(count / statistics.median(each)),
                "of isthmus": round(ours / statistics.median(each), 2),
            }
            for rival, each in spent.items()
        ]
    return results


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-record", action="store_true")
    wanted = parser.parse_args()
    counts = dict(zip(NETWORKS, (wanted.rows, wanted.rows // 8), strict=True))
    results = [line for name in NETWORKS for line in compared(name, counts[name], wanted.repeats)]
    print(machine())
    if not wanted.no_record:
        record("coding", results)
    print(table(results))


if __name__ == "__main__":
    main()
