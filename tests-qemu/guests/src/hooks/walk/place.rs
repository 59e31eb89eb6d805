//! The memory of an area, and what lies around it.

use rseq_rt::abi::Rseq;
use rseq_rt::{Area, arch};

use crate::errno::Errno;
use crate::sys::mm::{self, Access};
use crate::sys::rseq::rseq;
use crate::sys::sched::CpuSet;
use crate::witness;

/// A page: the area, with memory around it that nobody is to touch.
pub struct Place(*mut u8);

const GUARD: usize = 512;
const POISON: u8 = 0xa5;

impl Place {
    /// A new one.
    pub fn map() -> Result<Self, Errno> {
        let base = mm::map(mm::page_size(), Access::ReadWrite)?;
        let place = Self(base);
        for range in [0..GUARD, GUARD + Area::SIZE..2 * GUARD] {
            for at in range {
                // SAFETY: in the new page.
                unsafe { base.add(at).write_volatile(POISON) };
            }
        }
        Ok(place)
    }

    /// The area.
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

    /// Is the memory around the area what it was?
    pub fn is_clean(&self) -> bool {
        let is_poison = |at: usize| {
            // SAFETY: in the page.
            unsafe { self.0.add(at).read_volatile() == POISON }
        };
        (0..GUARD).all(is_poison) && (GUARD + Area::SIZE..2 * GUARD).all(is_poison)
    }

    /// Fills the kernel's part of an area that it does not know, waits, and looks.
    pub fn is_left_alone(&self, cpus: CpuSet) -> bool {
        let kernels = self.0.wrapping_add(GUARD);
        for at in 0..size_of::<Rseq>() {
            // SAFETY: in the page; not an id that anybody reads, as the thread is exiting.
            unsafe { kernels.add(at).write_volatile(POISON) };
        }
        witness::migrate(cpus);
        (0..size_of::<Rseq>()).all(|at| {
            // SAFETY: in the page.
            unsafe { kernels.add(at).read_volatile() == POISON }
        })
    }
}

/// Unregisters it, if it is registered.
pub fn forget(area: &Area, length: u32) {
    let at = core::ptr::from_ref(area).cast_mut().cast();
    // SAFETY: (1) it ends what there is; (2) nobody relies on it between two cases.
    let _ = unsafe { rseq(at, length, 1, arch::SIGNATURE) };
}
