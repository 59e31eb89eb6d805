//! The answers of rseq(2) and of auxv, in the order in which the kernel decides.

use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::SIGSEGV;

use super::Check;
use super::area::{Area, LEGACY, REGISTER, UNINITIALIZED, UNREGISTER, agrees_everywhere, ask};
use super::ids::registered;
use super::repeat::each_length;
use super::section::SIGNATURE;
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
    Check::nuisance("call/other-signature", "a registration with another signature, while one is registered, answers EPERM", other_signature),
    Check::nuisance("call/length", "a length below 32 answers EINVAL", length),
    Check::nuisance("call/alignment", "an address that is not aligned to 32 (from Linux 7.0 a longer area: to AT_RSEQ_ALIGN) answers EINVAL", alignment),
    Check::nuisance("call/flags", "an unknown flag answers EINVAL", flags),
    Check::nuisance("call/bad-memory", "an area in memory that is not mapped answers EFAULT", bad_memory),
    Check::nuisance("call/read-only-memory", "an area in memory that cannot be written answers EFAULT, or the thread is killed by SIGSEGV before its next instruction", read_only),
    Check::nuisance("call/unregister-nothing", "unregistration where nothing is registered answers EINVAL", unregister_nothing),
    Check::nuisance("call/unregister-other", "unregistration with another address or length answers EINVAL, with another signature EPERM, and unregisters nothing", unregister_other),
    Check::dangerous("call/unregister", "after an unregistration that answers 0 the kernel writes nothing to the area", unregister),
    Check::nuisance("call/unregister-ids", "unregistration leaves -1 in cpu_id", unregister_ids),
    Check::dangerous("call/again", "an area can be registered again after its unregistration, and shows the CPU again", again),
];

const INVALID: Result<(), Errno> = Err(Errno::INVAL);

fn there(system: &System<'_>) {
    if let Err(errno) = system.rseq {
        panic!("rseq(2) answers {errno}");
    }
}

fn acts(system: &System<'_>) {
    each_length(system, |length| {
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
    each_length(system, |length| {
        let area = registered(length);
        for _ in 0..2 {
            agree!(area.register(length), Err(Errno::BUSY), "length {length}");
        }
    });
}

fn other_area(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        agree!(Area::new().register(length), INVALID, "another address");
        for other in [0, 31, length + 1, length + 32] {
            agree!(area.register(other), INVALID, "{other} bytes for {length}");
        }
        let nowhere = ask(core::ptr::null_mut(), 0, REGISTER, 0);
        agree!(nowhere, INVALID, "address 0, length 0");
    });
}

fn other_signature(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        let answer = ask(area.at(), length, REGISTER, !SIGNATURE);
        agree!(answer, Err(Errno::PERM), "length {length}");
    });
}

fn length(_: &System<'_>) {
    for length in [0, 1, 20, 24, 28, 31] {
        agree!(Area::new().register(length), INVALID, "length {length}");
    }
}

fn alignment(system: &System<'_>) {
    let at = Area::new().at();
    for align in [1, 4, 8, 16] {
        for length in system.lengths() {
            let answer = ask(at.wrapping_add(align), length, REGISTER, SIGNATURE);
            agree!(answer, INVALID, "length {length}, aligned to {align}");
        }
    }
    // Before 7.0 AT_RSEQ_ALIGN is 32 at most.
    let (length, align) = (system.length(), system.align.unwrap_or(32));
    if length > LEGACY && align > 32 {
        let answer = ask(at.wrapping_add(32), length, REGISTER, SIGNATURE);
        agree!(answer, INVALID, "length {length}, aligned to 32");
    }
}

fn flags(system: &System<'_>) {
    for flags in [4, 8, 0x8000_0000, 1 | 2, u32::MAX] {
        for length in system.lengths() {
            let answer = ask(Area::new().at(), length, flags, SIGNATURE);
            agree!(answer, INVALID, "flags {flags:#x}");
        }
    }
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
    for at in [gone, locked, kernels, core::ptr::null_mut()] {
        for length in system.lengths() {
            let answer = ask(at, length, REGISTER, SIGNATURE);
            agree!(answer, Err(Errno::FAULT), "at {at:p}, length {length}");
        }
    }
}

fn read_only(system: &System<'_>) {
    const REFUSED: i32 = 3;
    each_length(system, |length| {
        let area = Area::new();
        // SAFETY: protect (1): nobody writes to the page, or is killed for it.
        unsafe { mm::protect(area.at(), mm::page_size(), Access::Read).unwrap() };
        let end = forked(|| {
            process::no_core_dump();
            if area.register(length) == Err(Errno::FAULT) {
                exit_group(REFUSED);
            }
        });
        match end {
            Ok(Status::Exited(REFUSED)) => passed!("EFAULT"),
            Ok(Status::Killed(signal)) if signal == SIGSEGV as i32 => passed!("SIGSEGV"),
            end => panic!("length {length}: neither of the two, {end:?}"),
        }
    });
}

fn unregister_nothing(_: &System<'_>) {
    agree!(Area::new().unregister(LEGACY), INVALID, "length 32");
    let nowhere = ask(core::ptr::null_mut(), 0, UNREGISTER, 0);
    agree!(nowhere, INVALID, "address 0, length 0");
}

fn unregister_other(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        agree!(Area::new().unregister(length), INVALID, "another address");
        for other in [0, 31, length + 1] {
            agree!(
                area.unregister(other),
                INVALID,
                "{other} bytes for {length}"
            );
        }
        let answer = ask(area.at(), length, UNREGISTER, !SIGNATURE);
        agree!(answer, Err(Errno::PERM), "another signature");
        agree!(
            area.register(length),
            Err(Errno::BUSY),
            "no longer registered"
        );
    });
}

fn unregister(system: &System<'_>) {
    const MARK: u32 = 0x5a5a_5a5a;
    each_length(system, |length| {
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
    each_length(system, |length| {
        let area = registered(length);
        agree!(area.unregister(length), Ok(()), "length {length}");
        agree!(area.cpu_id.load(Relaxed), UNINITIALIZED, "length {length}");
    });
}

fn again(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        for _ in 0..3 {
            agree!(area.unregister(length), Ok(()), "length {length}");
            agree!(area.register(length), Ok(()), "length {length}");
            agrees_everywhere(area, "registered again");
        }
    });
}
