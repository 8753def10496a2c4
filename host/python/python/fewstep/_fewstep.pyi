"""The host's functions, over bytes. `Student` and `Reference` of the package are their faces."""

import os
from collections.abc import Sequence

_Common = tuple[float, int, bool, str]

class Image:
    def __new__(cls, path: str | os.PathLike[str]) -> Image: ...
    def describe(self) -> str: ...
    def class_names(self) -> list[str]: ...
    def sample(self, seeds: Sequence[int], classes: Sequence[int], common: _Common) -> bytes: ...
    def edit(
        self, picture: bytes, strength: float, seeds: Sequence[int], class_: int, common: _Common, /
    ) -> bytes: ...
    def inpaint(
        self,
        picture: bytes,
        mask: bytes,
        strength: float,
        passes: int,
        seeds: Sequence[int],
        class_: int,
        common: _Common,
        /,
    ) -> bytes: ...
    def morph(
        self,
        from_: tuple[int, int],
        to: tuple[int, int],
        shares: Sequence[float],
        common: _Common,
        /,
    ) -> bytes: ...
    def export_onnx(self, out: str | os.PathLike[str], form: str, step: int | None) -> None: ...

class Reference:
    def __new__(cls, data: str | os.PathLike[str], features: str | os.PathLike[str]) -> Reference: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def classes(self) -> int: ...
    @property
    def features_sha256(self) -> str: ...
    def measure(self, pictures: bytes, labels: Sequence[int], seed: int) -> str: ...

def backend() -> str: ...
