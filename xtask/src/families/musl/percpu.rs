//! The musl of `--malloc percpu`: all programs natively, the malloc tests on the newest kernel of each CPU.

use anyhow::{Context as _, Result, bail, ensure};

use super::faults::{Row, native};
use super::lua;
use super::pigz;
use super::programs::{Kind, Programs, Which, names};
use super::{built, run};
use crate::arch::Arch;
use crate::case::{Case, Judged};
use crate::console;
use crate::context::Context;
use crate::machine::place::{Machine, Place};
use crate::musl::{Release, Source, Variant};
use crate::process::{command, output};

const PERCPU: Which = Which {
    source: Source::Release(Release::Bookworm),
    variant: Variant::Percpu,
};

const ROWS: [Row; 9] = [
    ("percpu/static", |cx, arch| programs(cx, arch, Kind::Static)),
    ("percpu/shared", |cx, arch| programs(cx, arch, Kind::Shared)),
    ("percpu/off", off),
    ("percpu/pigz/static", |cx, arch| {
        pigz::test(cx, arch, Variant::Percpu, Kind::Static)
    }),
    ("percpu/pigz/shared", |cx, arch| {
        pigz::test(cx, arch, Variant::Percpu, Kind::Shared)
    }),
    ("percpu/lua/static", |cx, arch| {
        lua::test(cx, arch, Variant::Percpu, Kind::Static)
    }),
    ("percpu/lua/shared", |cx, arch| {
        lua::test(cx, arch, Variant::Percpu, Kind::Shared)
    }),
    ("broken/malloc-without-section-is-seen", without_section),
    (
        "broken/malloc-without-section-is-seen-by-a-handler",
        interrupted_without_section,
    ),
];

/// Attempts of the storm against caches that are popped by plain stores: whether a switch falls in between is chance.
const TRIES: usize = 5;

pub fn cases(label: &str, place: Place) -> Vec<Case> {
    match place.machine {
        Machine::Native => {
            let case = |(name, run): Row| {
                let case = Case::new(name, move |cx| run(cx, place.arch));
                case.in_job(format!("our musl: {name}"))
            };
            ROWS.map(case).into()
        }
        Machine::Listed(_) if place.is_newest() => {
            let case = Case::new("percpu/malloc", move |cx| about_malloc(cx, place));
            let case = case.in_job(format!("musl --malloc percpu on {label}"));
            vec![case.ahead(built(PERCPU, place))]
        }
        _ => Vec::new(),
    }
}

/// All tests of the static or of the shared program.
fn programs(cx: &Context, arch: Arch, kind: Kind) -> Result<String> {
    let name = |name| format!("{}/{name}", kind.name());
    let names: Vec<String> = names(cx)?.into_iter().map(name).collect();
    Judged::sum(run(cx, &PERCPU, Place::of_programs(arch), &names)?)
}

/// The malloc tests of both programs.
fn about_malloc(cx: &Context, place: Place) -> Result<String> {
    let mut names = super::names(cx)?;
    names.retain(|name| name.contains("/malloc_"));
    Judged::sum(run(cx, &PERCPU, place, &names)?)
}

/// Without rseq there is no cache.
fn off(cx: &Context, arch: Arch) -> Result<String> {
    let program = Programs::open(cx, arch, Variant::Percpu)?.link_static(cx)?;
    let mut run = command(program);
    run.args(["--scale", "emulated", "--only", "malloc_"]);
    run.env("MUSL_RSEQ", "0").env("NO_RSEQ_EXPECTED", "");
    let said = output(&mut run, "the tests about malloc", 300)?;
    let done = said.lines().find_map(|line| line.strip_prefix("@done "));
    let mut facts = console::all(&said, "@fact");
    ensure!(facts.any(|fact| fact == "static_size 0"), "{said}");
    Ok(format!("MUSL_RSEQ=0: {}", done.unwrap_or_default()))
}

fn without_section(cx: &Context, arch: Arch) -> Result<String> {
    let program = Programs::open(cx, arch, Variant::PercpuBroken)?.link_static(cx)?;
    let arguments = ["--scale", "native", "--only", "malloc_storm"];
    let mut said = String::new();
    for storm in 1..=TRIES {
        said = native(cx, arch, &program, &arguments)?.finished.output;
        if said.contains("@test static/malloc_storm failed") {
            return Ok(format!("in storm {storm}"));
        }
    }
    bail!("not seen in {TRIES} storms: {said}")
}

/// A signal between the load and the store of such a pop: one of some thousand arrives there.
fn interrupted_without_section(cx: &Context, arch: Arch) -> Result<String> {
    let program = Programs::open(cx, arch, Variant::PercpuBroken)?.link_static(cx)?;
    let arguments = ["--scale", "native", "--only", "malloc_in_a_handler"];
    let said = native(cx, arch, &program, &arguments)?.finished.output;
    let failed = "@test static/malloc_in_a_handler failed: ";
    let why = said.lines().find_map(|line| line.strip_prefix(failed));
    Ok(why.with_context(|| format!("not seen: {said}"))?.to_owned())
}
