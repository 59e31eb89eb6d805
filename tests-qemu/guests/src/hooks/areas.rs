//! Memory that cannot be an area, areas used against the order, and what auxv may say. Nothing is changed, nobody dies.

use rseq_rt::{Area, Error, Linux, Owner, State};

use super::{
    areas_answers as answers, areas_auxv as auxv, areas_kernel as kernel, areas_misuse as misuse,
};
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict};
use crate::hooked::{self, RSEQ};
use crate::show::Hex;
use crate::sys::mm::{self, Access};
use crate::sys::sched::{self, CpuSet};
use crate::{check, passed};

const ON_TWO_CPUS: Needs = Needs::RSEQ.cpus(2);

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("areas/null-misaligned-small", shape),
    Test::new("areas/unwritable-memory", unwritable),
    Test::new("areas/addresses-of-the-kernel", kernel_addresses),
    Test::new("areas/live-area-is-left-alone", live).needs(Needs::RSEQ),
    Test::new("areas/kernel-lengths", kernel::lengths).needs(Needs::RSEQ),
    Test::new("areas/kernel-second-registration", kernel::second).needs(Needs::RSEQ),
    Test::new("areas/kernel-unregistration", kernel::unregistration).needs(Needs::RSEQ),
    Test::new("areas/kernel-bad-memory", kernel::bad_memory).needs(Needs::RSEQ),
    Test::new("areas/kernel-fields", kernel::fields).needs(ON_TWO_CPUS),
    Test::new("areas/misuse", misuse::misuse),
    Test::new("areas/init-on-sealed-memory", misuse::sealed),
    Test::new(
        "areas/nobody-stores-before-the-answer",
        answers::nobody_stores,
    ),
    Test::new("areas/zeroed-memory-is-no-proof", answers::zeroed),
    Test::new("areas/bad-memory-of-one-thread", misuse::bad_memory)
        .needs(Needs::RSEQ.and(Needs::SECCOMP)),
    Test::new("areas/absurd-auxv", auxv::absurd_auxv).needs(Needs::RSEQ),
    Test::new("areas/future-auxv", auxv::future_auxv).needs(Needs::RSEQ),
    Test::new("areas/legacy-policy", auxv::legacy_policy).needs(Needs::RSEQ),
    Test::new("areas/disabled-policy", auxv::disabled_policy),
];

const PATTERN: u8 = 0x5a;
const FAULT: Error = Error::UnwritableArea(rseq_rt::Errno::FAULT);

fn offered(at: *mut u8, size: usize) -> Result<&'static Area, Error> {
    // SAFETY: from_raw (1): what these tests offer and is writable is zero, or an Area.
    unsafe { Area::from_raw(&Linux, at, size) }
}

#[track_caller]
fn refused(at: *mut u8, size: usize, why: Error) -> Result<(), Failed> {
    match offered(at, size) {
        Err(error) if error == why => Ok(()),
        Err(error) => Err(crate::harness::failed(crate::text!(
            at,
            ", size ",
            size,
            ": another error: ",
            error.raw_os_error()
        ))),
        Ok(_) => Err(crate::harness::failed(crate::text!(
            at,
            ", size ",
            size,
            ": an area"
        ))),
    }
}

/// # Safety
/// 1. `len` bytes at `at` are mapped, and nobody writes them.
#[track_caller]
unsafe fn holds(at: *const u8, len: usize, byte: u8) -> Result<(), Failed> {
    for n in 0..len {
        // SAFETY: 1.
        let found = unsafe { at.wrapping_add(n).read_volatile() };
        if found != byte {
            return Err(crate::harness::failed(crate::text!(
                "byte ", n, " became ", found
            )));
        }
    }
    Ok(())
}

fn shape(_: &Ctx<'_>) -> Verdict {
    let page = mm::map(mm::page_size(), Access::ReadWrite)?;
    // SAFETY: a new page of this test.
    unsafe { crate::mem::memset(page, PATTERN.into(), mm::page_size()) };
    for size in [0, 1, Area::SIZE, usize::MAX] {
        refused(core::ptr::null_mut(), size, Error::NullArea)?;
    }
    for offset in 1..Area::ALIGN {
        refused(page.wrapping_add(offset), Area::SIZE, Error::MisalignedArea)?;
        // What is wrong with the address is said before what is wrong with the size.
        refused(page.wrapping_add(offset), 0, Error::MisalignedArea)?;
    }
    for size in 0..Area::SIZE {
        refused(page, size, Error::AreaTooSmall)?;
    }
    // SAFETY: the page of this test.
    unsafe {
        holds(page, mm::page_size(), PATTERN)?;
        crate::mem::memset(page, 0, mm::page_size());
    }
    for at in [page, page.wrapping_add(Area::ALIGN)] {
        for size in [Area::SIZE, Area::SIZE + 1, usize::MAX] {
            let area = offered(at, size);
            check!(
                area.is_ok_and(|area| area.state() == State::Unregistered),
                at,
                " was refused"
            );
        }
    }
    // SAFETY: the page of this test.
    unsafe { holds(page, mm::page_size(), 0)? };
    PASSED
}

fn unwritable(_: &Ctx<'_>) -> Verdict {
    let page = mm::page_size();
    let base = mm::map(3 * page, Access::ReadWrite)?;
    // SAFETY: new pages of this test.
    unsafe { crate::mem::memset(base, PATTERN.into(), 3 * page) };
    let middle = base.wrapping_add(page);
    let straddles = [
        middle.wrapping_sub(Area::ALIGN),
        middle.wrapping_add(page - Area::ALIGN),
    ];
    for access in [Some(Access::Read), Some(Access::None), None] {
        match access {
            // SAFETY: protect, unmap (1): nobody uses the page.
            Some(access) => unsafe { mm::protect(middle, page, access)? },
            // SAFETY: as above.
            None => unsafe { mm::unmap(middle, page)? },
        }
        for at in [middle, middle.wrapping_add(page - Area::SIZE)] {
            refused(at, Area::SIZE, FAULT)?;
        }
        // Half of it in good memory: the second half unwritable, then the first.
        for at in straddles {
            refused(at, Area::SIZE, FAULT)?;
        }
        // SAFETY: protect (1) as above; holds (1) mapped for reading where it is not gone.
        unsafe {
            if access.is_some() {
                mm::protect(middle, page, Access::Read)?;
                holds(middle, page, PATTERN)?;
            }
            holds(base, page, PATTERN)?;
            holds(middle.wrapping_add(page), page, PATTERN)?;
        }
    }
    PASSED
}

fn kernel_addresses(_: &Ctx<'_>) -> Verdict {
    // The top, where the second half wraps round to null; the two halves of a 48-bit space; the hole between them.
    let top = usize::MAX & !(Area::ALIGN - 1);
    let addresses = [
        top,
        top & !(Area::SIZE - 1),
        usize::MAX << 12,
        1 << 63,
        0xffff_8000_0000_0000,
        0x8000_0000_0000_0000 | Area::ALIGN,
        0x0001_0000_0000_0000 << 8,
        Area::ALIGN,
    ];
    for address in addresses {
        let at = core::ptr::without_provenance_mut(address);
        match offered(at, Area::SIZE) {
            Err(error) => check!(error == FAULT, Hex(address as u64), ": another error"),
            Ok(_) => check!(false, Hex(address as u64), " was taken for an area"),
        }
    }
    PASSED
}

/// A check of an area that the kernel writes to: not a byte changes, and it goes on working.
fn live(ctx: &Ctx<'_>) -> Verdict {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(main) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook");
        return PASSED;
    };
    let at = core::ptr::from_ref(main.area()).cast_mut().cast::<u8>();
    let bytes = || -> [u8; 69] {
        // SAFETY: inside the area, up to where its fields end.
        core::array::from_fn(|n| unsafe { at.wrapping_add(n).read_volatile() })
    };
    // A word that the kernel clears when it looks at it, and leaves while nothing interrupts: not compared.
    let ids = |[a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, _, rest @ ..]: [u8; 69]| {
        ([a, b, c, d, e, f, g, h], rest)
    };
    let allowed = sched::allowed()?;
    let rounds = ctx.scale(200, 20, 5);
    for _ in 0..rounds {
        for cpu in allowed.iter() {
            sched::allow(0, &CpuSet::one(cpu))?;
            let before = ids(bytes());
            let area = offered(at, Area::SIZE);
            check!(
                area.is_ok_and(|area| core::ptr::eq(area, main.area())),
                "refused"
            );
            check!(ids(bytes()) == before, "a byte of a live area changed");
            check!(
                main.state() == State::Registered(Owner::Runtime),
                "the state"
            );
            check!(RSEQ.current_cpu(main.area()) == Ok(cpu), "not on ", cpu);
        }
    }
    passed!(rounds, " rounds on ", allowed.count(), " CPUs")
}
