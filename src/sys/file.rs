//! Small files of the kernel, and the auxiliary vector.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use linux_raw_sys::general::{AT_FDCWD, O_CLOEXEC, O_RDONLY};
use linux_raw_sys::prctl::PR_GET_AUXV;

use crate::sys::error::Errno;
use crate::sys::syscall::{syscall2, syscall3, syscall4, syscall6};

/// Room for all of a file: the kernel's vector has some fifty words.
pub(crate) type Buffer = [MaybeUninit<u8>; 1024];

pub(crate) const BUFFER: Buffer = [MaybeUninit::uninit(); 1024];

/// A file that the kernel gives out in one piece. System calls: 3.
pub(crate) fn read<'b>(path: &CStr, into: &'b mut Buffer) -> Result<&'b [u8], Errno> {
    let (directory, flags) = (AT_FDCWD as usize, (O_RDONLY | O_CLOEXEC) as usize);
    let name = path.as_ptr().expose_provenance();
    // SAFETY: syscall4 (1): reads the name, opens a file that nobody else knows of.
    let file = unsafe { syscall4(sc::nr::OPENAT, directory, name, flags, 0) }?;
    let (to, size) = (into.as_mut_ptr().expose_provenance(), into.len());
    // SAFETY: syscall3 (1): writes to the buffer. syscall2 (1): the file opened above.
    let length = unsafe {
        let length = syscall3(sc::nr::READ, file, to, size);
        let _ = syscall2(sc::nr::CLOSE, file, 0);
        length?
    };
    Ok(written(into, length))
}

/// The auxiliary vector, from Linux 6.4 on. System calls: 1.
pub(crate) fn auxv(into: &mut Buffer) -> Result<&[u8], Errno> {
    let (to, size) = (into.as_mut_ptr().expose_provenance(), into.len());
    // SAFETY: syscall6 (1): writes to the buffer.
    let length = unsafe { syscall6(sc::nr::PRCTL, PR_GET_AUXV as usize, to, size, 0, 0, 0) }?;
    Ok(written(into, length))
}

/// The first `length` bytes, which the kernel has written; it may have had more to say than there was room for.
fn written(buffer: &Buffer, length: usize) -> &[u8] {
    let length = length.min(buffer.len());
    // SAFETY: inside the buffer, and written.
    unsafe { core::slice::from_raw_parts(buffer.as_ptr().cast(), length) }
}
