//! Compiles the shim that slows down and counts syncs; its path is handed to the program.

fn main() {
    let source = "../../testbed/assets/sync-delay.c";
    let library = std::path::Path::new(&std::env::var_os("OUT_DIR").unwrap()).join("sync-delay.so");
    let compiler = cc::Build::new().get_compiler();
    let done = std::process::Command::new(compiler.path())
        .args(["-O2", "-Wall", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status()
        .expect("a C compiler is needed for the sync-delay shim");
    assert!(done.success(), "the sync-delay shim does not compile");
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rustc-env=SYNC_DELAY_LIBRARY={}", library.display());
}
