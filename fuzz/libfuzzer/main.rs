//! libFuzzer on the target that `FUZZ_TARGET` names: one program for all of them, as it takes long to build.

#![no_main]

use std::sync::LazyLock;

use fuzz::{Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    target(&std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names what is to be fuzzed"))
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
