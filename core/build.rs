//! Names the instruction set that the compiler does not: whether an Arm target has the DSP extension (stable compilers
//! keep `target_feature = "dsp"` to themselves). Helium is chosen by `--cfg arm_mve`, because LLVM crashes when it builds
//! Rust's library for a CPU with Helium.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(arm_dsp)");
    println!("cargo::rustc-check-cfg=cfg(arm_mve)");
    println!("cargo::rustc-check-cfg=cfg(armv8m)");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    let target = variable("TARGET");
    // Armv7E-M always has it; Armv8-M Mainline where the CPU or the flags say so.
    let mainline = target.starts_with("thumbv8m.main");
    if mainline {
        println!("cargo::rustc-cfg=armv8m");
    }
    let chosen = ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85", "+dsp"];
    if target.starts_with("thumbv7em") || mainline && chosen.iter().any(|name| flags.contains(name)) {
        println!("cargo::rustc-cfg=arm_dsp");
    }
}
