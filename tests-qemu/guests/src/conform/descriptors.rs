//! Invalid descriptors: the kernel kills a thread that it would abort by one.

use linux_raw_sys::general::SIGSEGV;

use super::Check;
use super::aborts::{TURNS, WORDS, under_signals};
use super::area::Area;
use super::ids::registered;
use super::repeat::each_length;
use super::section::{ABORTED, Cs, stand_cs};
use super::system::System;
use crate::harness::{forked, passed};
use crate::sys::mm::{self, Access};
use crate::sys::process::{self, Status, exit_group};

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("descriptor/signature", "an abort handler without the registered signature before it kills by SIGSEGV: no other code is jumped to", signature),
    Check::nuisance("descriptor/version", "a descriptor whose version is not 0 kills by SIGSEGV, or is taken for one of version 0 (from Linux 7.0 on)", version),
    Check::nuisance("descriptor/abort-inside", "an abort handler inside of its own section kills by SIGSEGV, or is jumped to (from Linux 7.0 on)", inside),
    Check::nuisance("descriptor/unmapped", "an rseq_cs that points at no readable memory kills by SIGSEGV", unmapped),
    Check::nuisance("descriptor/not-user-space", "an rseq_cs beyond user space kills by SIGSEGV", beyond),
];

const KILLED: Status = Status::Killed(SIGSEGV as i32);

/// The exit code of a thread whose section ended with `end`.
const fn ended(end: usize) -> i32 {
    10 + end as i32
}

/// The end of a thread that spins in the section with this descriptor and gets signals.
fn end(cs: *const Cs, length: u32) -> Status {
    let status = forked(|| {
        process::no_core_dump();
        let area: &Area = registered(length);
        let _timer = under_signals();
        // SAFETY: (1) this process may die.
        exit_group(ended(unsafe { WORDS.stand_as(area, cs, 1, TURNS) }));
    });
    status.unwrap()
}

#[track_caller]
fn kills(system: &System<'_>, cs: *const Cs) {
    each_length(system, |length| {
        agree!(end(cs, length), KILLED, "the thread, length {length}");
    });
}

#[track_caller]
fn kills_or_aborts(system: &System<'_>, cs: &Cs) {
    each_length(system, |length| match end(cs, length) {
        KILLED => passed!("killed"),
        Status::Exited(code) if code == ended(ABORTED) => passed!("aborted"),
        end => panic!("the thread: {end}, length {length}"),
    });
}

fn signature(system: &System<'_>) {
    let mut cs = *stand_cs();
    // The instruction after the commit, which has no signature before it.
    cs.abort_ip = cs.start_ip + cs.post_commit_offset;
    kills(system, &raw const cs);
}

fn version(system: &System<'_>) {
    let mut cs = *stand_cs();
    cs.version = 1;
    kills_or_aborts(system, &cs);
}

fn inside(system: &System<'_>) {
    let mut cs = *stand_cs();
    // Extended so that it covers the handler, whose signature stays in place.
    cs.post_commit_offset = cs.abort_ip + 4 - cs.start_ip;
    kills_or_aborts(system, &cs);
}

fn unmapped(system: &System<'_>) {
    // Stays mapped, so that no other mapping takes its place.
    let page = mm::map(mm::page_size(), Access::None).unwrap();
    kills(system, page.cast());
}

fn beyond(system: &System<'_>) {
    kills(system, core::ptr::without_provenance(usize::MAX << 12));
}
