//! What the kernel itself answers to rseq(2), raw, by generation. The fake kernel of the host's tests answers the same.

use linux_raw_sys::general::SIGSEGV;
use rseq_rt::abi::{
    CS_FLAG_SLICE_EXT_AVAILABLE, CS_FLAG_SLICE_EXT_ENABLED, FLAG_SLICE_EXT_DEFAULT_ON,
    FLAG_UNREGISTER, Rseq,
};
use rseq_rt::arch::SIGNATURE;

use core::sync::atomic::Ordering::Relaxed;

use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Verdict, expect_killed_by, failed};
use crate::sys::mm::{self, Access};
use crate::sys::process;
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::{check, passed, text};

/// The rules that a kernel follows, by its feature size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
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
    pub(super) fn of(ctx: &Ctx<'_>) -> Self {
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
fn page() -> Result<*mut u8, Errno> {
    mm::map(mm::page_size(), Access::ReadWrite)
}

/// rseq(2) on memory that lives as long as the test's process.
fn ask(at: *mut u8, length: u32, flags: u32, signature: u32) -> Result<(), Errno> {
    // SAFETY: rseq (1) what these tests register stays mapped, or is refused; (2) nobody else registers here.
    unsafe { rseq(at, length, flags, signature) }
}

/// Registers, and unregisters where that passed.
#[track_caller]
fn expect(at: *mut u8, length: u32, flags: u32, answer: Result<(), Errno>) -> Result<(), Failed> {
    let seen = ask(at, length, flags, SIGNATURE);
    if seen != answer {
        return Err(failed(text!(
            "length ",
            length,
            " at ",
            at,
            " with flags ",
            flags,
            ": ",
            seen,
            " and not ",
            answer
        )));
    }
    if seen.is_ok() {
        expect_plain(at, length, FLAG_UNREGISTER, SIGNATURE, Ok(()))?;
    }
    Ok(())
}

#[track_caller]
fn expect_plain(
    at: *mut u8,
    length: u32,
    flags: u32,
    signature: u32,
    answer: Result<(), Errno>,
) -> Result<(), Failed> {
    let seen = ask(at, length, flags, signature);
    if seen == answer {
        return Ok(());
    }
    Err(failed(text!(
        "length ",
        length,
        " at ",
        at,
        " with flags ",
        flags,
        " signed ",
        signature,
        ": ",
        seen,
        " and not ",
        answer
    )))
}

pub(super) fn lengths(ctx: &Ctx<'_>) -> Verdict {
    let generation = Generation::of(ctx);
    let page = page()?;
    for length in [
        0, 1, 20, 24, 28, 31, 32, 33, 34, 40, 48, 63, 64, 96, 128, 200, 256,
    ] {
        for align in [1, 4, 8, 16, 32, 64] {
            // An odd multiple of `align`, so that the address is aligned to no more.
            let at = page.wrapping_add(align);
            expect(at, length, 0, generation.takes(length, align))?;
        }
    }
    for flags in [
        4,
        8,
        0x8000_0000,
        FLAG_UNREGISTER | FLAG_SLICE_EXT_DEFAULT_ON,
        u32::MAX,
    ] {
        expect(page, 32, flags, Err(Errno::INVAL))?;
    }
    // A 7.x kernel takes the flag whether it has the extension or not, and says in the area which it is.
    let slice = ask(page, 33, FLAG_SLICE_EXT_DEFAULT_ON, SIGNATURE);
    if generation != Generation::V2 {
        check!(slice == Err(Errno::INVAL), "the slice flag: ", slice);
        return passed!(*generation.name());
    }
    check!(slice == Ok(()), "the slice flag: ", slice);
    // SAFETY: the page holds an Rseq.
    let flags = unsafe { &(*page.cast::<Rseq>()).flags }.load(Relaxed);
    let on = CS_FLAG_SLICE_EXT_AVAILABLE | CS_FLAG_SLICE_EXT_ENABLED;
    check!(flags == 0 || flags == on, "flags read ", flags);
    expect_plain(page, 33, FLAG_UNREGISTER, SIGNATURE, Ok(()))?;
    passed!(
        *generation.name(),
        ", with the slice extension: ",
        flags == on
    )
}

pub(super) fn second(ctx: &Ctx<'_>) -> Verdict {
    let generation = Generation::of(ctx);
    let (page, other) = (page()?, page()?);
    for length in [32, 33]
        .into_iter()
        .filter(|&length| generation.takes(length, 64).is_ok())
    {
        let refused =
            |at, length, signature, errno| expect_plain(at, length, 0, signature, Err(errno));
        expect_plain(page, length, 0, SIGNATURE, Ok(()))?;
        for _ in 0..2 {
            refused(page, length, SIGNATURE, Errno::BUSY)?;
            refused(page, length, !SIGNATURE, Errno::PERM)?;
            for signature in [SIGNATURE, !SIGNATURE] {
                refused(other, length, signature, Errno::INVAL)?;
                refused(core::ptr::null_mut(), length, signature, Errno::INVAL)?;
                refused(core::ptr::null_mut(), 0, signature, Errno::INVAL)?;
                for wrong in [0, 20, 31, length + 1, 64] {
                    refused(page, wrong, signature, Errno::INVAL)?;
                }
            }
        }
        expect_plain(page, length, FLAG_UNREGISTER, SIGNATURE, Ok(()))?;
        // With another signature, it is that one that counts.
        expect_plain(page, length, 0, !SIGNATURE, Ok(()))?;
        refused(page, length, SIGNATURE, Errno::PERM)?;
        expect_plain(page, length, FLAG_UNREGISTER, !SIGNATURE, Ok(()))?;
    }
    passed!(*generation.name())
}

pub(super) fn unregistration(ctx: &Ctx<'_>) -> Verdict {
    let generation = Generation::of(ctx);
    let (page, other) = (page()?, page()?);
    let refused = |at, length, signature, errno| {
        expect_plain(at, length, FLAG_UNREGISTER, signature, Err(errno))
    };
    refused(page, 32, SIGNATURE, Errno::INVAL)?;
    refused(core::ptr::null_mut(), 0, 0, Errno::INVAL)?;
    for length in [32, 33]
        .into_iter()
        .filter(|&length| generation.takes(length, 64).is_ok())
    {
        expect_plain(page, length, 0, SIGNATURE, Ok(()))?;
        refused(other, length, SIGNATURE, Errno::INVAL)?;
        refused(page, 32 + 33 - length, SIGNATURE, Errno::INVAL)?;
        refused(page, 0, SIGNATURE, Errno::INVAL)?;
        refused(page, length, !SIGNATURE, Errno::PERM)?;
        refused(other, length, !SIGNATURE, Errno::INVAL)?;
        // SAFETY: the page holds an Rseq.
        let area = unsafe { &*page.cast::<Rseq>() };
        check!(area.cpu_id.load(Relaxed) >= 0, "refusals unregistered it");
        expect_plain(page, length, FLAG_UNREGISTER, SIGNATURE, Ok(()))?;
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
        check!(
            ids == (start, -1, 0, 0),
            "the ids read ",
            ids.0,
            " ",
            ids.1,
            " ",
            ids.2,
            " ",
            ids.3,
            " afterwards"
        );
        refused(page, length, SIGNATURE, Errno::INVAL)?;
    }
    passed!(*generation.name())
}

pub(super) fn bad_memory(ctx: &Ctx<'_>) -> Verdict {
    let generation = Generation::of(ctx);
    let (gone, locked, read_only) = (page()?, page()?, page()?);
    // SAFETY: protect, unmap (1): nobody uses the pages.
    unsafe {
        mm::unmap(gone, mm::page_size())?;
        mm::protect(locked, mm::page_size(), Access::None)?;
        mm::protect(read_only, mm::page_size(), Access::Read)?;
    }
    let kernels = core::ptr::without_provenance_mut(usize::MAX << 12);
    for at in [gone, locked, kernels, core::ptr::null_mut()] {
        for length in [32, 33]
            .into_iter()
            .filter(|&length| generation.takes(length, 64).is_ok())
        {
            let seen = ask(at, length, 0, SIGNATURE);
            check!(
                seen == Err(Errno::FAULT),
                "length ",
                length,
                " at ",
                at,
                ": ",
                seen
            );
        }
    }
    // The shape comes before the memory.
    expect(gone, 31, 0, Err(Errno::INVAL))?;
    if matches!(generation, Generation::V2 | Generation::V6_19) {
        expect(read_only, 32, 0, Err(Errno::FAULT))?;
    } else {
        expect_killed_by(SIGSEGV as i32, || _ = ask(read_only, 32, 0, SIGNATURE))?;
    }
    expect(page()?, 32, 0, Ok(()))?;
    passed!(*generation.name())
}

pub(super) fn fields(ctx: &Ctx<'_>) -> Verdict {
    let generation = Generation::of(ctx);
    let page = page()?;
    // SAFETY: a zeroed page is an Rseq.
    let area = unsafe { &*page.cast::<Rseq>() };
    let allowed = sched::allowed()?;
    for length in [32, 33]
        .into_iter()
        .filter(|&length| generation.takes(length, 64).is_ok())
    {
        area.cpu_id.store(-1, Relaxed);
        expect_plain(page, length, 0, SIGNATURE, Ok(()))?;
        for cpu in allowed.iter() {
            sched::allow(0, &CpuSet::one(cpu))?;
            let (here, node) = sched::getcpu()?;
            let ids = (
                area.cpu_id_start.load(Relaxed),
                area.cpu_id.load(Relaxed) as u32,
            );
            check!(
                ids == (here, here),
                "cpu_id reads ",
                ids.1,
                " on CPU ",
                here
            );
            if ctx.facts.feature_size >= 24 {
                let id = area.node_id.load(Relaxed);
                check!(id == node, "node_id reads ", id, " on node ", node);
            }
            if ctx.facts.feature_size >= 28 {
                // One thread: its concurrency id is the lowest one there is, or becomes it.
                let id = area.mm_cid.load(Relaxed);
                check!(id < 8192, "mm_cid reads ", id);
            }
        }
        sched::allow(0, &allowed)?;
        expect_plain(page, length, FLAG_UNREGISTER, SIGNATURE, Ok(()))?;
    }
    passed!(*generation.name())
}
