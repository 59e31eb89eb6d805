//! membarrier(2)'s fence of sections.

use super::Check;
use super::aborts::stands;
use super::repeat::each_length;
use super::system::{Needs, System};
use crate::errno::Errno;
use crate::sys::rseq::membarrier;
use crate::sys::sched::{self, CpuSet};

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::nuisance("fence/unregistered", "the fence answers EPERM to a process that has not registered for it", unregistered).needs(Needs::Fence),
    Check::dangerous("fence/all", "MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ returns after every section that another thread of the process was in is aborted or committed", all).needs(Needs::Fence),
    Check::dangerous("fence/one-cpu", "with MEMBARRIER_CMD_FLAG_CPU the same holds for the sections of that CPU", one_cpu).needs(Needs::Fence),
];

const REGISTER: i32 = 256;
const FENCE: i32 = 128;
const FLAG_CPU: u32 = 1;

fn unregistered(_: &System<'_>) {
    agree!(membarrier(FENCE, 0, 0), Err(Errno::PERM), "the fence");
}

/// A section on one CPU, and the fence from another one.
fn fenced(system: &System<'_>, fence: fn(u32, u32)) {
    each_length(system, |length| {
        membarrier(REGISTER, 0, 0).unwrap();
        let [here, there] = [0, 1].map(|nth| system.cpus.iter().nth(nth).unwrap());
        // The helper inherits it.
        sched::allow(0, &CpuSet::one(there)).unwrap();
        stands(length, "a fence", here, fence, |_| true);
    });
}

fn all(system: &System<'_>) {
    fenced(system, |_, _| membarrier(FENCE, 0, 0).unwrap());
}

fn one_cpu(system: &System<'_>) {
    let probe = crate::harness::forked(|| {
        let answer = membarrier(REGISTER, 0, 0).and_then(|()| membarrier(FENCE, FLAG_CPU, 0));
        crate::sys::process::exit_group(i32::from(answer.is_err()));
    });
    if probe != Ok(crate::sys::process::Status::Exited(0)) {
        crate::harness::skip!("no MEMBARRIER_CMD_FLAG_CPU here");
    }
    fenced(system, |cpu, _| {
        membarrier(FENCE, FLAG_CPU, cpu as i32).unwrap()
    });
}
