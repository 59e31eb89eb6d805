//! The linker script of `linker/`, as text: for the build script of a program that depends on this crate.
//!
//! Cargo hands a dependent no path of a dependency's files, so that a build script takes the crate as a
//! build-dependency too and writes the text where the linker finds it:
//!
//! ```no_run
//! // The main function of build.rs, with `rseq-rt` under [build-dependencies].
//! let folder = std::env::var("OUT_DIR").expect("set by cargo");
//! let script = format!("{folder}/init.ld");
//! std::fs::write(&script, rseq_rt::linker::INIT).expect("a writable OUT_DIR");
//! for flag in ["-nostdlib", "-nostartfiles", "-static", "-no-pie"] {
//!     println!("cargo::rustc-link-arg-bins={flag}");
//! }
//! println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
//! ```

/// The whole link of a static, position-dependent init: `-nostdlib -nostartfiles -static -no-pie -T init.ld`.
/// GNU ld, lld; x86_64, aarch64, riscv64. Any other link keeps the rseq sections without a script.
pub const INIT: &str = include_str!("../linker/init.ld");
