//! Files.

use core::ffi::CStr;
use linux_raw_sys::general::{
    __NR_close, __NR_dup3, __NR_fcntl, __NR_ioctl, __NR_openat, __NR_read, __NR_write, AT_FDCWD,
    F_GETFD, O_RDWR,
};
use linux_raw_sys::ioctl::TCSBRK;

use super::raw::syscall;
use crate::errno::Errno;

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: reads the bytes.
    unsafe { syscall!(__NR_write, fd, bytes.as_ptr(), bytes.len()) }
}

pub fn read(fd: i32, bytes: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: writes at most the bytes.
    unsafe { syscall!(__NR_read, fd, bytes.as_mut_ptr(), bytes.len()) }
}

/// openat(2) from the current directory.
pub fn open_read_write(path: &CStr) -> Result<i32, Errno> {
    // SAFETY: reads the path.
    unsafe { syscall!(__NR_openat, AT_FDCWD, path.as_ptr(), O_RDWR, 0) }.map(|fd| fd as i32)
}

/// dup3(2).
pub fn dup_to(fd: i32, to: i32) -> Result<(), Errno> {
    // SAFETY: affects only descriptors.
    unsafe { syscall!(__NR_dup3, fd, to, 0) }.map(drop)
}

pub fn close(fd: i32) -> Result<(), Errno> {
    // SAFETY: affects only descriptors.
    unsafe { syscall!(__NR_close, fd) }.map(drop)
}

pub fn is_open(fd: i32) -> bool {
    // SAFETY: reads only.
    unsafe { syscall!(__NR_fcntl, fd, F_GETFD) }.is_ok()
}

/// tcdrain(3): waits until a terminal has sent its output.
pub fn drain(fd: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { syscall!(__NR_ioctl, fd, TCSBRK, 1) }.map(drop)
}
