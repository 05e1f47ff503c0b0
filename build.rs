//! Makes Cargo notice a policy or a guard that is new or changed: they are embedded by a macro, whose inputs Cargo does not know.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=policies");
    println!("cargo::rerun-if-changed=charts/ringfence/guards");
}
