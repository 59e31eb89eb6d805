//! The program's stores to kernel fields: repaired up to 6.18 and for areas of 32 bytes, fatal for longer ones from
//! 7.0.10 on.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use linux_raw_sys::general::SIGSEGV;

use super::Check;
use super::area::{Area, LEGACY, on_each_cpu};
use super::ids::registered;
use super::repeat::each_length;
use super::system::{Needs, System};
use crate::harness::{forked, passed, skip};
use crate::sys::process::{self, Status, exit_group};

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("stores/no-survivor", "a wrong number that the program stores to cpu_id or cpu_id_start does not outlive its next migration: it is repaired, or the thread is killed by SIGSEGV", survivor).needs(Needs::TwoCpus),
    Check::nuisance("stores/legacy", "with length 32 such a store is repaired", legacy).needs(Needs::TwoCpus),
    Check::nuisance("stores/v2", "from Linux 7.0 on, with a longer length, such a store is fatal", v2).needs(Needs::TwoCpus),
];

const WRONG: u32 = 0x7777;
const REPAIRED: i32 = 3;
const SURVIVED: i32 = 4;

const FIELDS: [fn(&Area) -> &AtomicU32; 2] = [|area| &area.cpu_id, |area| &area.cpu_id_start];

/// The end of a process that stores to one of its ids and then migrates.
fn end(length: u32, field: fn(&Area) -> &AtomicU32) -> Status {
    let status = forked(|| {
        process::no_core_dump();
        let area = registered(length);
        field(area).store(WRONG, Relaxed);
        on_each_cpu(|_| {});
        let is_wrong = area.ids().contains(&WRONG);
        exit_group(if is_wrong { SURVIVED } else { REPAIRED });
    });
    status.unwrap()
}

const KILLED: Status = Status::Killed(SIGSEGV as i32);

fn survivor(system: &System<'_>) {
    each_length(system, |length| {
        for field in FIELDS {
            let end = end(length, field);
            let fine = matches!(end, Status::Exited(REPAIRED) | KILLED);
            let survived = end == Status::Exited(SURVIVED);
            assert!(!survived, "it is there still, length {length}");
            assert!(fine, "{end}, length {length}");
        }
    });
}

fn legacy(_: &System<'_>) {
    for field in FIELDS {
        let end = end(LEGACY, field);
        agree!(end, Status::Exited(REPAIRED), "length 32");
    }
}

fn v2(system: &System<'_>) {
    let length = system.length();
    if length <= LEGACY {
        skip!("the feature size is {}", system.fields());
    }
    for field in FIELDS {
        agree!(end(length, field), KILLED, "length {length}");
    }
    passed!("length {length}");
}
