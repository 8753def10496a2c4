//! Puts the memory map where the linker finds it, and asks for cortex-m-rt's linker script.

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::copy("memory.x", std::path::Path::new(&out).join("memory.x")).expect("OUT_DIR can be written to");
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={out}");
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
}
