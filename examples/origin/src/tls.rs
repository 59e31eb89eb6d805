//! The place of a thread's area: in the thread-local storage that origin lays out from `PT_TLS`, in the thread's mapping.
//!
//! `#[thread_local]` is unstable, so the reservation and the access to it are assembly, in the local-exec model of a
//! static program.
//!
//! The reservation is aligned to 8 and the area to 64 inside it. origin 0.26.2 does not lay out a `PT_TLS` aligned to
//! more than 16 the way the linker does on aarch64 and riscv64: the thread pointer would need that alignment too.

use core::arch::{asm, global_asm};

use rseq_rt::Area;

/// Room for an area wherever the reservation begins.
const RESERVED: usize = Area::SIZE + Area::ALIGN - 8;

global_asm!(
    ".section .tbss.rseq_rt_area, \"awT\", @nobits",
    ".p2align 3",
    ".hidden rseq_rt_area",
    ".type rseq_rt_area, @object",
    ".size rseq_rt_area, {reserved}",
    "rseq_rt_area:",
    ".zero {reserved}",
    ".previous",
    reserved = const RESERVED,
);

/// The calling thread's reservation.
#[cfg(target_arch = "x86_64")]
fn reservation() -> *mut u8 {
    let at;
    // SAFETY: reads the self pointer of the thread control block, as the psABI defines it.
    unsafe {
        asm!(
            "mov {at}, fs:0",
            "lea {at}, [{at} + rseq_rt_area@TPOFF]",
            at = out(reg) at,
            options(nostack, preserves_flags, readonly),
        );
    }
    at
}

/// The calling thread's reservation.
#[cfg(target_arch = "aarch64")]
fn reservation() -> *mut u8 {
    let at;
    // SAFETY: reads the thread pointer.
    unsafe {
        asm!(
            "mrs {at}, tpidr_el0",
            "add {at}, {at}, :tprel_hi12:rseq_rt_area",
            "add {at}, {at}, :tprel_lo12_nc:rseq_rt_area",
            at = out(reg) at,
            options(nostack, preserves_flags, readonly),
        );
    }
    at
}

/// The calling thread's reservation.
#[cfg(target_arch = "riscv64")]
fn reservation() -> *mut u8 {
    let at;
    // SAFETY: reads the thread pointer.
    unsafe {
        asm!(
            "lui {at}, %tprel_hi(rseq_rt_area)",
            "add {at}, {at}, tp, %tprel_add(rseq_rt_area)",
            "addi {at}, {at}, %tprel_lo(rseq_rt_area)",
            at = out(reg) at,
            options(nostack, preserves_flags, readonly),
        );
    }
    at
}

/// The calling thread's area: a new one, since origin fills the reservation of `PT_TLS` with zeros.
///
/// # Safety
/// 1. The reference is not used after the calling thread's last at-exit function, nor passed to another thread.
pub unsafe fn area<'a>() -> &'a Area {
    let reserved = reservation();
    let area = reserved.wrapping_add(reserved.align_offset(Area::ALIGN));
    // SAFETY: inside the reservation, aligned; all bytes zero is an Area, and it changes through atomics alone; mapped
    // until origin unmaps the thread's memory, which is after (1).
    unsafe { &*area.cast() }
}
