"""How good pictures are, against real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TypedDict, cast

import numpy as np
import numpy.typing as npt

from ._fewstep import Reference as _Reference
from .arrays import fitting
from .student import Student


class Figure(TypedDict):
    """A measured value and its 95 % interval."""

    value: float
    low: float
    high: float


class Figures(TypedDict):
    """Figures of a set of pictures; docs/evaluation.md defines them. Lower is better for the distances."""

    count: int
    frechet_distance: Figure
    kid: Figure
    precision: Figure
    recall: Figure
    density: Figure
    coverage: Figure
    class_accuracy: Figure


class Reference:
    """The test split of the data set in the folder `data`, in the features of the classifier in the file `features`.

    Raises ValueError where the two do not fit each other or are damaged, and OSError where one cannot be read.
    """

    def __init__(self, data: str | os.PathLike[str], features: str | os.PathLike[str]) -> None:
        self._reference = _Reference(data, features)

    @property
    def features_sha256(self) -> str:
        """The feature extractor's hash; figures of two extractors cannot be compared."""
        return self._reference.features_sha256

    def measure(self, pictures: npt.ArrayLike, labels: Sequence[int] | npt.NDArray[np.integer], *, seed: int = 0) -> Figures:
        """Measures pictures, uint8 [count, height, width, channels], with the classes that were asked for.

        `seed` draws the subsets and resamples of the intervals.
        """
        content = fitting(pictures, (None, *self._reference.shape), "pictures")
        classes = [int(label) for label in labels]
        height, width, channels = self._reference.shape
        if len(content) != len(classes) * height * width * channels:
            raise ValueError(f"{len(classes)} labels for {len(content) // (height * width * channels)} pictures")
        wrong = [label for label in classes if not 0 <= label < self._reference.classes]
        if wrong:
            raise ValueError(f"label {wrong[0]}: the features know classes 0 to {self._reference.classes - 1}")
        return cast(Figures, json.loads(self._reference.measure(content, classes, seed)))

    def evaluate(
        self,
        student: Student,
        *,
        count: int = 10_000,
        guidance: float = 1.0,
        seed: int = 0,
        steps: int | None = None,
    ) -> Figures:
        """Draws `count` pictures, cycling through the classes, and measures them: the row of `fewstep evaluate`."""
        if student.shape != self._reference.shape or len(student.classes) != self._reference.classes:
            raise ValueError(f"{student!r}: the features are for {self._reference.shape}, {self._reference.classes} classes")
        pictures = student.sample(count=count, guidance=guidance, seed=seed, steps=steps)
        return self.measure(pictures, [i % len(student.classes) for i in range(count)], seed=seed)
