"""How fast are rows encoded and scored, compared with ONNX Runtime and PyTorch on the same weights?

    python benchmarks/coding.py [--rows 400000] [--repeats 3] [--no-record]

Two networks with random weights; codes are not refined. Each rival uses its fastest batch size of
256, 2048 and 16,384 rows. Without onnx and onnxruntime, that rival is reported and skipped.
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
    """A model after one epoch on few rows: the speed does not depend on its weights."""
    kind: Any = kinds.Vanilla()
    if size.hidden:
        kind = kinds.Multilayer(hidden=size.hidden, activation="relu", skip=False)
    return Autoencoder(
        size.code, kind=kind, pretraining="random", max_epochs=1, transform_max_iter=0
    ).fit(rows[:2000])


def layers_of(model: Autoencoder, half: str) -> list[tuple[Rows, Rows, bool]]:
    """Weight (I, O), bias (O,) and whether a ReLU follows, for each layer of `half`."""
    network = model.network_
    if network.encoder is None:
        path = network.linear
        pairs = {
            "encode": (path.encode_weight.T, path.encode_bias),
            "decode": (path.decode_weight, path.decode_bias),
        }
        affine = [pairs[half]]
    else:
        stack = getattr(network, f"{half}r")
        affine = [
            (layer.weight.T, layer.bias) for layer in (stack.affine(i) for i in range(stack.depth))
        ]
    last = len(affine) - 1
    return [
        (w.detach().numpy().copy(), b.detach().numpy().copy(), index != last)
        for index, (w, b) in enumerate(affine)
    ]


def by_torch(layers: list[tuple[Rows, Rows, bool]]) -> Callable[[Rows], Rows]:
    """The layers as a plain PyTorch module."""
    parts: list[nn.Module] = []
    for weight, bias, has_relu in layers:
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
        parts += [layer, nn.ReLU()] if has_relu else [layer]
    network = nn.Sequential(*parts).eval()

    def run(rows: Rows) -> Rows:
        with torch.inference_mode():
            return network(torch.from_numpy(rows)).numpy()

    return run


def by_onnx(layers: list[tuple[Rows, Rows, bool]], threads: int) -> Callable[[Rows], Rows] | None:
    """The layers in ONNX Runtime; None if it is not installed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    nodes, weights, name = [], [], "x"
    for layer, (weight, bias, has_relu) in enumerate(layers):
        weights += [
            numpy_helper.from_array(np.ascontiguousarray(weight), f"w{layer}"),
            numpy_helper.from_array(bias, f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [f"g{layer}"]))
        name = f"g{layer}"
        if has_relu:
            nodes.append(helper.make_node("Relu", [name], [f"r{layer}"]))
            name = f"r{layer}"
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", None]) for end in ("x", name)
    ]
    graph = helper.make_graph(nodes, "coder", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda rows: session.run(None, {"x": rows})[0]


def in_batches(run: Callable[[Rows], Rows], size: int) -> Callable[[Rows], Rows]:
    """A function that applies `run` to batches of `size` rows."""
    return lambda rows: np.concatenate(
        [run(rows[start : start + size]) for start in range(0, len(rows), size)]
    )


def seconds_of(run: Callable[[Rows], Any], rows: Rows) -> float:
    """The seconds of `run`, after a pause in which threads of earlier runs come to rest."""
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    run(rows)
    return time.perf_counter() - began


def compared(name: str, count: int, repeats: int) -> list[dict[str, Any]]:
    """The table rows of one network: encoding and scoring by each library."""
    size = speed.SIZES[name]._replace(rows=count)
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

            def code_or_score(
                rows: Rows, encode: Any = encode, decode: Any = decode, task: str = task
            ) -> Rows:
                x = (rows - shift) / scale
                code = encode(x)
                return code if task == "encode" else -((decode(code) - x) ** 2).mean(axis=1)

            fastest = min(
                BATCHES, key=lambda b: seconds_of(in_batches(code_or_score, b), rows[:50_000])
            )
            runs[f"{rival}, batches of {fastest}"] = in_batches(code_or_score, fastest)
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
                "library": rival,
                "rows per second": round(count / statistics.median(each)),
                "relative to isthmus": round(ours / statistics.median(each), 2),
            }
            for rival, each in spent.items()
        ]
    return results


def main() -> None:
    """Measure, print the table and record the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    counts = dict(zip(NETWORKS, (options.rows, options.rows // 8), strict=True))
    results = [line for name in NETWORKS for line in compared(name, counts[name], options.repeats)]
    print(machine())
    if not options.no_record:
        record("coding", results)
    print(table(results))


if __name__ == "__main__":
    main()
