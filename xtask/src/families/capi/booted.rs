//! C programs as PID 1 of the newest kernels, for what the host alone cannot show about the three CPUs.

use std::path::PathBuf;

use anyhow::Result;

use crate::arch::Arch;
use crate::case::Case;
use crate::cell::keep_console;
use crate::context::Context;
use crate::machine::boot;
use crate::machine::place::Place;
use crate::outcome::Failure;
use crate::process::{output, tool};
use crate::staticlib;

/// Files of `tests-qemu/capi`, the first of which names it, and its arguments.
type Program = (&'static [&'static str], &'static [&'static str]);

/// The programs that boot at a place.
fn programs(place: Place) -> &'static [Program] {
    match place.system() {
        Some(system) if system.is_newest() => &[
            (&["percpu"], &[]),
            (&["structures", "filter"], &[]),
            (&["buffers", "filter"], &[]),
            (&["sections"], &[]),
            (&["stopped"], &[]),
        ],
        Some(system) if system.name == "slice" => &[(&["slice", "slice-libc"], &["here"])],
        _ => &[],
    }
}

/// Whether a program boots there.
pub fn has_any(place: Place) -> bool {
    !programs(place).is_empty()
}

pub fn cases(place: Place) -> Vec<Case> {
    let case = |&program: &'static Program| {
        let name = format!("{}/init", program.0[0]);
        let case = Case::new(name, move |cx| run(cx, place, program));
        case.ahead(move |cx| build(cx, place.arch, program.0))
    };
    programs(place).iter().map(case).collect()
}

/// PID 1 has no exit code: the kernel's last words, or all tests' own.
fn run(cx: &Context, place: Place, (sources, arguments): Program) -> Result<String> {
    let program = sources[0];
    let file = build(cx, place.arch, sources)?;
    let finished = boot::run(cx, place, &file, &[], arguments)?.finished;
    keep_console(cx, &format!("capi-{program}"), place, &finished.output);
    let said = |end: &str| {
        let lines = finished.output.lines();
        lines.filter(|line| line.trim().ends_with(end)).count()
    };
    let (passed, failed) = (said(": passed"), said(": failed"));
    // These kernels have all that the programs ask for.
    let complete = !finished.output.contains(": skipped: ");
    if passed != 0 && failed == 0 && complete && finished.output.contains("exitcode=0x00000000") {
        return Ok(format!("{passed} tests"));
    }
    Err(Failure::error(finished.end.to_string(), finished.output))
}

fn build(cx: &Context, arch: Arch, sources: &[&str]) -> Result<PathBuf> {
    let program = sources[0];
    cx.once(format!("capi-init/{program}/{arch}"), || {
        let out = staticlib::built(cx, arch, false)?;
        let file = out.join(format!("{program}-init"));
        let source = |name: &&str| cx.root.join(format!("tests-qemu/capi/{name}.c"));
        let mut compile = tool(&arch.tool("gcc"))?;
        compile
            .args(["-std=gnu99", "-O2", "-static", "-Wl,-z,norelro"])
            .args(["-pthread", "-o"])
            .arg(&file)
            .args(sources.iter().map(source))
            .args(staticlib::options(&out));
        output(&mut compile, "the program does not compile", 120)?;
        Ok(file)
    })
}
