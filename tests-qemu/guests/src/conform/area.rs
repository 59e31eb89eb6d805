//! The area as the ABI lays it out, and rseq(2) on it, raw.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::section::SIGNATURE;
use crate::errno::Errno;
use crate::sys::mm::{self, Access};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};

/// The length of the first ABI, accepted by every kernel.
pub const LEGACY: u32 = 32;
/// Registration flag, or none.
pub const REGISTER: u32 = 0;
pub const UNREGISTER: u32 = 1;

/// `struct rseq`, at the start of a page.
#[repr(C, align(256))]
pub struct Area {
    pub cpu_id_start: AtomicU32,
    pub cpu_id: AtomicU32,
    pub cs: AtomicU64,
    pub flags: AtomicU32,
    pub node_id: AtomicU32,
    pub mm_cid: AtomicU32,
    /// Request and grant, a byte each.
    pub slice: AtomicU32,
    rest: [AtomicU32; 56],
}

/// cpu_id of an area that no kernel knows.
pub const UNINITIALIZED: u32 = u32::MAX;

impl Area {
    /// A new page, zeroed except for cpu_id, and never unmapped.
    pub fn new() -> &'static Area {
        let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
        // SAFETY: a page of zeroes is an area.
        let area = unsafe { &*page.cast::<Area>() };
        area.cpu_id.store(UNINITIALIZED, Relaxed);
        area
    }

    pub fn at(&self) -> *mut u8 {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    pub fn register(&self, length: u32) -> Result<(), Errno> {
        ask(self.at(), length, REGISTER, SIGNATURE)
    }

    pub fn unregister(&self, length: u32) -> Result<(), Errno> {
        ask(self.at(), length, UNREGISTER, SIGNATURE)
    }

    /// cpu_id_start, cpu_id, node_id, mm_cid.
    pub fn ids(&self) -> [u32; 4] {
        [
            &self.cpu_id_start,
            &self.cpu_id,
            &self.node_id,
            &self.mm_cid,
        ]
        .map(|id| id.load(Relaxed))
    }

    /// Stores to every field that a kernel may write.
    pub fn fill(&self, word: u32) {
        for id in [
            &self.cpu_id_start,
            &self.cpu_id,
            &self.node_id,
            &self.mm_cid,
        ] {
            id.store(word, Relaxed);
        }
        self.cs.store(0, Relaxed);
    }
}

/// rseq(2) for a check, in whose process nothing else is registered.
pub fn ask(at: *mut u8, length: u32, flags: u32, signature: u32) -> Result<(), Errno> {
    // SAFETY: rseq (1) the area stays mapped, unless the check is about that; (2) nothing else registers.
    unsafe { rseq(at, length, flags, signature) }
}

/// Moves the calling thread to each CPU that it may use, and calls `look` there.
#[track_caller]
pub fn on_each_cpu(mut look: impl FnMut(u32)) {
    let all = sched::allowed().unwrap();
    for cpu in all.iter() {
        pin(cpu);
        look(cpu);
    }
    sched::allow(0, &all).unwrap();
}

#[track_caller]
pub fn pin(cpu: u32) {
    sched::allow(0, &CpuSet::one(cpu)).unwrap();
}

/// cpu_id and cpu_id_start agree with getcpu(2) on each CPU.
#[track_caller]
pub fn agrees_everywhere(area: &Area, who: &str) {
    on_each_cpu(|cpu| {
        let (seen, _) = sched::getcpu().unwrap();
        let [start, id, ..] = area.ids();
        agree!(
            (start, id),
            (seen, seen),
            "{who}: cpu_id_start and cpu_id, pinned to CPU {cpu}"
        );
    });
}
