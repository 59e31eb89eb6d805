//! membarrier(2)'s rseq fence.

use super::Check;
use super::aborts::{Helper, stands, two};
use super::repeat::each_length;
use super::system::{Needs, System};
use crate::errno::Errno;
use crate::harness::{forked, skip};
use crate::sys::process::{Status, exit_group};
use crate::sys::rseq::membarrier;

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
fn fenced(system: &System<'_>, act: fn(&Helper, usize)) {
    each_length(system, |length| {
        membarrier(REGISTER, 0, 0).unwrap();
        let helper = Helper {
            what: "a fence",
            cpus: two(system),
            act,
            tid: 0,
        };
        stands(length, helper, |_| true);
    });
}

fn all(system: &System<'_>) {
    fenced(system, |_, _| membarrier(FENCE, 0, 0).unwrap());
}

fn one_cpu(system: &System<'_>) {
    let probe = forked(|| {
        let answer = membarrier(REGISTER, 0, 0).and_then(|()| membarrier(FENCE, FLAG_CPU, 0));
        exit_group(i32::from(answer.is_err()));
    });
    if probe != Ok(Status::Exited(0)) {
        skip!("no MEMBARRIER_CMD_FLAG_CPU here");
    }
    fenced(system, |helper, _| {
        membarrier(FENCE, FLAG_CPU, helper.cpus[0] as i32).unwrap();
    });
}
