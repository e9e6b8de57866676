//! Has the C compiler compare what `src/knot` says of knotd's ABI with the `knot/module.h` that is installed.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// ABIs that there are bindings of: Knot 3.2 has 400.
const KNOWN_ABIS: [&str; 1] = ["400"];

/// The C file that asserts everything of the layout.
struct Asserts(String);

macro_rules! sizes {
    ($($c:literal $rust:ident $bytes:literal;)*) => {
        fn sizes(asserts: &mut Asserts) {
            $(asserts.equal(&format!("sizeof({})", $c), $bytes);)*
        }
    };
}
macro_rules! offsets {
    ($($c:literal $rust:ident $field:literal $rust_field:ident $offset:literal;)*) => {
        fn offsets(asserts: &mut Asserts) {
            $(asserts.equal(&format!("offsetof({}, {})", $c, $field), $offset);)*
        }
    };
}
macro_rules! constants {
    ($($c:literal $rust:ident $value:literal;)*) => {
        fn constants(asserts: &mut Asserts) {
            $(asserts.equal($c, $value);)*
        }
    };
}
macro_rules! functions {
    ($($name:literal $kind:literal;)*) => {
        fn functions(asserts: &mut Asserts) {
            $(asserts.holds(&format!("__builtin_types_compatible_p(__typeof__(&{}), {})", $name, $kind));)*
        }
    };
}
include!("src/knot/layout400.rs");

impl Asserts {
    fn equal(&mut self, what: &str, value: i64) {
        self.holds(&format!("(long long)({what}) == {value}LL"));
    }

    fn holds(&mut self, what: &str) {
        writeln!(self.0, "_Static_assert({what}, \"{}\");", what.replace('"', "'"))
            .expect("writing to a String");
    }
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/knot/layout400.rs");
    println!("cargo::rerun-if-changed=/usr/include/knot/module.h");
    println!("cargo::rerun-if-env-changed=CC");
    // knotd closes the library when its configuration is read anew, and our thread may not be left without its code.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    if let Err(problem) = check() {
        println!("cargo::error={problem}");
    }
}

fn check() -> Result<(), String> {
    let abi = abi_version()?;
    if !KNOWN_ABIS.contains(&abi.as_str()) {
        return Err(format!(
            "the installed knot/module.h is of module ABI {abi}; there are bindings of {} alone",
            KNOWN_ABIS.join(", ")
        ));
    }
    let mut asserts = Asserts("#include <stddef.h>\n#include <knot/module.h>\n".into());
    sizes(&mut asserts);
    offsets(&mut asserts);
    constants(&mut asserts);
    functions(&mut asserts);
    let folder = std::env::var_os("OUT_DIR").ok_or("OUT_DIR isn't set")?;
    let file = Path::new(&folder).join("layout.c");
    std::fs::write(&file, asserts.0).map_err(|error| format!("{}: {error}", file.display()))?;
    let output = compiler(&["-std=gnu11", "-w", "-fsyntax-only"], Some(&file))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let first = errors.lines().find(|line| line.contains("error")).unwrap_or("the C compiler failed");
        return Err(format!("knot/module.h of ABI {abi} isn't as src/knot/layout{abi}.rs has it: {first}"));
    }
    Ok(())
}

/// What the header says that it is.
fn abi_version() -> Result<String, String> {
    let output = compiler(&["-E", "-dM", "-include", "knot/module.h", "-x", "c", "/dev/null"], None)?;
    if !output.status.success() {
        return Err("knot/module.h is missing: install Debian's package libknot-dev".into());
    }
    let macros = String::from_utf8_lossy(&output.stdout);
    let version = macros.lines().find_map(|line| line.strip_prefix("#define KNOTD_MOD_ABI_VERSION "));
    version.map(|version| version.trim().to_owned()).ok_or("knot/module.h names no ABI version".into())
}

fn compiler(arguments: &[&str], file: Option<&Path>) -> Result<std::process::Output, String> {
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&cc);
    command.args(arguments).args(file).stdin(Stdio::null());
    command.output().map_err(|error| {
        format!("the C compiler `{}` can't be run: {error}: install Debian's package gcc", cc.display())
    })
}
