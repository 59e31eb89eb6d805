//! A kernel that answers by the table, for one process of two threads.
//!
//! It accesses the areas only through the pointers passed to rseq(2), and only atomically, so that Miri can run
//! everything above it.

pub mod answers;
pub mod calls;
pub mod generation;
mod hooks;
pub mod machine;
pub mod signal;
pub mod task;

pub use answers::{Answer, Answers, Call, Filter, Foreign, Memory, PLAIN};
pub use generation::Generation;
pub use hooks::Hooks;
pub use machine::Machine;

use rseq_rt::abi::Rseq;
use rseq_rt::{Area, Config, Process};

/// The structure that the kernel writes.
pub fn rseq_of(area: &Area) -> &Rseq {
    // SAFETY: atomics, for as long as the area exists.
    unsafe { &*area.as_rseq() }
}

/// The configuration that a program on this kernel derives from its auxv.
pub fn config(generation: Generation) -> Config {
    Config::new(
        generation.auxv.map(|(size, _)| size),
        generation.auxv.map(|(_, align)| align),
    )
}

/// No wish of the runtime's.
pub fn as_is(config: Config) -> Config {
    config
}

/// One process on this kernel, initialized, with signals open and an area for each of its two threads.
pub fn run<R>(
    generation: Generation,
    answers: Answers,
    configure: fn(Config) -> Config,
    program: impl FnOnce(&Machine, &Process<&Machine>, &[Area; 2]) -> R,
) -> R {
    let machine = Machine::new(generation, answers);
    machine.boot(0);
    let process = Process::with_kernel(&machine);
    let areas = [Area::new(), Area::new()];
    // SAFETY: Handler::attach (1): all of them live to the end of this function, the last use of `machine`.
    unsafe { machine.handler.attach(&process, &areas) };
    process
        .init(configure(config(generation)))
        .expect("the first init");
    let result = program(&machine, &process, &areas);
    machine.check_ids();
    assert_eq!(machine.violation(), None);
    result
}
