//! The kernel's own answers to rseq(2), raw, by generation. The fake kernel of the host's tests answers the same.

use linux_raw_sys::general::SIGSEGV;
use rseq_rt::abi::{
    CS_FLAG_SLICE_EXT_AVAILABLE, CS_FLAG_SLICE_EXT_ENABLED, FLAG_SLICE_EXT_DEFAULT_ON,
    FLAG_UNREGISTER, Rseq,
};
use rseq_rt::arch::SIGNATURE;

use core::sync::atomic::Ordering::Relaxed;

use crate::errno::Errno;
use crate::harness::{Ctx, must_die, passed};
use crate::sys::mm::{self, Access};
use crate::sys::rseq::rseq;
use crate::sys::{process, sched};
use crate::witness;

/// The rules that a kernel follows, by its feature size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 4.18 to 6.2.
    Only32,
    /// 6.3 to 6.18.
    Extensible,
    /// 6.19: the lengths of those before, and the rest of those after.
    V6_19,
    /// 7.0 on.
    V2,
}

impl Generation {
    pub fn of(ctx: &Ctx) -> Self {
        let is_6_19 =
            process::uname().is_ok_and(|name| process::field(&name.release).starts_with(b"6.19."));
        match ctx.facts.feature_size {
            0..24 => Self::Only32,
            24..33 if is_6_19 => Self::V6_19,
            24..33 => Self::Extensible,
            _ => Self::V2,
        }
    }

    /// The answer to a valid registration of `length` bytes at an address aligned to `align`, at most 64.
    fn takes(self, length: u32, align: usize) -> Result<(), Errno> {
        let fine = match (self, length) {
            (_, 32) => align >= 32,
            (Self::Only32, _) => false,
            (Self::Extensible | Self::V6_19, _) => length > 32 && align >= 32,
            (Self::V2, _) => length >= 33 && align >= 64,
        };
        if fine { Ok(()) } else { Err(Errno::INVAL) }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Only32 => "as 4.18 to 6.2",
            Self::Extensible => "as 6.3 to 6.18",
            Self::V6_19 => "as 6.19",
            Self::V2 => "as 7.0 and later",
        }
    }
}

/// A page of zeroes.
fn page() -> *mut u8 {
    mm::map(mm::page_size(), Access::ReadWrite).unwrap()
}

/// rseq(2) on memory that lives as long as the test's process.
fn ask(at: *mut u8, length: u32, flags: u32, signature: u32) -> Result<(), Errno> {
    // SAFETY: rseq (1) what these tests register stays mapped, or is refused; (2) nobody else registers here.
    unsafe { rseq(at, length, flags, signature) }
}

#[track_caller]
fn expect(at: *mut u8, length: u32, flags: u32, signature: u32, answer: Result<(), Errno>) {
    let seen = ask(at, length, flags, signature);
    assert_eq!(
        seen, answer,
        "length {length} at {at:p}, flags {flags}, signature {signature:#x}"
    );
}

/// [`expect`] with the crate's signature, and unregisters where that passed.
#[track_caller]
fn tries(at: *mut u8, length: u32, flags: u32, answer: Result<(), Errno>) {
    expect(at, length, flags, SIGNATURE, answer);
    if answer.is_ok() {
        unregisters(at, length, SIGNATURE);
    }
}

#[track_caller]
fn registers(at: *mut u8, length: u32, signature: u32) {
    expect(at, length, 0, signature, Ok(()));
}

#[track_caller]
fn unregisters(at: *mut u8, length: u32, signature: u32) {
    expect(at, length, FLAG_UNREGISTER, signature, Ok(()));
}

/// Those of 32 and 33 that the kernel takes.
fn taken_lengths(generation: Generation) -> impl Iterator<Item = u32> {
    let takes = move |&length: &u32| generation.takes(length, 64).is_ok();
    [32, 33].into_iter().filter(takes)
}

pub fn lengths(ctx: &Ctx) {
    let generation = Generation::of(ctx);
    let page = page();
    for length in [
        0, 1, 20, 24, 28, 31, 32, 33, 34, 40, 48, 63, 64, 96, 128, 200, 256,
    ] {
        for align in [1, 4, 8, 16, 32, 64] {
            // An odd multiple of `align`, so that the address is aligned to no more.
            let at = page.wrapping_add(align);
            tries(at, length, 0, generation.takes(length, align));
        }
    }
    let both = FLAG_UNREGISTER | FLAG_SLICE_EXT_DEFAULT_ON;
    for flags in [4, 8, 0x8000_0000, both, u32::MAX] {
        tries(page, 32, flags, Err(Errno::INVAL));
    }
    // A 7.x kernel takes the flag whether it has the extension or not, and says in the area which it is.
    if generation != Generation::V2 {
        tries(page, 33, FLAG_SLICE_EXT_DEFAULT_ON, Err(Errno::INVAL));
        passed!("{}", generation.name());
        return;
    }
    expect(page, 33, FLAG_SLICE_EXT_DEFAULT_ON, SIGNATURE, Ok(()));
    // SAFETY: the page holds an Rseq.
    let flags = unsafe { &(*page.cast::<Rseq>()).flags }.load(Relaxed);
    let on = CS_FLAG_SLICE_EXT_AVAILABLE | CS_FLAG_SLICE_EXT_ENABLED;
    assert!(flags == 0 || flags == on, "flags read {flags}");
    unregisters(page, 33, SIGNATURE);
    let slice = if flags == on { "yes" } else { "no" };
    passed!("{}, with the slice extension: {slice}", generation.name());
}

pub fn second(ctx: &Ctx) {
    let generation = Generation::of(ctx);
    let (page, other) = (page(), page());
    let null = core::ptr::null_mut();
    let refused = |at, length, signature, errno| expect(at, length, 0, signature, Err(errno));
    for length in taken_lengths(generation) {
        registers(page, length, SIGNATURE);
        for _ in 0..2 {
            refused(page, length, SIGNATURE, Errno::BUSY);
            refused(page, length, !SIGNATURE, Errno::PERM);
            for signature in [SIGNATURE, !SIGNATURE] {
                refused(other, length, signature, Errno::INVAL);
                refused(null, length, signature, Errno::INVAL);
                refused(null, 0, signature, Errno::INVAL);
                for wrong in [0, 20, 31, length + 1, 64] {
                    refused(page, wrong, signature, Errno::INVAL);
                }
            }
        }
        unregisters(page, length, SIGNATURE);
        // With another signature, it is that one that counts.
        registers(page, length, !SIGNATURE);
        refused(page, length, SIGNATURE, Errno::PERM);
        unregisters(page, length, !SIGNATURE);
    }
    passed!("{}", generation.name());
}

pub fn unregistration(ctx: &Ctx) {
    let generation = Generation::of(ctx);
    let (page, other) = (page(), page());
    let refused = |at, length, signature, errno| {
        expect(at, length, FLAG_UNREGISTER, signature, Err(errno));
    };
    refused(page, 32, SIGNATURE, Errno::INVAL);
    refused(core::ptr::null_mut(), 0, 0, Errno::INVAL);
    for length in taken_lengths(generation) {
        registers(page, length, SIGNATURE);
        refused(other, length, SIGNATURE, Errno::INVAL);
        refused(page, 32 + 33 - length, SIGNATURE, Errno::INVAL);
        refused(page, 0, SIGNATURE, Errno::INVAL);
        refused(page, length, !SIGNATURE, Errno::PERM);
        refused(other, length, !SIGNATURE, Errno::INVAL);
        // SAFETY: the page holds an Rseq.
        let area = unsafe { &*page.cast::<Rseq>() };
        assert!(area.cpu_id.load(Relaxed) >= 0, "refusals unregistered it");
        unregisters(page, length, SIGNATURE);
        let ids = (
            area.cpu_id_start.load(Relaxed),
            area.cpu_id.load(Relaxed),
            area.node_id.load(Relaxed),
            area.mm_cid.load(Relaxed),
        );
        // 6.19 stores its -1 to both words of the CPU.
        let start = match generation {
            Generation::V6_19 => u32::MAX,
            _ => 0,
        };
        assert_eq!(ids, (start, -1, 0, 0), "the ids afterwards");
        refused(page, length, SIGNATURE, Errno::INVAL);
    }
    passed!("{}", generation.name());
}

pub fn bad_memory(ctx: &Ctx) {
    let generation = Generation::of(ctx);
    let (gone, locked, read_only) = (page(), page(), page());
    let size = mm::page_size();
    // SAFETY: protect, unmap (1): nobody uses the pages.
    unsafe {
        mm::unmap(gone, size).unwrap();
        mm::protect(locked, size, Access::None).unwrap();
        mm::protect(read_only, size, Access::Read).unwrap();
    }
    let kernels = core::ptr::without_provenance_mut(usize::MAX << 12);
    for at in [gone, locked, kernels, core::ptr::null_mut()] {
        for length in taken_lengths(generation) {
            expect(at, length, 0, SIGNATURE, Err(Errno::FAULT));
        }
    }
    // The shape comes before the memory.
    tries(gone, 31, 0, Err(Errno::INVAL));
    if matches!(generation, Generation::V2 | Generation::V6_19) {
        tries(read_only, 32, 0, Err(Errno::FAULT));
    } else {
        must_die(SIGSEGV as i32, || _ = ask(read_only, 32, 0, SIGNATURE));
    }
    tries(page(), 32, 0, Ok(()));
    passed!("{}", generation.name());
}

pub fn fields(ctx: &Ctx) {
    let generation = Generation::of(ctx);
    let page = page();
    // SAFETY: a zeroed page is an Rseq.
    let area = unsafe { &*page.cast::<Rseq>() };
    for length in taken_lengths(generation) {
        area.cpu_id.store(-1, Relaxed);
        registers(page, length, SIGNATURE);
        witness::on_each_cpu(|_| {
            let (cpu, node) = sched::getcpu().unwrap();
            assert_eq!(area.cpu_id_start.load(Relaxed), cpu);
            assert_eq!(area.cpu_id.load(Relaxed) as u32, cpu);
            if ctx.facts.feature_size >= 24 {
                assert_eq!(area.node_id.load(Relaxed), node);
            }
            if ctx.facts.feature_size >= 28 {
                // One thread: its concurrency id is the lowest one there is, or becomes it.
                assert!(area.mm_cid.load(Relaxed) < 8192);
            }
        });
        unregisters(page, length, SIGNATURE);
    }
    passed!("{}", generation.name());
}
