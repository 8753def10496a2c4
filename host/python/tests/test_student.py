"""The wheel against the command line: the same bytes; arguments and files that are wrong say so.

FEWSTEP names the program. Run by `./check python`.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import fewstep
import numpy as np
import numpy.typing as npt
import pytest

PROJECT = Path(__file__).resolve().parents[3]
FILE = PROJECT / "assets/fashion-mnist-student-4.fsw"
DATA = PROJECT / "assets/fashion-mnist-small"
FEATURES = PROJECT / "assets/fashion-mnist-features.safetensors"
STUDENT = fewstep.Student(FILE)


def program(*arguments: object) -> str:
    words = [os.environ["FEWSTEP"], *map(str, arguments)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def checksums(*arguments: object) -> list[int]:
    return [picture["crc32c"] for picture in json.loads(program(*arguments, "--json"))["pictures"]]


def of(pictures: fewstep.Pictures) -> list[int]:
    return [crc32c(picture.tobytes()) for picture in pictures]


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A grey PNG of [height, width]."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_samples_are_the_programs() -> None:
    drawn = STUDENT.sample("Bag", count=5, guidance=1.5, seed=7)
    assert drawn.shape == (5, 28, 28, 1) and drawn.dtype == np.uint8
    assert of(drawn) == checksums("sample", FILE, "--class", 8, "--count", 5, "--guidance", 1.5, "--seed", 7)
    drawn = STUDENT.sample(count=13, guidance=0, seed=2**64 - 3, steps=2, stochastic=True)
    options = ["--count", 13, "--guidance", 0, "--seed", 2**64 - 3, "--steps", 2, "--sampler", "stochastic"]
    assert of(drawn) == checksums("sample", FILE, *options)


def test_seeds_and_classes_may_be_lists() -> None:
    together = STUDENT.sample([3, "Bag"], seed=[5, 9])
    assert (together[0] == STUDENT.sample(3, seed=5)[0]).all()
    assert (together[1] == STUDENT.sample(8, seed=9)[0]).all()
    assert STUDENT.sample(3, count=0).shape == (0, 28, 28, 1)


def test_edits_holes_and_ways_are_the_programs(tmp_path: Path) -> None:
    picture = STUDENT.sample("Sneaker", seed=9)[0]
    sneaker = tmp_path / "sneaker.png"
    sneaker.write_bytes(png(picture[..., 0]))
    for strength in (0.1, 0.5, 0.625, 1.0):
        drawn = STUDENT.edit(picture, "Ankle boot", strength=strength, count=2, seed=1)
        line = ["edit", FILE, sneaker, "--class", 9, "--strength", strength, "--count", 2, "--seed", 1]
        assert of(drawn) == checksums(*line)

    hole = np.zeros((28, 28), bool)
    hole[9:17, 6:20] = True
    mask = tmp_path / "mask.png"
    mask.write_bytes(png(hole.astype(np.uint8) * 255))
    drawn = STUDENT.inpaint(picture[..., 0], hole, 7, passes=2, seed=3)
    line = ["inpaint", FILE, sneaker, "--mask", mask, "--class", 7, "--passes", 2, "--seed", 3]
    assert of(drawn) == checksums(*line)
    assert (drawn[0][~hole] == picture[~hole]).all()

    drawn = STUDENT.morph((4, "Trouser"), (9, "Dress"), frames=5, guidance=2)
    line = ["morph", FILE, "--class", "1,3", "--seeds", "4,9", "--frames", 5, "--guidance", 2]
    assert of(drawn) == checksums(*line)


def test_the_image_tells_what_the_program_tells() -> None:
    assert STUDENT.metadata == json.loads(program("inspect", FILE, "--json"))
    assert (STUDENT.shape, STUDENT.steps, STUDENT.guidance) == ((28, 28, 1), 4, (0.0, 4.0))
    assert STUDENT.classes[9] == "Ankle boot"
    assert STUDENT.provenance["classes"] == ", ".join(STUDENT.classes)
    assert repr(STUDENT) == "Student(28x28x1, 10 classes, 4 steps)"


def test_kernels_that_are_named_give_the_same_bytes() -> None:
    assert (fewstep.Student(FILE, backend="scalar").sample(3, seed=5) == STUDENT.sample(3, seed=5)).all()
    with pytest.raises(ValueError, match=f"backend abacus.*{fewstep.backend()}"):
        fewstep.Student(FILE, backend="abacus").sample(0)


@pytest.mark.parametrize(("form", "step"), [("float", None), ("qdq", None), ("qdq", 3)])
def test_onnx_files_are_the_programs(tmp_path: Path, form: Literal["float", "qdq"], step: int | None) -> None:
    STUDENT.export_onnx(tmp_path / "wheel.onnx", form=form, step=step)
    options = [] if step is None else ["--step", step]
    program("export", FILE, "--onnx", form, *options, "--out", tmp_path / "program.onnx")
    assert (tmp_path / "wheel.onnx").read_bytes() == (tmp_path / "program.onnx").read_bytes()
    with pytest.raises(ValueError, match="steps 0 to 3"):
        STUDENT.export_onnx(tmp_path / "wheel.onnx", form=form, step=4)


def test_figures_are_the_programs(tmp_path: Path) -> None:
    reference = fewstep.Reference(DATA, FEATURES)
    figures = reference.evaluate(STUDENT, count=60, guidance=2, seed=3)
    line = ["evaluate", FILE, "--data", DATA, "--features", FEATURES, "--count", 60, "--guidance", 2, "--seed", 3]
    report = json.loads(program(*line, "--out", tmp_path / "report", "--json"))
    assert figures == report["rows"][0]["figures"]
    assert reference.features_sha256 == report["features_sha256"]
    # Guided pictures are recognised, and noise is not.
    noise = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    far = reference.measure(noise, [i % 10 for i in range(60)])
    assert figures["class_accuracy"]["value"] > 0.9 > far["class_accuracy"]["value"]
    assert far["frechet_distance"]["value"] > 3 * figures["frechet_distance"]["value"]


def test_a_reference_refuses_what_does_not_fit(tmp_path: Path) -> None:
    reference = fewstep.Reference(DATA, FEATURES)
    pictures = np.zeros((20, 28, 28, 1), np.uint8)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: reference.measure(pictures, [0] * 19), "19 labels for 20"),
        (lambda: reference.measure(pictures, [10] * 20), "label 10.*0 to 9"),
        (lambda: reference.measure(pictures[:, :27], [0] * 20), r"\(20, 27, 28, 1\)"),
        (lambda: reference.measure(pictures / 2, [0] * 20), "uint8"),
        (lambda: reference.measure(pictures[:3], [0] * 3), "too few"),
        (lambda: fewstep.Reference(DATA, FILE), "fashion-mnist-student-4.fsw"),
        (lambda: fewstep.Reference(tmp_path, FEATURES), str(tmp_path)),
    ]
    for call, part in calls:
        with pytest.raises(ValueError, match=part):
            call()
    with pytest.raises(FileNotFoundError, match="missing"):
        fewstep.Reference(DATA, tmp_path / "missing")


def test_files_that_are_wrong_say_so(tmp_path: Path) -> None:
    content = FILE.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    for wrong, part in [(b"", "needs"), (content[:5000], "has 5000"), (bytes(damaged), "damaged"), (b"x" * 999, "magic")]:
        file = tmp_path / "wrong.fsw"
        file.write_bytes(wrong)
        with pytest.raises(ValueError, match=f"wrong.fsw: .*{part}"):
            fewstep.Student(file)
    with pytest.raises(FileNotFoundError, match="missing.fsw"):
        fewstep.Student(tmp_path / "missing.fsw")


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda s, p: s.sample(10), "classes 0 to 9"),
        (lambda s, p: s.sample(-1), "classes 0 to 9"),
        (lambda s, p: s.sample("Hat"), "'Hat'.*Ankle boot"),
        (lambda s, p: s.sample([]), "at least one"),
        (lambda s, p: s.sample(guidance=9), "distilled for 0 to 4"),
        (lambda s, p: s.sample(guidance=float("nan")), "guidance"),
        (lambda s, p: s.sample(steps=3), "divisor of 4"),
        (lambda s, p: s.sample(steps=0), "divisor of 4"),
        (lambda s, p: s.sample(0, count=-1), "count"),
        (lambda s, p: s.sample(0, count=2, seed=[1]), "1 seeds for 2"),
        (lambda s, p: s.edit(p[:27], 1), r"\(27, 28, 1\): give \(28, 28, 1\)"),
        (lambda s, p: s.edit(p / 255.0, 1), "uint8"),
        (lambda s, p: s.edit(p, 1, strength=0), "above 0"),
        (lambda s, p: s.edit(p, 1, strength=1.5), "above 0"),
        (lambda s, p: s.inpaint(p, np.zeros((4, 4)), 1), r"mask of shape \(4, 4\)"),
        (lambda s, p: s.inpaint(p, np.ones((28, 28)), 1, passes=0), "passes"),
        (lambda s, p: s.morph((0, 1), (1, 1), frames=1), "frames"),
    ],
)
def test_arguments_that_are_wrong_say_so(call: Any, part: str) -> None:
    picture = np.zeros((28, 28, 1), np.uint8)
    with pytest.raises(ValueError, match=part):
        call(STUDENT, picture)
