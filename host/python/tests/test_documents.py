"""The Python of docs/python.md runs, block after block."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]


def test_the_page_runs(tmp_path: Path) -> None:
    blocks = (PROJECT / "docs/python.md").read_text().split("```python\n")[1:]
    assert len(blocks) >= 3
    os.symlink(PROJECT / "assets", tmp_path / "assets")
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for block in blocks:
            exec(block.split("```")[0], names)
    finally:
        os.chdir(before)
