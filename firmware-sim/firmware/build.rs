//! Writes the linker script and the constants of the board in `FEWSTEP_BOARD`: the path of a `board.toml`, or the name
//! of a shipped board. Without it, the an500.

use std::path::Path;

use fewstep_board::Board;

fn main() {
    println!("cargo::rerun-if-env-changed=FEWSTEP_BOARD");
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
    let out = Path::new(&out);
    std::fs::write(out.join("memory.x"), board.linker_script()).expect("OUT_DIR can be written to");
    std::fs::write(out.join("board.rs"), board.rust_constants()).expect("OUT_DIR can be written to");

    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-search={}", out.display());
        for script in ["link.x", "defmt.x"] {
            println!("cargo::rustc-link-arg-bins=-T{script}");
        }
    }
}
