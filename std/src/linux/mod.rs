//! Where there may be rseq.

mod broken;
mod fork;
mod lists;
mod sums;
mod thread;

use std::fs::File;
use std::io::Read;

use rseq_rt::structures::CpuSet;

use crate::lazy::Array;

pub(crate) use lists::Lists;
pub(crate) use rseq_rt::structures::Node;
pub(crate) use sums::Sums;
pub(crate) use thread::{cpu, start, stop, support};

/// One more than the highest number of a CPU. Without allocation, as a global allocator may be asking.
pub(crate) fn possible_cpus() -> usize {
    let told = highest_possible().map(|highest| highest + 1);
    told.or_else(limit).unwrap_or(1)
}

fn highest_possible() -> Option<usize> {
    let mut text = [0; 4096];
    let mut file = File::open("/sys/devices/system/cpu/possible").ok()?;
    let length = file.read(&mut text).ok()?;
    last_number(text.get(..length)?)
}

/// The last number of a list such as `0-3,8-11`, which rises.
fn last_number(list: &[u8]) -> Option<usize> {
    let last = list
        .trim_ascii()
        .rsplit(|byte| !byte.is_ascii_digit())
        .next()?;
    std::str::from_utf8(last).ok()?.parse().ok()
}

/// As many as the kernel's own sets of CPUs have room for. Not what is in the set: that is what one thread may use, and
/// the next one may use others.
fn limit() -> Option<usize> {
    CpuSet::bound().ok()
}

/// The slots, for longer than the compiler can see.
///
/// # Safety
/// 1. They are not used after the array is dropped.
unsafe fn as_static<T>(slots: &Array<T>) -> &'static [T] {
    let slots: *const [T] = &raw const **slots;
    // SAFETY: (1).
    unsafe { &*slots }
}

#[cfg(test)]
mod tests {
    use super::{highest_possible, last_number, limit};

    #[test]
    fn lists_of_every_form() {
        for (list, last) in [
            ("0\n", Some(0)),
            ("0-7\n", Some(7)),
            ("0-3,8-11\n", Some(11)),
            ("0,2", Some(2)),
            ("", None),
            ("\n", None),
            ("0-", None),
        ] {
            assert_eq!(last_number(list.as_bytes()), last, "{list}");
        }
    }

    #[test]
    fn the_kernel_has_room_for_what_is_possible() {
        let (possible, limit) = (highest_possible(), limit());
        assert!(limit.is_some());
        assert!(possible < limit);
    }
}
