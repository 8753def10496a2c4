#!/usr/bin/env python3
"""Times one evaluation of a shipped student: fewstep against other engines, one thread, batch 1 and 8.

    python3 -m venv VENV && VENV/bin/pip install -r benches/peers/requirements.txt
    cargo build --release
    VENV/bin/python benches/peers/run.py --fewstep target/release/fewstep

Every engine runs the same network (the first step of the student) from the same file or checkpoint: its answer is
compared with ONNX Runtime's in f32 first, and an engine that cannot run it is listed with the reason. Every engine has a
process of its own; they take turns in every round; the figure is the median processor time of an evaluation, which
waiting for a processor on a busy machine does not enter. Engines get what their manuals recommend for one thread: graph
optimisations, weights packed ahead, fixed shapes, bf16 where the CPU has it, outputs bound ahead.
"""

import argparse
import datetime
import json
import logging
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
BATCHES = (1, 8)
STEPS = 4
CALIBRATION = 64


class Inputs:
    """Noise, classes and strengths of a batch: what the first step sees."""

    def __init__(self, batch, shape, classes, seed):
        random = np.random.default_rng(seed)
        self.z = random.standard_normal((batch, *shape), dtype=np.float32)
        self.label = random.integers(0, classes, batch)
        self.w = random.uniform(0, 4, batch).astype(np.float32)

    def named(self):
        return {"z": self.z, "class": self.label.astype(np.int64), "w": self.w}


class Files:
    """The student as ONNX, by this project's exporter and by the peers' own quantizers."""

    def __init__(self, args, folder):
        self.student, self.checkpoint, self.folder = args.student, args.checkpoint, folder
        self.program = args.fewstep
        self.float = self.export(args.checkpoint, "float")
        self.qdq = self.export(args.student, "qdq")
        self.inspect = json.loads(self.fewstep("inspect", args.student, "--json"))

    def fewstep(self, *words):
        return subprocess.run([self.program, *map(str, words)], check=True, capture_output=True, text=True).stdout

    def export(self, file, form):
        path = self.folder / f"{form}.onnx"
        self.fewstep("export", file, "--onnx", form, "--step", 0, "--out", path)
        return path

    def shape(self):
        height, width, channels = self.inspect["shape"]
        return channels, height, width

    def fixed(self, path, batch):
        """The file with N = batch, and shapes inferred."""
        import onnx

        model = onnx.load(path)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        out = self.folder / f"{path.stem}-{batch}.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), out)
        return out

    def quantized(self, batch, **options):
        """The float network in int8 by ONNX Runtime's static quantizer, calibrated on the first step."""
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

        files = self

        class Reader(CalibrationDataReader):
            def __init__(self):
                self.left = iter(range(CALIBRATION // batch))

            def get_next(self):
                i = next(self.left, None)
                return None if i is None else files.inputs(batch, 1000 + i).named()

        name = "-".join(str(v).split(".")[-1] for v in options.values()).replace("[", "").replace("]", "")
        out = self.folder / f"quantized-{batch}-{abs(hash(name))}.onnx"
        quantize_static(
            self.fixed(self.float, batch), out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **options
        )
        return out

    def inputs(self, batch, seed=7):
        return Inputs(batch, self.shape(), self.inspect["classes"], seed)


# ---- engines: each takes (files, batch) and returns a function without arguments that gives the output ---------------


def onnxruntime_session(path, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    held = {k: onnxruntime.OrtValue.ortvalue_from_numpy(v) for k, v in inputs.named().items()}
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    out = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(inputs.z))
    binding.bind_ortvalue_output("next", out)

    def run():
        session.run_with_iobinding(binding)
        return out

    return run, lambda out: out.numpy()


def ort_f32(files, batch):
    return onnxruntime_session(files.fixed(files.float, batch), files.inputs(batch))


def ort_qdq(files, batch):
    return onnxruntime_session(files.fixed(files.qdq, batch), files.inputs(batch))


def ort_int8(activations, weights, only_conv):
    def engine(files, batch):
        from onnxruntime.quantization import QuantType

        options = dict(activation_type=QuantType[activations], weight_type=QuantType[weights])
        if only_conv:
            options["op_types_to_quantize"] = ["Conv"]
        return onnxruntime_session(files.quantized(batch, **options), files.inputs(batch))

    return engine


def openvino_request(path, inputs, precision):
    import openvino

    core = openvino.Core()
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(core.read_model(path), "CPU", config)
    request = compiled.create_infer_request()
    for name, value in inputs.named().items():
        request.set_tensor(name, openvino.Tensor(value))

    def run():
        request.infer()
        return request

    return run, lambda request: request.get_tensor("next").data.copy()


def openvino_float(precision):
    return lambda files, batch: openvino_request(files.fixed(files.float, batch), files.inputs(batch), precision)


def openvino_qdq(precision):
    return lambda files, batch: openvino_request(files.fixed(files.qdq, batch), files.inputs(batch), precision)


def openvino_int8(precision):
    def engine(files, batch):
        from onnxruntime.quantization import QuantType

        # u8 activations with s8 weights and only convolutions: the pattern that its int8 kernels are made for.
        path = files.quantized(
            batch,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
        )
        return openvino_request(path, files.inputs(batch), precision)

    return engine


def torch_module(files, batch, dtype):
    import torch

    from network import Student

    torch.set_num_threads(1)
    student = Student(files.checkpoint, 0, STEPS).eval().to(memory_format=torch.channels_last)
    inputs = files.inputs(batch)
    z, label, w = torch.from_numpy(inputs.z), torch.from_numpy(inputs.label), torch.from_numpy(inputs.w)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16", cache_enabled=False)
    if dtype == "bf16":
        student = student.to(torch.bfloat16)
        autocast = torch.autocast("cpu", enabled=False)
    return torch, student, (z, label, w), autocast


def torch_eager(dtype):
    def engine(files, batch):
        torch, student, inputs, autocast = torch_module(files, batch, dtype)

        def run():
            with torch.inference_mode(), autocast:
                return student(*inputs)

        return run, lambda out: out.numpy()

    return engine


def torch_compiled(dtype):
    def engine(files, batch):
        torch, student, inputs, autocast = torch_module(files, batch, dtype)
        import torch._inductor.config as config

        config.freezing = True
        config.cpp.threads = 1
        with torch.no_grad(), autocast:
            compiled = torch.compile(student, dynamic=False)
            compiled(*inputs)

        def run():
            with torch.no_grad(), autocast:
                return compiled(*inputs)

        return run, lambda out: out.numpy()

    return engine


def ncnn(bf16):
    def engine(files, batch):
        import ncnn

        torch, student, _, _ = torch_module(files, batch, "f32")
        inputs = files.inputs(batch)
        one = torch.from_numpy(inputs.z[:1]), torch.from_numpy(inputs.label[:1]), torch.from_numpy(inputs.w[:1])
        traced = files.folder / "student.pt"
        with torch.no_grad():
            torch.jit.trace(student.to(memory_format=torch.contiguous_format), one).save(str(traced))
        shapes = "inputshape=[1,{},{},{}],[1]i64,[1]f32".format(*files.shape())
        pnnx = pathlib.Path(sys.executable).parent / "pnnx"
        subprocess.run([pnnx, traced, shapes], check=True, cwd=files.folder, stdout=subprocess.DEVNULL)
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.opt.use_bf16_storage = bf16
        net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
        if net.load_param(str(files.folder / "student.ncnn.param")) or net.load_model(
            str(files.folder / "student.ncnn.bin")
        ):
            raise RuntimeError("the converted network does not load")
        pictures = [
            [ncnn.Mat(v).clone() for v in (inputs.z[i], inputs.label[i : i + 1].astype(np.int32), inputs.w[i : i + 1])]
            for i in range(batch)
        ]

        # It has no batches: picture after picture.
        def run():
            outs = []
            for picture in pictures:
                with net.create_extractor() as extractor:
                    for k, value in enumerate(picture):
                        extractor.input(f"in{k}", value)
                    outs.append(extractor.extract("out0")[1])
            return outs

        return run, lambda outs: np.stack([np.array(out).reshape(inputs.z[0].shape) for out in outs])

    return engine


def litert(activations):
    def engine(files, batch):
        from ai_edge_litert.interpreter import Interpreter

        import litert as writer

        def named(inputs):
            values = np.ascontiguousarray(inputs.z.transpose(0, 2, 3, 1)), inputs.label.astype(np.int32), inputs.w[:, None]
            return dict(zip(writer.INPUTS, values))

        content = writer.student(files.checkpoint, 0, STEPS, batch)
        if activations != "f32":
            seen = [named(files.inputs(batch, 1000 + i)) for i in range(CALIBRATION // batch)]
            content = writer.quantized(content, seen if activations == "static" else None)
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner(writer.SIGNATURE)
        signature(**named(files.inputs(batch)))
        (out,) = interpreter.get_output_details()

        def run():
            interpreter.invoke()
            return out["index"]

        return run, lambda index: interpreter.get_tensor(index).transpose(0, 3, 1, 2)

    return engine


ENGINES = {
    "ONNX Runtime f32": ort_f32,
    "ONNX Runtime int8 (u8s8, convolutions)": ort_int8("QUInt8", "QInt8", True),
    "ONNX Runtime int8 (u8s8, all)": ort_int8("QUInt8", "QInt8", False),
    "ONNX Runtime int8 (s8s8, all)": ort_int8("QInt8", "QInt8", False),
    "ONNX Runtime, fewstep's QDQ": ort_qdq,
    "OpenVINO f32": openvino_float("f32"),
    "OpenVINO bf16": openvino_float("bf16"),
    "OpenVINO int8": openvino_int8("f32"),
    "OpenVINO int8, bf16": openvino_int8("bf16"),
    "OpenVINO, fewstep's QDQ": openvino_qdq("f32"),
    "PyTorch f32": torch_eager("f32"),
    "PyTorch bf16": torch_eager("bf16"),
    "PyTorch f32, compiled": torch_compiled("f32"),
    "PyTorch bf16, compiled": torch_compiled("bf16"),
    "LiteRT f32": litert("f32"),
    "LiteRT int8 (convolutions)": litert("static"),
    "LiteRT int8 (convolutions, ranges at run time)": litert("dynamic"),
    "ncnn f32": ncnn(False),
    "ncnn bf16": ncnn(True),
}


REFERENCE = "ONNX Runtime f32"


# ---- measuring -------------------------------------------------------------------------------------------------------


def slice_of(run, seconds):
    """Milliseconds of calls for about `seconds`: on the processor, and by the clock."""
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        began, processor = time.perf_counter(), time.process_time()
        run()
        times.append(((time.process_time() - processor) * 1e3, (time.perf_counter() - began) * 1e3))
    return times


def worker(args, name, batch, folder):
    """An engine in a process of its own: their libraries do not bear each other. Answers on standard output, a line of
    JSON each: first whether it runs, then the times of every slice that is asked for."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    files = Files(args, folder)
    try:
        run, to_numpy = ENGINES[name](files, batch)
        np.save(folder / "out.npy", to_numpy(run()))
        slice_of(run, args.slice)
        print(json.dumps({"out": str(folder / "out.npy")}), file=answers)
    except Exception as e:  # an engine's refusal, whatever it is, is a line of the report
        first = next(iter(str(e).strip().splitlines()), "")[:160]
        print(json.dumps({"refused": f"{type(e).__name__}: {first}"}), file=answers)
        return
    for line in sys.stdin:
        print(json.dumps(slice_of(run, float(line))), file=answers)


class Engine:
    """The other end of `worker`."""

    def __init__(self, args, name, batch, folder):
        folder.mkdir()
        words = [sys.executable, __file__, *sys.argv[1:], "--worker", name, str(batch), str(folder)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.times = []
        self.answer = self.read() or {"refused": f"the process ended with {self.process.wait()}"}

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def slice(self, seconds):
        print(seconds, file=self.process.stdin, flush=True)
        self.times += self.read()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def wanted(args, name):
    holds = lambda words: any(word.lower() in name.lower() for word in words or [])
    return name == REFERENCE or (not holds(args.skip) and (not args.only or holds(args.only)))


def measure(files, batch, args):
    engines, notes, reference = {}, {}, None
    for i, name in enumerate(name for name in ENGINES if wanted(args, name)):
        print(f"batch {batch}: {name}", file=sys.stderr, flush=True)
        engine = Engine(args, name, batch, files.folder / f"{batch}-{i}")
        if "refused" in engine.answer:
            notes[name] = f"does not run: {engine.answer['refused']}"
            engine.close()
            continue
        out = np.load(engine.answer["out"])
        reference = out if name == REFERENCE else reference
        error = float(np.sqrt(((out.astype(np.float64) - reference) ** 2).mean()))
        notes[name] = "" if name == REFERENCE else f"{20 * np.log10(2 / max(1e-9, error)):.0f} dB"
        engines[name] = engine
    own = []
    for i in range(args.rounds):
        print(f"batch {batch}: round {i + 1} of {args.rounds}", file=sys.stderr, flush=True)
        words = ("bench", files.student, "--batch", batch, "--threads", 1, "--seconds", args.slice, "--json")
        report = json.loads(files.fewstep(*words))
        own.append((report["step_processor_ms"], report["step_ms_min"]))
        for engine in engines.values():
            engine.slice(args.slice)
    for engine in engines.values():
        engine.close()
    row = lambda engine, times, note: {
        "engine": engine,
        "ms": times and statistics.median(processor for processor, _ in times),
        "least_ms": times and min(clock for _, clock in times),
        "note": note,
    }
    rows = [row(f"fewstep ({report['backend']})", own, "")]
    rows += [row(name, engines[name].times if name in engines else None, note) for name, note in notes.items()]
    for entry in rows:
        for key, ratio in (("ms", "ratio"), ("least_ms", "least_ratio")):
            entry[ratio] = entry[key] and entry[key] / rows[0][key]
    best = min((row for row in rows[1:] if row["ms"]), key=lambda row: row["ms"])
    return {"batch": batch, "rows": rows, "best_peer": best["engine"], "ratio_to_best_peer": best["ratio"]}


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def versions():
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("onnxruntime", "openvino", "torch", "ai-edge-litert", "ncnn", "onnx", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


HEAD = "| engine | median, ms | least, ms | median / fewstep's | least / fewstep's | |"


def page(report):
    lines = [
        f"# One evaluation, {report['date']}",
        "",
        f"{report['cpu']}, one thread; `{report['command']}`; {report['macs_per_step'] / 1e6:.1f} M multiply-accumulates.",
        "",
        ", ".join(f"{k} {v}" for k, v in report["versions"].items() if v) + ".",
        "",
        f"{report['rounds']} rounds, engines in turns. Milliseconds for the whole batch: the median by processor time, the least by the clock. Last "
        f"column: agreement with {REFERENCE} (peak signal to noise on pictures of -1 to 1), or why it does not run.",
    ]
    for part in report["batches"]:
        lines += ["", f"## Batch {part['batch']}", "", HEAD, "|---|---|---|---|---|---|"]
        for row in sorted(part["rows"], key=lambda row: row["ms"] or 1e9):
            if row["ms"] is None:
                lines.append(f"| {row['engine']} | | | | | {row['note']} |")
            else:
                numbers = f"{row['ms']:.3f} | {row['least_ms']:.3f} | {row['ratio']:.2f} | {row['least_ratio']:.2f}"
                lines.append(f"| {row['engine']} | {numbers} | {row['note']} |")
        lines += ["", f"Best peer: {part['best_peer']}, {part['ratio_to_best_peer']:.2f} times fewstep's time."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fewstep", default=PROJECT / "target/release/fewstep", help="the program")
    parser.add_argument("--student", type=pathlib.Path, default=PROJECT / "assets/fashion-mnist-student-4.fsw")
    parser.add_argument("--checkpoint", type=pathlib.Path, default=PROJECT / "assets/fashion-mnist-student-4.safetensors")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slice", type=float, default=0.3, help="seconds per engine and round")
    parser.add_argument("--only", nargs="*", help="engines whose name holds one of these words")
    parser.add_argument("--skip", nargs="*", help="leave out engines whose name holds one of these words")
    parser.add_argument("--out", type=pathlib.Path, help="results to write: OUT.json and OUT.md")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        name, batch, folder = args.worker
        return worker(args, name, int(batch), pathlib.Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        files = Files(args, pathlib.Path(folder))
        report = {
            "date": datetime.date.today().isoformat(),
            "cpu": cpu_name(),
            "command": f"benches/peers/run.py --rounds {args.rounds} --slice {args.slice}",
            "student": args.student.name,
            "macs_per_step": files.inspect["macs_per_step"],
            "rounds": args.rounds,
            "versions": versions(),
            "batches": [measure(files, batch, args) for batch in BATCHES],
        }
    text = page(report)
    print(text)
    if args.out:
        args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
