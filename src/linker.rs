//! The linker scripts of `linker/`, as text: for the build script of a program that depends on this crate.
//!
//! Cargo hands a dependent no path of a dependency's files, so that a build script takes the crate as a
//! build-dependency too and writes the text where the linker finds it:
//!
//! ```no_run
//! // The main function of build.rs, with `rseq-rt` under [build-dependencies].
//! let folder = std::env::var("OUT_DIR").expect("set by cargo");
//! let script = format!("{folder}/rseq-sections.ld");
//! std::fs::write(&script, rseq_rt::linker::SECTIONS).expect("a writable OUT_DIR");
//! println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
//! ```

/// Keeps the rseq sections (descriptors, and the arrays that debuggers look for) in anybody's link, `--gc-sections` or
/// not. It adds to the default script: `-Wl,-T,rseq-sections.ld`. GNU ld, lld.
pub const SECTIONS: &str = include_str!("../linker/rseq-sections.ld");

/// The whole link of a static, position-dependent init: `-nostdlib -nostartfiles -static -no-pie -T init.ld`.
/// GNU ld, lld; x86_64, aarch64, riscv64.
pub const INIT: &str = include_str!("../linker/init.ld");
