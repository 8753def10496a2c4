"""Runs ONNX files for tests/tests/onnx.rs: python run.py FOLDER

For every NAME.onnx in the folder with its NAME.json, a list of inputs by name: checks the file with onnx.checker (shape
inference included), that it uses standard operators only, and writes what ONNX Runtime makes of every input, all outputs
by name, to NAME.out.json; `unoptimised` is `next` without graph optimisations.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    assert [o.domain for o in model.opset_import] == [""], "operators that are not ONNX's"
    assert all(node.domain == "" for node in model.graph.node), "operators that are not ONNX's"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    unoptimised = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    outputs = []
    for run in json.loads(path.with_suffix(".json").read_text()):
        inputs = {
            i.name: np.array(run[i.name], TYPES[i.type]).reshape([d if isinstance(d, int) else -1 for d in i.shape])
            for i in session.get_inputs()
        }
        results = dict(zip(names, session.run(names, inputs)))
        (results["unoptimised"],) = unoptimised.run(["next"], inputs)
        shape = inputs["z"].shape
        assert all(results[n].shape == shape for n in ("next", "v")), "an output has another shape than the state"
        outputs.append({name: result.ravel().tolist() for name, result in results.items()})
    path.with_suffix(".out.json").write_text(json.dumps(outputs))
