//! Files and pipes.

use core::ffi::CStr;
use linux_raw_sys::general::{
    __NR_close, __NR_dup3, __NR_fcntl, __NR_ioctl, __NR_openat, __NR_pipe2, __NR_read, __NR_write,
    AT_FDCWD, F_GETFD, O_CLOEXEC, O_RDWR,
};
use linux_raw_sys::ioctl::TCSBRK;

use super::raw::{call1, call2, call3, call4, check, done};
use crate::errno::Errno;

/// write(2).
pub fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: reads the bytes.
    check(unsafe {
        call3(
            __NR_write,
            fd as usize,
            bytes.as_ptr().expose_provenance(),
            bytes.len(),
        )
    })
}

/// read(2).
pub fn read(fd: i32, bytes: &mut [u8]) -> Result<usize, Errno> {
    let to = bytes.as_mut_ptr().expose_provenance();
    // SAFETY: writes the bytes at most.
    check(unsafe { call3(__NR_read, fd as usize, to, bytes.len()) })
}

/// openat(2) from the current directory, for reading and writing.
pub fn open_read_write(path: &CStr) -> Result<i32, Errno> {
    let path = path.as_ptr().expose_provenance();
    // SAFETY: reads the path.
    check(unsafe { call4(__NR_openat, AT_FDCWD as usize, path, O_RDWR as usize, 0) })
        .map(|fd| fd as i32)
}

/// dup3(2).
pub fn dup_to(fd: i32, to: i32) -> Result<(), Errno> {
    // SAFETY: touches descriptors alone.
    done(unsafe { call3(__NR_dup3, fd as usize, to as usize, 0) })
}

/// close(2).
pub fn close(fd: i32) -> Result<(), Errno> {
    // SAFETY: touches descriptors alone.
    done(unsafe { call1(__NR_close, fd as usize) })
}

/// Is there such a descriptor?
pub fn is_open(fd: i32) -> bool {
    // SAFETY: only looks.
    check(unsafe { call2(__NR_fcntl, fd as usize, F_GETFD as usize) }).is_ok()
}

/// pipe2(2), closed by exec: what to read from and what to write to.
pub fn pipe() -> Result<(i32, i32), Errno> {
    let mut fds = [0i32; 2];
    let to = (&raw mut fds).expose_provenance();
    // SAFETY: writes the two.
    done(unsafe { call2(__NR_pipe2, to, O_CLOEXEC as usize) })?;
    let [from, into] = fds;
    Ok((from, into))
}

/// tcdrain(3): until a terminal has sent what was written to it.
pub fn drain(fd: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    done(unsafe { call3(__NR_ioctl, fd as usize, TCSBRK as usize, 1) })
}
