//! Memory that cannot be an area, areas used in the wrong order, and unusual auxv values. Nothing changes, nobody dies.

mod answers;
mod auxv;
mod misuse;

use rseq_rt::{Area, Error, Linux, Owner, State};

use super::common::main_thread;
use crate::harness::{Ctx, Needs, Test, passed};
use crate::hooked::RSEQ;
use crate::mem::memset;
use crate::sys::mm::{self, Access};
use crate::witness;

const RSEQ_AND_SECCOMP: Needs = Needs::RSEQ.and(Needs::SECCOMP);

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("areas/null-misaligned-small", shape),
    Test::new("areas/unwritable-memory", unwritable),
    Test::new("areas/addresses-of-the-kernel", kernel_addresses),
    Test::new("areas/live-area-is-left-alone", live).needs(Needs::RSEQ),
    Test::new("areas/misuse", misuse::misuse),
    Test::new("areas/init-on-sealed-memory", misuse::sealed),
    Test::new("areas/late-filter-on-sealed-memory", misuse::sealed_and_filtered).needs(RSEQ_AND_SECCOMP),
    Test::new("areas/nobody-stores-before-the-answer", answers::nobody_stores),
    Test::new("areas/zeroed-memory-is-no-proof", answers::zeroed),
    Test::new("areas/bad-memory-of-one-thread", misuse::bad_memory).needs(RSEQ_AND_SECCOMP),
    Test::new("areas/absurd-auxv", auxv::absurd_auxv).needs(Needs::RSEQ),
    Test::new("areas/future-auxv", auxv::future_auxv).needs(Needs::RSEQ),
    Test::new("areas/legacy-policy", auxv::legacy_policy).needs(Needs::RSEQ),
    Test::new("areas/disabled-policy", auxv::disabled_policy),
];

const PATTERN: u8 = 0x5a;
const FAULT: Error = Error::UnwritableArea(rseq_rt::Errno::FAULT);

fn offered(at: *mut u8, size: usize) -> Result<&'static Area, Error> {
    // SAFETY: from_raw (1): memory offered by these tests that is writable is zero, or an Area.
    unsafe { Area::from_raw(&Linux, at, size) }
}

#[track_caller]
fn refused(at: *mut u8, size: usize, why: Error) {
    let answer = offered(at, size).map(drop);
    assert_eq!(answer, Err(why), "{at:p}, size {size}");
}

/// # Safety
/// 1. `len` bytes at `at` are mapped, and nobody writes them.
#[track_caller]
unsafe fn holds(at: *const u8, len: usize, byte: u8) {
    for n in 0..len {
        // SAFETY: 1.
        let found = unsafe { at.add(n).read_volatile() };
        assert_eq!(found, byte, "byte {n}");
    }
}

fn shape(_: &Ctx) {
    let size_of_page = mm::page_size();
    let page = mm::map(size_of_page, Access::ReadWrite).unwrap();
    // SAFETY: a new page of this test.
    unsafe { memset(page, PATTERN.into(), size_of_page) };
    for size in [0, 1, Area::SIZE, usize::MAX] {
        refused(core::ptr::null_mut(), size, Error::NullArea);
    }
    for offset in 1..Area::ALIGN {
        let at = page.wrapping_add(offset);
        refused(at, Area::SIZE, Error::MisalignedArea);
        // The address is checked before the size.
        refused(at, 0, Error::MisalignedArea);
    }
    for size in 0..Area::SIZE {
        refused(page, size, Error::AreaTooSmall);
    }
    // SAFETY: the page of this test.
    unsafe {
        holds(page, size_of_page, PATTERN);
        memset(page, 0, size_of_page);
    }
    for at in [page, page.wrapping_add(Area::ALIGN)] {
        for size in [Area::SIZE, Area::SIZE + 1, usize::MAX] {
            assert_eq!(offered(at, size).unwrap().state(), State::Unregistered);
        }
    }
    // SAFETY: the page of this test.
    unsafe { holds(page, size_of_page, 0) };
}

fn unwritable(_: &Ctx) {
    let page = mm::page_size();
    let base = mm::map(3 * page, Access::ReadWrite).unwrap();
    // SAFETY: new pages of this test.
    unsafe { memset(base, PATTERN.into(), 3 * page) };
    let middle = base.wrapping_add(page);
    let inside = [middle, middle.wrapping_add(page - Area::SIZE)];
    // Half of it in good memory: the second half unwritable, then the first.
    let straddles = [
        middle.wrapping_sub(Area::ALIGN),
        middle.wrapping_add(page - Area::ALIGN),
    ];
    for access in [Some(Access::Read), Some(Access::None), None] {
        // SAFETY: protect, unmap (1): nobody uses the page.
        unsafe {
            match access {
                Some(access) => mm::protect(middle, page, access).unwrap(),
                None => mm::unmap(middle, page).unwrap(),
            }
        }
        for at in inside.into_iter().chain(straddles) {
            refused(at, Area::SIZE, FAULT);
        }
        // SAFETY: protect (1) as above; holds (1) readable unless unmapped.
        unsafe {
            if access.is_some() {
                mm::protect(middle, page, Access::Read).unwrap();
                holds(middle, page, PATTERN);
            }
            holds(base, page, PATTERN);
            holds(middle.wrapping_add(page), page, PATTERN);
        }
    }
}

fn kernel_addresses(_: &Ctx) {
    // The top, where the second half wraps to null; the two halves of a 48-bit space; the hole between them.
    let top = usize::MAX & !(Area::ALIGN - 1);
    for address in [
        top,
        top & !(Area::SIZE - 1),
        usize::MAX << 12,
        1 << 63,
        0xffff_8000_0000_0000,
        0x8000_0000_0000_0000 | Area::ALIGN,
        0x0001_0000_0000_0000 << 8,
        Area::ALIGN,
    ] {
        refused(
            core::ptr::without_provenance_mut(address),
            Area::SIZE,
            FAULT,
        );
    }
}

/// Checking an area that the kernel writes to changes no byte, and the area keeps working.
fn live(ctx: &Ctx) {
    let main = main_thread(ctx);
    let at = core::ptr::from_ref(main.area()).cast_mut().cast::<u8>();
    let bytes = || -> [u8; 69] {
        // SAFETY: inside the area, up to the end of its fields.
        core::array::from_fn(|n| unsafe { at.add(n).read_volatile() })
    };
    // Without the word that the kernel clears when it inspects it, and leaves while nothing interrupts.
    let ids = |[a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, _, rest @ ..]: [u8; 69]| {
        ([a, b, c, d, e, f, g, h], rest)
    };
    let rounds = ctx.scale(200, 20, 5);
    for _ in 0..rounds {
        witness::on_each_cpu(|cpu| {
            let before = ids(bytes());
            let area = offered(at, Area::SIZE).unwrap();
            assert!(core::ptr::eq(area, main.area()));
            assert!(ids(bytes()) == before, "a byte of a live area changed");
            assert_eq!(main.state(), State::Registered(Owner::Runtime));
            assert_eq!(RSEQ.current_cpu(main.area()), Ok(cpu));
        });
    }
    passed!("{rounds} rounds on {} CPUs", witness::cpus().count());
}
