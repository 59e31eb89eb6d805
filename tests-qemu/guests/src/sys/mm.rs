//! Memory.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::{
    __NR_madvise, __NR_mmap, __NR_mprotect, __NR_munmap, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED,
    PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};

use super::raw::syscall;
use crate::errno::Errno;

static PAGE: AtomicUsize = AtomicUsize::new(4096);

pub(crate) fn set_page_size(size: Option<usize>) {
    if let Some(size) = size {
        PAGE.store(size, Relaxed);
    }
}

pub fn page_size() -> usize {
    PAGE.load(Relaxed)
}

/// `len` rounded up to whole pages.
pub fn whole_pages(len: usize) -> usize {
    len.next_multiple_of(page_size().max(1))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No access: a guard.
    None,
    Read,
    ReadWrite,
}

impl Access {
    const fn bits(self) -> u32 {
        match self {
            Self::None => PROT_NONE,
            Self::Read => PROT_READ,
            Self::ReadWrite => PROT_READ | PROT_WRITE,
        }
    }
}

fn map_with(at: usize, len: usize, access: Access, flags: u32) -> Result<*mut u8, Errno> {
    let flags = flags | MAP_ANONYMOUS;
    // SAFETY: a new mapping at the kernel's choice, never over another one.
    unsafe { syscall!(__NR_mmap, at, len, access.bits(), flags, -1, 0) }
        .map(ptr::with_exposed_provenance_mut)
}

/// Maps zeroed private memory.
pub fn map(len: usize, access: Access) -> Result<*mut u8, Errno> {
    map_with(0, len, access, MAP_PRIVATE)
}

/// As [`map`], at `base` if that is free, and elsewhere otherwise.
pub fn map_near(base: *mut u8, len: usize, access: Access) -> Result<*mut u8, Errno> {
    map_with(base.addr(), len, access, MAP_PRIVATE)
}

/// Maps zeroed memory that forked children share.
pub fn map_shared(len: usize) -> Result<*mut u8, Errno> {
    map_with(0, len, Access::ReadWrite, MAP_SHARED)
}

/// # Safety
/// 1. Nobody uses the memory from here on, the kernel included.
pub unsafe fn unmap(base: *mut u8, len: usize) -> Result<(), Errno> {
    // SAFETY: 1.
    unsafe { syscall!(__NR_munmap, base, len) }.map(drop)
}

/// # Safety
/// 1. All users of the memory tolerate the new access.
pub unsafe fn protect(base: *mut u8, len: usize, access: Access) -> Result<(), Errno> {
    // SAFETY: 1.
    unsafe { syscall!(__NR_mprotect, base, len, access.bits()) }.map(drop)
}

/// Overwrites code or constants, in this process only. The caller flushes instruction caches.
///
/// # Safety
/// 1. Everything that runs or reads that memory tolerates the new bytes.
pub unsafe fn write_code(at: usize, bytes: &[u8]) -> Result<(), Errno> {
    let page = at / page_size() * page_size();
    let length = whole_pages(at + bytes.len() - page);
    // With all rights: this function may be in the same page.
    let rights = PROT_READ | PROT_WRITE | PROT_EXEC;
    // SAFETY: more rights than before, and the bytes by 1.
    unsafe {
        syscall!(__NR_mprotect, page, length, rights)?;
        let to: *mut u8 = ptr::with_exposed_provenance_mut(at);
        for (nth, &byte) in bytes.iter().enumerate() {
            to.add(nth).write_volatile(byte);
        }
    }
    Ok(())
}

/// # Safety
/// 1. All users of the memory tolerate the effect of `advice`.
pub unsafe fn advise(base: *mut u8, len: usize, advice: u32) -> Result<(), Errno> {
    // SAFETY: 1.
    unsafe { syscall!(__NR_madvise, base, len, advice) }.map(drop)
}
