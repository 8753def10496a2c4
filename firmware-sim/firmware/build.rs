//! Writes the linker script and the constants of the board in `FEWSTEP_BOARD`: the path of a `board.toml`, or the name
//! of a shipped board. Without it, the an500.

use std::path::Path;

use fewstep_board::Board;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(armv8m)");
    println!("cargo::rerun-if-env-changed=FEWSTEP_BOARD");
    println!("cargo::rerun-if-changed=riscv.x");
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let boards = Path::new(&manifest).join("../boards");
    println!("cargo::rerun-if-changed={}", boards.display());

    let name = std::env::var("FEWSTEP_BOARD").unwrap_or_else(|_| "an500".into());
    println!("cargo::rerun-if-changed={name}");
    let board = match Board::find(&boards, &name) {
        Ok(board) => board,
        Err(error) => {
            println!("cargo::error={error}");
            return;
        }
    };
    let scenario = std::env::var_os("CARGO_FEATURE_SCENARIO").is_some();
    if scenario && (board.storage.is_none() || board.timer.is_none()) {
        println!("cargo::error=a scenario needs [storage] and [timer] in the board file of {}", board.name);
        return;
    }
    let out = Path::new(&out);
    std::fs::write(out.join("memory.x"), board.linker_script(board.firmware_bytes(scenario)))
        .expect("OUT_DIR can be written to");
    std::fs::write(out.join("board.rs"), board.rust_constants()).expect("OUT_DIR can be written to");

    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-search={}", out.display());
        let target = std::env::var("TARGET").unwrap_or_default();
        let start = if target.starts_with("riscv32") {
            std::fs::copy(Path::new(&manifest).join("riscv.x"), out.join("riscv.x"))
                .expect("OUT_DIR can be written to");
            "riscv.x"
        } else {
            "link.x"
        };
        for script in [start, "defmt.x"] {
            println!("cargo::rustc-link-arg-bins=-T{script}");
        }
        if target.starts_with("thumbv8m.main") {
            println!("cargo::rustc-cfg=armv8m");
        }
    }
}
