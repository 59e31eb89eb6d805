//! The demo, everywhere the suite runs.

use anyhow::Result;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::{At, keep_console};
use crate::console;
use crate::context::Context;
use crate::guests::{guest, guest_needs};
use crate::machine::boot::{Setup, USUAL, run_on};
use crate::machine::place::Place;
use crate::outcome::{Failure, Missing};

pub const FAMILY: Family = Family {
    name: "demo",
    cases,
    needs: guest_needs,
};

/// More CPUs than any libc's fixed-size CPU set holds.
const MANY: &str = "init-with-numbers-for-2048-cpus";

/// The kernel keeps data for each possible CPU, some 1.3 GiB in total.
const MANY_CPUS: Setup = Setup {
    memory: "3072",
    options: " possible_cpus=2048",
};

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    let mut cases = vec![Case::new("init", move |cx| {
        run(cx, place, "init", &USUAL, &[])
    })];
    // Only x86_64 takes so many; the code under test is ours, so one kernel suffices.
    let system = place.system();
    if place.arch == Arch::X86_64 && system.is_some_and(|system| system.name == "6.1") {
        cases.push(Case::new(MANY, move |cx| {
            if let Some(why) = too_little_memory() {
                return Err(Missing::optional(why));
            }
            let more = ["--threads", "4", "--cpu-numbers", "2048"];
            run(cx, place, MANY, &MANY_CPUS, &more)
        }));
    }
    Ok(cases)
}

fn run(cx: &Context, place: Place, test: &str, setup: &Setup, more: &[&str]) -> Result<String> {
    let arguments = [place.demo_arguments(), more].concat();
    let init = guest(cx, place.arch, "init")?;
    let run = run_on(cx, place, setup, &init, &[], &arguments)?.finished;
    keep_console(cx, &format!("demo-{test}"), place, &run.output);
    let demo = console::demo(&run.output, run.end, !place.boots());
    match demo.failure {
        None => Ok(demo.summary()),
        Some(why) => Err(Failure::error(why, run.output)),
    }
}

/// The reason why this machine has too little memory, if so.
fn too_little_memory() -> Option<String> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available: u64 = line.split_whitespace().next()?.parse().ok()?;
    (available < 3 << 20).then(|| format!("{} MiB of memory are not enough", available >> 10))
}
