"""A student image and what it draws."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

from ._fewstep import Image
from .arrays import fitting

Pictures = npt.NDArray[np.uint8]
"""uint8, [count, height, width, channels]."""

Class = Union[int, str]
Seeds = Union[int, Sequence[int]]


class Student:
    """A student image, read from a file.

    Raises ValueError where the file is no undamaged student image, with the place and what is wrong there, and OSError
    where it cannot be read. `backend` names the kernels; every one gives the same bytes.
    """

    def __init__(self, file: str | os.PathLike[str], *, backend: str = "auto") -> None:
        self._image = Image(file)
        self._backend = backend
        self._metadata: dict[str, Any] = json.loads(self._image.describe())
        self._classes = self._image.class_names()

    @property
    def metadata(self) -> dict[str, Any]:
        """All that the image says about itself: what `fewstep inspect FILE --json` prints."""
        return dict(self._metadata)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture."""
        height, width, channels = self._metadata["shape"]
        return height, width, channels

    @property
    def classes(self) -> list[str]:
        """Names of the classes; `class N` where the image has none."""
        return list(self._classes)

    @property
    def steps(self) -> int:
        """Denoising steps that it was distilled to."""
        return int(self._metadata["steps"])

    @property
    def guidance(self) -> tuple[float, float]:
        """Smallest and largest guidance strength w."""
        low, high = self._metadata["guidance"]
        return low, high

    @property
    def provenance(self) -> dict[str, str]:
        """Where the image comes from: teacher, run, classes and the like."""
        return dict(self._metadata["provenance"])

    def __repr__(self) -> str:
        height, width, channels = self.shape
        return f"Student({height}x{width}x{channels}, {len(self._classes)} classes, {self.steps} steps)"

    def sample(
        self,
        classes: Class | Iterable[Class] | None = None,
        *,
        count: int | None = None,
        guidance: float = 1.0,
        seed: Seeds = 0,
        steps: int | None = None,
        stochastic: bool = False,
    ) -> Pictures:
        """Draws pictures from noise.

        `classes`: a number or name, or several, in turn; all of them when not given. `count` pictures, else one for each
        class named. Picture i has seed `seed + i`, or `seed[i]`. `steps` must divide the student's own.
        """
        if classes is None:
            chosen = list(range(len(self._classes)))
        elif isinstance(classes, (int, str, np.integer)):
            chosen = [self._class(classes)]
        else:
            chosen = [self._class(one) for one in classes]
        if not chosen:
            raise ValueError("classes: name at least one")
        total = len(chosen) if count is None else count
        turn = [chosen[i % len(chosen)] for i in range(total)]
        return self._pictures(self._image.sample(_seeds(seed, total), turn, self._common(guidance, steps, stochastic)))

    def edit(
        self,
        picture: npt.ArrayLike,
        to: Class,
        *,
        strength: float = 0.5,
        count: int = 1,
        guidance: float = 1.0,
        seed: Seeds = 0,
        steps: int | None = None,
        stochastic: bool = False,
    ) -> Pictures:
        """Changes a picture to the class `to`: noise takes it part of the way back, the student does the rest.

        `strength`, above 0 and up to 1, is the share of the steps that are done, at least one of them.
        """
        content = fitting(picture, self.shape, "picture")
        common = self._common(guidance, steps, stochastic)
        return self._pictures(self._image.edit(content, strength, _seeds(seed, count), self._class(to), common))

    def inpaint(
        self,
        picture: npt.ArrayLike,
        mask: npt.ArrayLike,
        to: Class,
        *,
        passes: int = 1,
        strength: float = 1.0,
        count: int = 1,
        guidance: float = 1.0,
        seed: Seeds = 0,
        steps: int | None = None,
        stochastic: bool = False,
    ) -> Pictures:
        """Draws the pixels anew at which `mask` ([height, width]) is not 0; the others are kept byte for byte.

        Each step but the first is done `passes` times (RePaint; Lugmayr et al., CVPR 2022).
        """
        content = fitting(picture, self.shape, "picture")
        hole = fitting(np.asarray(mask) != 0, self.shape[:2], "mask")
        seeds, common = _seeds(seed, count), self._common(guidance, steps, stochastic)
        return self._pictures(self._image.inpaint(content, hole, strength, passes, seeds, self._class(to), common))

    def morph(
        self,
        start: tuple[int, Class],
        end: tuple[int, Class],
        *,
        frames: int = 9,
        guidance: float = 1.0,
        steps: int | None = None,
        stochastic: bool = False,
    ) -> Pictures:
        """Draws `frames` pictures on the way between two ends, each a seed and a class; both ends are among them."""
        if frames < 2:
            raise ValueError(f"frames = {frames}: give 2 or more")
        ends = [(seed, self._class(of)) for seed, of in (start, end)]
        shares = [i / (frames - 1) for i in range(frames)]
        return self._pictures(self._image.morph(ends[0], ends[1], shares, self._common(guidance, steps, stochastic)))

    def export_onnx(
        self, out: str | os.PathLike[str], *, form: Literal["float", "qdq"] = "float", step: int | None = None
    ) -> None:
        """Writes one evaluation as an ONNX file: what `fewstep export FILE --onnx FORM [--step STEP]` writes."""
        self._image.export_onnx(out, form, step)

    def _class(self, name: Class) -> int:
        if not isinstance(name, str):
            number = int(name)
            if not 0 <= number < len(self._classes):
                raise ValueError(f"class {number}: the student has classes 0 to {len(self._classes) - 1}")
            return number
        if name not in self._classes:
            raise ValueError(f"class {name!r}: the student has {', '.join(self._classes)}")
        return self._classes.index(name)

    def _common(self, guidance: float, steps: int | None, stochastic: bool) -> tuple[float, int, bool, str]:
        own = self.steps
        done = own if steps is None else steps
        if done < 1 or own % done:
            raise ValueError(f"steps = {done}: give a divisor of {own}")
        return float(guidance), done, stochastic, self._backend

    def _pictures(self, drawn: bytes) -> Pictures:
        return np.frombuffer(drawn, np.uint8).reshape(-1, *self.shape).copy()


def _seeds(seed: Seeds, count: int) -> list[int]:
    if count < 0:
        raise ValueError(f"count = {count}: give 0 or more")
    if isinstance(seed, (int, np.integer)):
        return [(int(seed) + i) % 2**64 for i in range(count)]
    if len(seed) != count:
        raise ValueError(f"{len(seed)} seeds for {count} pictures")
    return [int(one) for one in seed]
