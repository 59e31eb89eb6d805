//! The answers of rseq(2) and of auxv, in the order in which the kernel decides.

use core::ptr::null_mut;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::SIGSEGV;

use super::Check;
use super::area::{Area, LEGACY, REGISTER, UNINITIALIZED, UNREGISTER, agrees_everywhere, ask};
use super::ids::registered;
use super::repeat::{each_length, each_of};
use super::section::SIGNATURE;
use super::slice::{AVAILABLE, ENABLED, SLICE_ON};
use super::system::{Needs, System};
use crate::errno::Errno;
use crate::harness::{forked, passed};
use crate::sys::mm::{self, Access};
use crate::sys::process::{self, Status, exit_group};

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::nuisance("call/there", "rseq(2) registers an area of 32 bytes that is aligned to 32", there).needs(Needs::NotEvenRseq),
    Check::dangerous("call/acts", "once rseq(2) has answered 0, the area shows the CPU of the thread", acts),
    Check::nuisance("auxv/agrees", "AT_RSEQ_FEATURE_SIZE is 20 at least, AT_RSEQ_ALIGN a power of two and 32 at least, both are there or none, and an area of them is registered", auxv),
    Check::nuisance("call/busy", "a second registration with the same address, length and signature answers EBUSY", busy),
    Check::nuisance("call/other-area", "a registration of another address or length, while one is registered, answers EINVAL", other_area),
    Check::nuisance("call/other-signature", "a registration with another signature, while one with the same address and length is registered, answers EPERM", other_signature),
    Check::nuisance("call/length", "a length below 32 answers EINVAL, and so does a longer one that does not hold the fields of AT_RSEQ_FEATURE_SIZE (before Linux 6.3: each other one than 32)", length),
    Check::nuisance("call/alignment", "an address that is not aligned to 32 (from Linux 7.0 a longer area: to AT_RSEQ_ALIGN) answers EINVAL", alignment),
    Check::nuisance("call/flags", "an unknown flag answers EINVAL, and so does that for slices before Linux 7.0; from then on it is taken, and the area's flags show whether the extension is there", flags),
    Check::nuisance("call/bad-memory", "an area in memory that is not mapped answers EFAULT, where its length is right, and nothing is registered", bad_memory),
    Check::nuisance("call/read-only-memory", "an area in memory that cannot be written answers EFAULT, or (up to Linux 6.18) the thread is killed by SIGSEGV before its next instruction", read_only),
    Check::nuisance("call/unregister-nothing", "unregistration where nothing is registered answers EINVAL", unregister_nothing),
    Check::nuisance("call/unregister-other", "unregistration with another address or length answers EINVAL, with another signature EPERM, and unregisters nothing", unregister_other),
    Check::dangerous("call/unregister", "after an unregistration that answers 0 the kernel writes nothing to the area", unregister),
    Check::nuisance("call/unregister-ids", "unregistration leaves -1 in cpu_id, and 0 in the other ids (Linux 6.19: -1 in cpu_id_start)", unregister_ids),
    Check::dangerous("call/again", "an area can be registered again after its unregistration, and shows the CPU again", again),
];

const INVALID: Result<(), Errno> = Err(Errno::INVAL);

fn there(system: &System<'_>) {
    if let Err(errno) = system.rseq {
        panic!("rseq(2) answers {errno}");
    }
}

fn acts(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let area = registered(length);
        let cpu = area.cpu_id.load(Relaxed);
        assert_ne!(
            cpu, UNINITIALIZED,
            "cpu_id reads -1 as before, with length {length}: the answer is pretended"
        );
        assert!(system.cpus.has(cpu), "cpu_id reads {cpu}, length {length}");
    });
}

fn auxv(system: &System<'_>) {
    match (system.feature_size, system.align) {
        (None, None) => passed!("none of them: the area is that of Linux 4.18, 20 bytes used"),
        (Some(size), Some(align)) => {
            assert!(size >= 20, "AT_RSEQ_FEATURE_SIZE is {size}");
            assert!(
                align >= 32 && align.is_power_of_two(),
                "AT_RSEQ_ALIGN is {align}"
            );
            let length = system.length();
            agree!(Area::new().register(length), Ok(()), "length {length}");
            passed!("{size} and {align}");
        }
        (size, align) => panic!("one of the two alone: size {size:?}, alignment {align:?}"),
    }
}

fn busy(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let area = registered(length);
        for _ in 0..2 {
            agree!(area.register(length), Err(Errno::BUSY), "length {length}");
        }
    });
}

fn other_area(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let (area, other) = (registered(length), Area::new());
        // Address and length are checked before the signature.
        for signature in [SIGNATURE, !SIGNATURE] {
            let refused = |at, length| {
                let answer = ask(at, length, REGISTER, signature);
                agree!(answer, INVALID, "{length} bytes at {at:p}");
            };
            refused(other.at(), length);
            refused(null_mut(), length);
            refused(null_mut(), 0);
            for wrong in wrong_lengths(length) {
                refused(area.at(), wrong);
            }
        }
        agree!(area.register(length), Err(Errno::BUSY), "afterwards");
    });
}

/// Other lengths than `length`, some of them right for another area.
fn wrong_lengths(length: u32) -> impl Iterator<Item = u32> {
    let all = [0, 20, 31, 32, 33, 64, length + 1, length + 32];
    all.into_iter().filter(move |&wrong| wrong != length)
}

fn other_signature(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let area = Area::new();
        for (ours, other) in [(SIGNATURE, !SIGNATURE), (!SIGNATURE, SIGNATURE)] {
            agree!(ask(area.at(), length, REGISTER, ours), Ok(()), "{ours:#x}");
            let answer = ask(area.at(), length, REGISTER, other);
            agree!(answer, Err(Errno::PERM), "{other:#x}, length {length}");
            let answer = ask(area.at(), length, UNREGISTER, ours);
            agree!(answer, Ok(()), "{ours:#x}, length {length}");
        }
    });
}

const LENGTHS: [u32; 17] = [
    0, 1, 20, 24, 28, 31, 32, 33, 34, 40, 48, 63, 64, 96, 128, 200, 256,
];

/// Tries to register with that length at an address aligned to exactly `align`, and undoes it on success.
fn tries(system: &System<'_>, area: &Area, length: u32, align: usize) {
    let at = area.at().wrapping_add(align);
    let answer = ask(at, length, REGISTER, SIGNATURE);
    let expected = system.takes(length, align);
    agree!(answer, expected, "length {length}, aligned to {align}");
    if answer.is_ok() {
        let answer = ask(at, length, UNREGISTER, SIGNATURE);
        agree!(answer, Ok(()), "length {length}, aligned to {align}");
    }
}

fn length(system: &System<'_>) {
    let area = Area::new();
    for length in LENGTHS {
        tries(system, area, length, 256);
    }
    passed!("the feature size is {}", system.fields());
}

fn alignment(system: &System<'_>) {
    let area = Area::new();
    for align in [1, 4, 8, 16, 32, 64] {
        for length in LENGTHS {
            tries(system, area, length, align);
        }
    }
}

fn flags(system: &System<'_>) {
    let area = Area::new();
    for flags in [4, 8, 0x8000_0000, UNREGISTER | SLICE_ON, u32::MAX] {
        for length in system.taken_lengths() {
            let answer = ask(area.at(), length, flags, SIGNATURE);
            agree!(answer, INVALID, "flags {flags:#x}");
        }
    }
    let length = system.length().max(LEGACY + 1);
    let answer = ask(area.at(), length, SLICE_ON, SIGNATURE);
    if system.fields() <= LEGACY as usize {
        agree!(answer, INVALID, "the flag for slices");
        passed!("none for slices");
        return;
    }
    agree!(answer, Ok(()), "the flag for slices");
    let flags = area.flags.load(Relaxed);
    assert!(
        flags == 0 || flags == AVAILABLE | ENABLED,
        "flags read {flags:#x}"
    );
    agree!(area.unregister(length), Ok(()), "length {length}");
}

fn bad_memory(system: &System<'_>) {
    let size = mm::page_size();
    let (gone, locked) = (Area::new().at(), Area::new().at());
    // SAFETY: protect, unmap (1): nobody uses the pages.
    unsafe {
        mm::unmap(gone, size).unwrap();
        mm::protect(locked, size, Access::None).unwrap();
    }
    let kernels = core::ptr::without_provenance_mut(usize::MAX << 12);
    for at in [gone, locked, kernels, null_mut()] {
        for length in system.taken_lengths() {
            let answer = ask(at, length, REGISTER, SIGNATURE);
            agree!(answer, Err(Errno::FAULT), "at {at:p}, length {length}");
        }
        let answer = ask(at, LEGACY - 1, REGISTER, SIGNATURE);
        agree!(answer, INVALID, "at {at:p}, length 31");
    }
    let _ = registered(LEGACY);
}

fn read_only(system: &System<'_>) {
    const REFUSED: i32 = 3;
    each_length(system, |length| {
        let area = Area::new();
        // SAFETY: protect (1): nobody writes to the page, except to be killed for it.
        unsafe { mm::protect(area.at(), mm::page_size(), Access::Read).unwrap() };
        let end = forked(|| {
            process::no_core_dump();
            if area.register(length) == Err(Errno::FAULT) {
                exit_group(REFUSED);
            }
        });
        let may_kill = system.fields() <= LEGACY as usize;
        match end {
            Ok(Status::Exited(REFUSED)) => passed!("EFAULT"),
            Ok(Status::Killed(signal)) if may_kill && signal == SIGSEGV as i32 => {
                passed!("SIGSEGV");
            }
            end => panic!("length {length}: {end:?}"),
        }
    });
}

fn unregister_nothing(_: &System<'_>) {
    agree!(Area::new().unregister(LEGACY), INVALID, "length 32");
    let nowhere = ask(null_mut(), 0, UNREGISTER, 0);
    agree!(nowhere, INVALID, "address 0, length 0");
}

fn unregister_other(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let (area, other) = (registered(length), Area::new());
        for signature in [SIGNATURE, !SIGNATURE] {
            let answer = ask(other.at(), length, UNREGISTER, signature);
            agree!(answer, INVALID, "another address");
        }
        for wrong in wrong_lengths(length) {
            agree!(
                area.unregister(wrong),
                INVALID,
                "{wrong} bytes for {length}"
            );
        }
        let answer = ask(area.at(), length, UNREGISTER, !SIGNATURE);
        agree!(answer, Err(Errno::PERM), "another signature");
        agree!(
            area.register(length),
            Err(Errno::BUSY),
            "no longer registered"
        );
        agrees_everywhere(area, "refused to leave");
        agree!(area.unregister(length), Ok(()), "length {length}");
        agree!(area.unregister(length), INVALID, "the second time");
    });
}

fn unregister(system: &System<'_>) {
    const MARK: u32 = 0x5a5a_5a5a;
    each_of(system.taken_lengths(), |length| {
        let area = registered(length);
        agree!(area.unregister(length), Ok(()), "length {length}");
        area.fill(MARK);
        super::area::on_each_cpu(|cpu| {
            agree!(area.ids(), [MARK; 4], "written to on CPU {cpu}");
        });
        agree!(area.unregister(length), INVALID, "registered still");
    });
}

fn unregister_ids(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let area = registered(length);
        agree!(area.unregister(length), Ok(()), "length {length}");
        let [start, rest @ ..] = area.ids();
        agree!(rest, [UNINITIALIZED, 0, 0], "length {length}");
        // Linux 6.19 has the feature size of earlier kernels.
        let may_be_unset = (24..=32).contains(&system.fields());
        assert!(
            start == 0 || may_be_unset && start == UNINITIALIZED,
            "cpu_id_start reads {start:#x}, length {length}"
        );
        passed!("{} in cpu_id_start", start.cast_signed());
    });
}

fn again(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let area = registered(length);
        for _ in 0..3 {
            agree!(area.unregister(length), Ok(()), "length {length}");
            agree!(area.register(length), Ok(()), "length {length}");
            agrees_everywhere(area, "registered again");
        }
    });
}
