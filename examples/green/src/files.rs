//! Files and folders by bare system calls.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use guests::errno::Errno;
use guests::sys::io;
use guests::sys::raw::{call3, call4, check, done};
use linux_raw_sys::general::{
    __NR_getdents64, __NR_newfstatat, __NR_openat, __NR_read, AT_FDCWD, AT_SYMLINK_NOFOLLOW,
    DT_DIR, DT_REG, DT_UNKNOWN, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, S_IFDIR, S_IFMT,
    S_IFREG, stat,
};

/// A path with its zero at the end.
pub type Path = Vec<u8>;

/// A path from the bytes of an argument.
pub fn path(bytes: &[u8]) -> Path {
    let mut path = Vec::with_capacity(bytes.len() + 1);
    path.extend_from_slice(bytes);
    path.push(0);
    path
}

/// `folder/name`.
pub fn below(folder: &[u8], name: &[u8]) -> Path {
    let folder = folder.strip_suffix(b"\0").unwrap_or(folder);
    let mut path = Vec::with_capacity(folder.len() + name.len() + 2);
    path.extend_from_slice(folder);
    path.push(b'/');
    path.extend_from_slice(name);
    path.push(0);
    path
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, a device, a pipe.
    Other,
}

/// newfstatat(2), links not followed.
///
/// # Errors
/// What the kernel says.
pub fn kind(path: &Path) -> Result<Kind, Errno> {
    let mut answer = MaybeUninit::<stat>::zeroed();
    let (from, to) = (path.as_ptr().expose_provenance(), answer.as_mut_ptr());
    let flags = AT_SYMLINK_NOFOLLOW as usize;
    // SAFETY: reads the path up to its zero, writes the answer.
    done(unsafe {
        call4(
            __NR_newfstatat,
            AT_FDCWD as usize,
            from,
            to.expose_provenance(),
            flags,
        )
    })?;
    // SAFETY: integers, all of them written above.
    let mode = unsafe { answer.assume_init() }.st_mode & S_IFMT;
    Ok(match mode {
        S_IFREG => Kind::File,
        S_IFDIR => Kind::Folder,
        _ => Kind::Other,
    })
}

/// An open descriptor, closed on drop.
#[derive(Debug)]
pub struct Open(i32);

impl Drop for Open {
    fn drop(&mut self) {
        // Opened for reading: no error is worth telling.
        let _ = io::close(self.0);
    }
}

fn open(path: &Path, flags: u32) -> Result<Open, Errno> {
    let from = path.as_ptr().expose_provenance();
    let flags = (flags | O_RDONLY | O_CLOEXEC | O_NOFOLLOW) as usize;
    // SAFETY: reads the path up to its zero.
    check(unsafe { call4(__NR_openat, AT_FDCWD as usize, from, flags, 0) })
        .map(|fd| Open(fd as i32))
}

/// Opens a file for reading.
///
/// # Errors
/// What the kernel says.
pub fn open_file(path: &Path) -> Result<Open, Errno> {
    open(path, 0)
}

impl Open {
    /// read(2) into memory that need not be initialised: the bytes that were read, none at the end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read<'a>(&self, into: &'a mut [MaybeUninit<u8>]) -> Result<&'a [u8], Errno> {
        let to = into.as_mut_ptr().expose_provenance();
        // SAFETY: writes the bytes at most.
        let count = check(unsafe { call3(__NR_read, self.0 as usize, to, into.len()) })?;
        let read = into.get(..count).ok_or(Errno::INVAL)?;
        // SAFETY: the kernel has written so many.
        Ok(unsafe { core::slice::from_raw_parts(read.as_ptr().cast(), read.len()) })
    }
}

/// Bytes before the name in a `linux_dirent64`: inode and offset, the record's length, the kind.
const NAME_AT: usize = 19;

/// Calls `each` with the name and the kind of everything in a folder but `.` and `..`.
///
/// # Errors
/// What the kernel says.
pub fn list(folder: &Path, mut each: impl FnMut(&[u8], Kind)) -> Result<(), Errno> {
    let open = open(folder, O_DIRECTORY)?;
    let mut records = Vec::<u64>::with_capacity(2048);
    loop {
        let room = records.spare_capacity_mut();
        let (to, size) = (room.as_mut_ptr().expose_provenance(), size_of_val(room));
        // SAFETY: writes so many bytes at most.
        let length = check(unsafe { call3(__NR_getdents64, open.0 as usize, to, size) })?;
        if length == 0 {
            return Ok(());
        }
        // SAFETY: the kernel has written so many.
        let mut rest = unsafe { core::slice::from_raw_parts(room.as_ptr().cast::<u8>(), length) };
        while let Some((record, more)) = split_record(rest) {
            rest = more;
            let name = record.get(NAME_AT..).unwrap_or(&[]);
            let name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match record.get(NAME_AT - 1).map(|&kind| u32::from(kind)) {
                Some(DT_REG) => Kind::File,
                Some(DT_DIR) => Kind::Folder,
                // File systems may leave it open.
                Some(DT_UNKNOWN) => kind(&below(folder, name))?,
                _ => Kind::Other,
            };
            each(name, kind);
        }
    }
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = bytes.get(16..18)?;
    let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
    (length > NAME_AT).then(|| bytes.split_at_checked(length))?
}
