//! `__rseq_offset`, `__rseq_size`, `__rseq_flags`: the exports of a libc that owns rseq, with glibc's types and meaning.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_uint};
use core::sync::atomic::AtomicU32;

use rseq_rt::arch::thread_pointer;
use rseq_rt::{Area, Error, Kernel as _, Linux, Owner, State};

use crate::given::{area, done};
use crate::process::PROCESS;

/// A variable that is written once, before a second thread exists, and read from outside.
#[repr(transparent)]
pub struct Exported<T>(UnsafeCell<T>);

// SAFETY: written by rseq_rt_export alone, under its condition (2).
unsafe impl<T: Copy> Sync for Exported<T> {}

// In memory sealed by the dynamic linker (RELRO): an attacker who could change them would redirect every reader.

/// The offset of the area from the thread pointer.
#[unsafe(export_name = "__rseq_offset")]
#[unsafe(link_section = ".data.rel.ro")]
pub static OFFSET: Exported<isize> = Exported(UnsafeCell::new(0));

/// 0: nothing registered. 20 or 32: the original area. Otherwise: bytes of valid fields.
#[unsafe(export_name = "__rseq_size")]
#[unsafe(link_section = ".data.rel.ro")]
pub static SIZE: Exported<c_uint> = Exported(UnsafeCell::new(0));

/// Flags of the registrations.
#[unsafe(export_name = "__rseq_flags")]
#[unsafe(link_section = ".data.rel.ro")]
pub static FLAGS: Exported<c_uint> = Exported(UnsafeCell::new(0));

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
/// 2. There is no second thread yet.
/// 3. The thread pointer is set up, and every thread of the process has its area at the same distance from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_export(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is (1).
    done(unsafe { area(pointer) }.and_then(|area| {
        match area.state() {
            State::Unregistered => return Err(Error::NotCreated),
            State::Lent => return Err(Error::Lent),
            State::Exiting => return Err(Error::Exiting),
            State::Registered(_) | State::Unavailable(_) => {}
        }
        // The offset is valid whether or not the kernel accepts the registration: the size reports that.
        // SAFETY: thread_pointer (1) by (3).
        let pointer = unsafe { thread_pointer() };
        let offset = (&raw const *area).addr().wrapping_sub(pointer.addr());
        let size = match area.state() {
            State::Registered(Owner::Runtime) => PROCESS.feature_size(),
            _ => 0,
        };
        // They are sealed together, after which a store is a SIGSEGV.
        Linux
            .probe_write(SIZE.0.get().cast::<AtomicU32>())
            .map_err(Error::UnwritableArea)?;
        // SAFETY: (2): nobody reads or writes at the same time, and the memory is writable. Volatile, since the
        // optimiser does not see the readers.
        unsafe {
            OFFSET.0.get().write_volatile(offset as isize);
            SIZE.0.get().write_volatile(size);
            FLAGS.0.get().write_volatile(0);
        }
        Ok(())
    }))
}
