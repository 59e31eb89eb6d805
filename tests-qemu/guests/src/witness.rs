//! The kernel's own view of a thread: whether it knows the area, and the thread's CPU.

use linux_raw_sys::general::SIGSEGV;
use rseq_rt::abi::Rseq;
use rseq_rt::{Area, arch};

use crate::errno::Errno;
use crate::harness::Facts;
use crate::hooked::RSEQ;
use crate::sys::process::{self, Status};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};

/// The structure that the kernel writes.
pub fn rseq_of(area: &Area) -> &Rseq {
    // SAFETY: atomics, for as long as the area exists.
    unsafe { &*area.as_rseq() }
}

pub fn cpus() -> CpuSet {
    sched::allowed().unwrap_or(CpuSet::empty())
}

/// Moves the calling thread to each CPU that it may use, and calls `look` there.
#[track_caller]
pub fn on_each_cpu(mut look: impl FnMut(u32)) {
    let all = cpus();
    for cpu in all.iter() {
        sched::allow(0, &CpuSet::one(cpu)).unwrap();
        look(cpu);
    }
    sched::allow(0, &all).unwrap();
}

/// Moves the calling thread to each CPU of `set`.
pub fn migrate(set: CpuSet) {
    for cpu in set.iter() {
        let _ = sched::allow(0, &CpuSet::one(cpu));
    }
    let _ = sched::allow(0, &set);
}

/// The kernel's view of the calling thread's area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    Nothing,
    This,
    Other,
}

/// Queries the kernel. Only a valid request gets a true answer.
pub fn ask(area: &Area, length: u32) -> Known {
    let area = core::ptr::from_ref(area).cast_mut().cast();
    // SAFETY: (1) undone at once if it succeeds; (2) it replaces nothing.
    unsafe {
        match rseq(area, length, 0, arch::SIGNATURE) {
            Ok(()) => {
                let _ = rseq(area, length, 1, arch::SIGNATURE);
                Known::Nothing
            }
            Err(Errno::BUSY) => Known::This,
            Err(_) => Known::Other,
        }
    }
}

/// Whether this very area is registered for the calling thread. Only a valid request gets a true answer: EBUSY.
pub fn kernel_knows(area: &Area) -> bool {
    ask(area, RSEQ.length()) == Known::This
}

/// Does the kernel know of no area of the calling thread? Asked with a scratch area.
pub fn is_unregistered() -> bool {
    let scratch = Area::new();
    let at = (&raw const scratch).cast_mut().cast();
    // SAFETY: (1) undone at once; (2) success means that there was nobody.
    unsafe { rseq(at, 32, 0, arch::SIGNATURE).is_ok() && rseq(at, 32, 1, arch::SIGNATURE).is_ok() }
}

/// Does this kernel kill for a store to the ids of an area longer than 32? Linux 7.0.10 and later.
pub fn kills_for_stores(facts: &Facts) -> bool {
    facts.feature_size >= 33
        && !process::uname().is_ok_and(|name| early(process::field(&name.release)))
}

/// The end of a child that stored to the ids of an area of length 32; it exits with `code` if the kernel repaired them.
pub fn end_with_length_32(facts: &Facts, code: i32) -> Status {
    if facts.strict {
        Status::Killed(SIGSEGV as i32)
    } else {
        Status::Exited(code)
    }
}

/// 7.0.0 to 7.0.9 have the feature size but not yet the rule.
fn early(release: &[u8]) -> bool {
    match release.strip_prefix(b"7.0") {
        Some([b'.', b'0'..=b'9', next, ..]) => !next.is_ascii_digit(),
        Some([b'.', b'0'..=b'9'] | [] | [b'-', ..]) => true,
        _ => false,
    }
}
