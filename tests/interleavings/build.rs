//! Sets `cfg(shuttle)` for the sources of the core.

fn main() {
    println!("cargo::rustc-cfg=shuttle");
    println!("cargo::rerun-if-changed=build.rs");
}
