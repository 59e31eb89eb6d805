//! The tests of the harness and of the runtime: a storm that sends no signal, or a watchdog that ends no hang, would
//! make every test on top of it worthless.

pub mod harness;
mod kernel;
pub mod panics;
mod storms;
mod threads;

use crate::harness::{Needs, Test};

pub const TESTS: &[Test] = &[
    Test::new("runtime-memory", threads::memory),
    Test::new("runtime-threads-joined-and-unmapped", threads::threads),
    Test::new("runtime-block-outside-the-stack", threads::block_outside),
    Test::new("runtime-block-in-handler", storms::block_in_handler),
    Test::new("runtime-timer-storm", storms::timer_storm),
    Test::new("runtime-tgkill-storm", storms::tgkill_storm),
    Test::new("runtime-death-is-seen", kernel::death),
    Test::new("runtime-guard-page", kernel::guard_page),
    Test::new("runtime-vfork", kernel::vfork).needs(Needs::REAL_KERNEL),
    Test::new("runtime-seccomp-answers", kernel::filter).needs(Needs::SECCOMP),
    Test::new("runtime-ptrace-counts-calls", kernel::counted).needs(Needs::PTRACE),
    Test::new("runtime-affinity-moves", kernel::affinity).needs(Needs::NOTHING.cpus(2)),
];

const STACK: usize = 32 * 1024;
