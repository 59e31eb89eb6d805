//! The memory of an area, and its surroundings.

use core::ops::Range;

use rseq_rt::abi::Rseq;
use rseq_rt::{Area, arch};

use crate::sys::mm::{self, Access};
use crate::sys::rseq::rseq;
use crate::sys::sched::CpuSet;
use crate::witness;

/// A page: the area, with memory around it that must stay untouched.
pub struct Place(*mut u8);

const GUARD: usize = 512;
const AROUND: [Range<usize>; 2] = [0..GUARD, GUARD + Area::SIZE..2 * GUARD];
const KERNELS: Range<usize> = GUARD..GUARD + size_of::<Rseq>();
const POISON: u8 = 0xa5;

impl Place {
    pub fn map() -> Self {
        let place = Self(mm::map(mm::page_size(), Access::ReadWrite).unwrap());
        AROUND.into_iter().for_each(|range| place.poison(range));
        place
    }

    fn poison(&self, range: Range<usize>) {
        for at in range {
            // SAFETY: in the page, and unused, or no id that anybody reads.
            unsafe { self.0.add(at).write_volatile(POISON) };
        }
    }

    fn is_poison(&self, mut range: Range<usize>) -> bool {
        // SAFETY: in the page.
        range.all(|at| unsafe { self.0.add(at).read_volatile() == POISON })
    }

    pub fn area(&self) -> &'static Area {
        // SAFETY: in the page, which is never unmapped, aligned; zero or an area.
        unsafe { &*self.0.add(GUARD).cast::<Area>() }
    }

    /// A new area, or zeroes.
    pub fn renew(&self, is_zeroed: bool) {
        let area = self.0.wrapping_add(GUARD).cast::<Area>();
        // SAFETY: as above; the kernel does not know it between two cases, and nobody else uses it.
        unsafe {
            match is_zeroed {
                true => area.write_bytes(0, 1),
                false => area.write(Area::new()),
            }
        }
    }

    /// Whether the memory around the area is unchanged.
    pub fn is_clean(&self) -> bool {
        AROUND.into_iter().all(|range| self.is_poison(range))
    }

    /// Fills the kernel's part of an area that it does not know, moves about, and checks.
    pub fn is_left_alone(&self, cpus: CpuSet) -> bool {
        self.poison(KERNELS);
        witness::migrate(cpus);
        self.is_poison(KERNELS)
    }
}

/// Unregisters the area, if registered.
pub fn forget(area: &Area, length: u32) {
    let at = core::ptr::from_ref(area).cast_mut().cast();
    // SAFETY: (1) it ends any registration; (2) nobody relies on it between two cases.
    let _ = unsafe { rseq(at, length, 1, arch::SIGNATURE) };
}
