//! The owner of an area: a libc's lies `__rseq_offset` from the thread pointer. Uses ptrace(2) and the mapped files.

use std::collections::BTreeSet;
use std::fs;

use nix::errno::Errno;
use nix::libc;
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{LittleEndian, Object as _, ObjectSymbol as _, ReadCache, ReadRef};
use serde::Serialize;

use super::Request;

/// Who registered a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The libc: the area is where its symbols say.
    Libc,
    /// A runtime or a library, with its own area; or a libc whose symbols cannot be read.
    Another,
    Nobody,
}

impl Owner {
    pub fn text(self) -> &'static str {
        match self {
            Owner::Libc => "libc",
            Owner::Another => "another area",
            Owner::Nobody => "nobody",
        }
    }
}

/// The addresses of `__rseq_offset` and `__rseq_size` in a process.
#[derive(Clone, Copy, Debug)]
pub struct LibcSymbols([u64; 2]);

impl LibcSymbols {
    pub fn of(pid: i32) -> Option<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let mut seen = BTreeSet::new();
        mapped_files(&maps)
            .filter(|(_, path)| seen.insert(*path))
            .find_map(|(start, path)| {
                let file = fs::File::open(format!("/proc/{pid}/root{path}")).ok()?;
                let file = ReadCache::new(file);
                symbols(&file, start, ["__rseq_offset", "__rseq_size"]).map(Self)
            })
    }

    /// The area that the libc registers for a stopped thread; `None` if it registers none.
    fn area(self, tid: i32) -> Option<u64> {
        let [offset, size] = self.0.map(|address| word(tid, address));
        let registers = size? as u32 != 0;
        registers.then_some(thread_pointer(tid)?.wrapping_add(offset?))
    }
}

impl Owner {
    /// The owner of a stopped thread's registration at `address`.
    pub fn of(tid: i32, address: u64, libc: Option<LibcSymbols>) -> Self {
        let is_libc = || libc.and_then(|symbols| symbols.area(tid)) == Some(address);
        match address {
            0 => Self::Nobody,
            _ if is_libc() => Self::Libc,
            _ => Self::Another,
        }
    }
}

/// Start and file of each mapping of a file's first bytes.
fn mapped_files(maps: &str) -> impl Iterator<Item = (u64, &str)> {
    maps.lines().filter_map(|line| {
        let (fields, path) = line.split_at_checked(line.find('/')?)?;
        let mut fields = fields.split_ascii_whitespace();
        let (start, _) = fields.next()?.split_once('-')?;
        let is_first = u64::from_str_radix(fields.nth(1)?, 16) == Ok(0);
        let start = u64::from_str_radix(start, 16).ok()?;
        is_first.then_some((start, path))
    })
}

/// The addresses of these symbols of a file whose first bytes are mapped at `start`.
fn symbols<'f>(file: impl ReadRef<'f>, start: u64, names: [&str; 2]) -> Option<[u64; 2]> {
    let elf = ElfFile64::<LittleEndian, _>::parse(file).ok()?;
    let endian = elf.endian();
    let headers = elf.elf_header().program_headers(endian, file).ok()?;
    let first = headers
        .iter()
        .find(|header| header.p_type(endian) == object::elf::PT_LOAD)?;
    let bias = start.wrapping_sub(first.p_vaddr(endian) - first.p_offset(endian));
    let address = |name| {
        elf.dynamic_symbols()
            .chain(elf.symbols())
            .find(|symbol| !symbol.is_undefined() && symbol.name() == Ok(name))
            .map(|symbol| symbol.address().wrapping_add(bias))
    };
    let [offset, size] = names.map(address);
    Some([offset?, size?])
}

/// The register set that holds the thread pointer, and its index there.
const THREAD_POINTER: (usize, usize) = match () {
    // NT_ARM_TLS.
    () if cfg!(target_arch = "aarch64") => (0x401, 0),
    // NT_PRSTATUS: `tp`, and `fs_base`.
    () if cfg!(target_arch = "riscv64") => (1, 4),
    () => (1, 21),
};

/// The thread pointer of a stopped thread.
fn thread_pointer(tid: i32) -> Option<u64> {
    let (set, word) = THREAD_POINTER;
    let mut registers = [0_u64; 64];
    let mut part = libc::iovec {
        iov_base: registers.as_mut_ptr().cast(),
        iov_len: size_of_val(&registers),
    };
    let request = libc::PTRACE_GETREGSET as Request;
    // SAFETY: PTRACE_GETREGSET writes at most `iov_len` bytes to `iov_base`, and how many to `iov_len`.
    let asked = Errno::result(unsafe { libc::ptrace(request, tid, set, &raw mut part) });
    // A 32-bit thread has fewer registers.
    let is_whole = asked.is_ok() && part.iov_len > word * 8;
    is_whole.then(|| registers.get(word).copied()).flatten()
}

/// A word of a stopped thread's memory.
fn word(tid: i32, address: u64) -> Option<u64> {
    let mut word = 0_u64;
    let request = libc::PTRACE_PEEKDATA;
    // SAFETY: the system call, unlike the libc function, writes one word to its last argument.
    let asked = Errno::result(unsafe {
        libc::syscall(libc::SYS_ptrace, request, tid, address, &raw mut word)
    });
    asked.is_ok().then_some(word)
}
