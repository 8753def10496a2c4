"""Few-step diffusion students in numpy.

A student image (`.fsw`) draws pictures in one to four steps, with the guidance strength w as a knob. The bytes are those
of the command line, of the browser and of a microcontroller::

    student = fewstep.Student("student.fsw")
    pictures = student.sample("Ankle boot", count=16, guidance=1.5, seed=7)   # uint8 [16, height, width, channels]
"""

from __future__ import annotations

import os

# Every thread has a part of the batch; candle's own would spin between. It looks once, when it starts.
os.environ.setdefault("CANDLE_NUM_THREADS", "1")

from ._fewstep import backend
from .reference import Figure, Figures, Reference
from .student import Pictures, Student

__all__ = ["Figure", "Figures", "Pictures", "Reference", "Student", "backend"]
