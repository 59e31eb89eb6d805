//! Files and folders.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

/// `folder/name`.
pub fn below(folder: &CStr, name: &CStr) -> CString {
    let path = [folder.to_bytes(), b"/", name.to_bytes()].concat();
    CString::new(path).expect("strings have no zero inside")
}

/// The type of the file at a path; links are not followed.
///
/// # Errors
/// Those of the kernel.
pub fn kind(path: &CStr) -> Result<FileType, Errno> {
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Opens a file for reading, or with more `flags` a folder.
///
/// # Errors
/// Those of the kernel.
pub fn open(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, path, flags, Mode::empty())
}

/// Calls `each` with the name and the type of each entry of a folder except `.` and `..`.
///
/// # Errors
/// Those of the kernel.
pub fn list(folder: &CStr, mut each: impl FnMut(&CStr, FileType)) -> Result<(), Errno> {
    let mut records = Vec::with_capacity(16 * 1024);
    let open = open(folder, OFlags::DIRECTORY)?;
    let mut entries = RawDir::new(open, records.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // Some file systems do not report the type.
        let kind = match entry.file_type() {
            FileType::Unknown => kind(&below(folder, name))?,
            known => known,
        };
        each(name, kind);
    }
    Ok(())
}
