#!/usr/bin/env python3
"""Times training on one thread: fewstep against PyTorch, the network of the shipped student, in turns in one run.

    python3 -m venv VENV && VENV/bin/pip install -r benches/peers/requirements.txt
    cargo build --release
    VENV/bin/python benches/peers/training.py --fewstep target/release/fewstep --data DIR

A picture is one forward and one backward pass, a share of a batch's AdamW step, gradient clipping and moving average.
Figures are pictures a second of processor time, so that waiting for a busy machine does not enter; every figure is a
long run less a short one, which takes start-up and compilation out. PyTorch runs channels last, in f32 and in bf16 under
autocast, as it stands and compiled.
"""

import argparse
import datetime
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
# Batches of a short and of a long run. `train-teacher` draws eight snapshots and writes twenty lines of statistics however
# long it is, as long as there are twenty batches: what a run costs beside training is the same in both.
SHORT, LONG = 20, 40


def of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def fewstep(args, precision):
    """Processor seconds of `train-teacher`, by number of batches."""

    def seconds(batches):
        with tempfile.TemporaryDirectory() as folder:
            began = of_children()
            subprocess.run(
                [args.fewstep, "train-teacher", "--data", args.data, "--out", f"{folder}/run", "--images",
                 str(batches * args.batch), "--batch", str(args.batch), "--threads", "1", "--precision", precision],
                check=True, capture_output=True,
                # Nor is its state saved in between.
                env={**os.environ, "FEWSTEP_SAVE_SECONDS": "86400"},
            )
            return of_children() - began

    return seconds


def pytorch(args, bf16, compiled):
    import torch
    from network import Student

    torch.set_num_threads(1)
    torch.manual_seed(1)
    student = Student(args.checkpoint, 0, 4).to(memory_format=torch.channels_last)
    # A table that training would change.
    table = student.classes.clone()
    del student.classes
    student.classes = torch.nn.Parameter(table)
    parameters = [p.requires_grad_() for p in student.parameters()]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, 1e-4, betas=(0.9, 0.99), weight_decay=0, fused=True)
    run = torch.compile(student) if compiled else student
    arch = student.arch
    z = torch.randn(args.batch, arch["channels"], arch["height"], arch["width"])
    target, label = torch.randn_like(z), torch.randint(0, arch["classes"], (args.batch,))
    w = torch.rand(args.batch) * 4

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = ((run(z, label, w) - target) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1e-3)

    step()

    def seconds(batches):
        began = time.process_time()
        for _ in range(batches):
            step()
        return time.process_time() - began

    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fewstep", required=True, help="the built program")
    parser.add_argument("--data", required=True, help="Fashion-MNIST, or any set of the checkpoint's shape")
    parser.add_argument("--checkpoint", default=PROJECT / "assets/fashion-mnist-student-4.safetensors")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, help="also write the results here (.md, and .json beside it)")
    args = parser.parse_args()
    args.fewstep = pathlib.Path(args.fewstep).resolve()

    cpu = next(l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name"))
    makers = {
        "fewstep": lambda: fewstep(args, "auto"),
        "fewstep f32": lambda: fewstep(args, "f32"),
        "PyTorch f32": lambda: pytorch(args, False, False),
        "PyTorch f32, compiled": lambda: pytorch(args, False, True),
        "PyTorch bf16": lambda: pytorch(args, True, False),
        "PyTorch bf16, compiled": lambda: pytorch(args, True, True),
    }
    engines, reasons = {}, {}
    for name, make in makers.items():
        try:
            engines[name] = make()
            engines[name](1)
        except Exception as e:  # an engine that cannot run is listed with the reason
            reasons[name] = str(e).strip().split("\n")[0][:120]
            engines.pop(name, None)
        print(f"{name}: {'ready' if name in engines else reasons[name]}", file=sys.stderr)
    rates = {name: [] for name in engines}
    for turn in range(args.rounds):
        for name, seconds in engines.items():
            spent = seconds(LONG) - seconds(SHORT)
            rates[name].append((LONG - SHORT) * args.batch / spent)
        print(f"round {turn + 1} of {args.rounds}", file=sys.stderr)
    best = max((statistics.median(r), name) for name, r in rates.items() if name.startswith("PyTorch"))
    ratio = statistics.median(rates["fewstep"]) / best[0]
    lines = [
        f"Training, one thread, batch {args.batch}, {cpu}, {datetime.date.today()}, {args.rounds} rounds.",
        "",
        "| engine | pictures a second of processor time, median | largest |",
        "|---|---|---|",
        *(f"| {name} | {statistics.median(r):.1f} | {max(r):.1f} |" for name, r in rates.items()),
        *(f"| {name} | {reason} | |" for name, reason in reasons.items()),
        "",
        f"fewstep over {best[1]}: {ratio:.2f}",
    ]
    print("\n".join(lines))
    if args.out:
        args.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
        figures = {"cpu": cpu, "batch": args.batch, "rates": rates, "reasons": reasons, "ratio": ratio}
        args.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    main()
