//! Targets without rseq: rseq-rt fails with one clear error, rseq-rt-std compiles.

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::compiler::{cargo, finish, has_std};
use crate::context::Context;
use crate::outcome::Missing;

/// A 32-bit target, another operating system, a big-endian target.
const TARGETS: [&str; 3] = [
    "i686-unknown-linux-gnu",
    "x86_64-pc-windows-gnu",
    "s390x-unknown-linux-gnu",
];

/// The start of the error in `src/lib.rs`.
const SENTENCE: &str = "error: rseq-rt needs Linux on x86_64, aarch64 or riscv64";

pub fn cases() -> Vec<Case> {
    let case = |target| Case::new(format!("target/{target}"), move |cx| check(cx, target));
    TARGETS.map(case).into()
}

fn check(cx: &Context, target: &str) -> Result<()> {
    if !has_std(cx, target) {
        let why = format!("the compiler has no std for {target}");
        return Err(Missing::optional(why));
    }
    let check = |package| {
        let arguments = ["check", "--quiet", "--lib", "--package", package];
        let mut check = cargo(cx, None, &arguments);
        check.args(["--target-dir", "target/embed/targets", "--target", target]);
        finish(check)
    };
    let refused = check("rseq-rt")?;
    ensure!(!refused.ok(), "rseq-rt compiles for {target}");
    let errors: Vec<&str> = errors(&refused.output).collect();
    let [error] = errors[..] else {
        anyhow::bail!("{} errors: {}", errors.len(), refused.output);
    };
    ensure!(error.starts_with(SENTENCE), "{error}");
    check("rseq-rt-std")?.check("rseq-rt-std")?;
    Ok(())
}

/// The first lines of the compiler's errors, without its summary.
fn errors(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .filter(|line| line.starts_with("error") && !line.starts_with("error: could not compile"))
}
