"""PlatformIO: links the static library for the board's CPU."""

import os

TARGETS = {
    "cortex-m4": "thumbv7em-none-eabihf",
    "cortex-m7": "thumbv7em-none-eabihf",
    "cortex-m33": "thumbv8m.main-none-eabihf",
    "esp32c3": "riscv32imac-unknown-none-elf",
    "esp32c6": "riscv32imac-unknown-none-elf",
}


def folder(board, here):
    """Folder of the library for a board: its `build.cpu`, or its `build.mcu` where the CPU has no name of its own."""
    names = [board.get("build.cpu", ""), board.get("build.mcu", "")]
    target = next((TARGETS[name] for name in names if name in TARGETS), None)
    if target is None:
        raise SystemExit("fewstep: no library for %s; there are libraries for %s" % (names, ", ".join(sorted(TARGETS))))
    found = os.path.join(here, "lib", target)
    if not os.path.exists(os.path.join(found, "libfewstep.a")):
        raise SystemExit("fewstep: %s has no libfewstep.a; README.md has the command that builds it" % found)
    return found


Import("env")  # noqa: F821: PlatformIO defines it
here = os.path.dirname(os.path.realpath(env["PROJECT_SRC_DIR"] if "__file__" not in globals() else __file__))  # noqa: F821
env.Append(LIBPATH=[folder(env.BoardConfig(), here)], LIBS=["fewstep"])  # noqa: F821
