//! `__rseq_*` as the dynamic linker itself defines them, for a program that was linked where no libc had them.
//!
//! A weak reference that is absent at link time stays absent where the linker makes no dynamic symbol of it: mold makes
//! none in an executable (GNU ld, gold and lld do). Such a program, linked beside a glibc before 2.35 and run under a later
//! one, would take the libc's registration for a stranger's. glibc and the musl of this project define the three in the
//! program interpreter, and that is found without a name: through the table that dynamic linkers keep for debuggers.
//!
//! Nothing is guessed. Every address comes from the dynamic linker, in the structures of `<link.h>` and `<elf.h>`, which
//! debuggers have relied on since System V; a program without dynamic linker, a shared object and a linker that fills no
//! such table end at a null. The objects looked at are those that the process started with, and no dlclose(3) frees them.

use core::ffi::CStr;
use core::ptr::null;

use crate::arch;
use crate::sys::trio::TrioAddresses;

/// `Elf64_Dyn`.
#[repr(C)]
struct Dynamic {
    tag: usize,
    value: usize,
}

const DT_NULL: usize = 0;
const DT_STRTAB: usize = 5;
const DT_SYMTAB: usize = 6;
const DT_DEBUG: usize = 21;
const DT_GNU_HASH: usize = 0x6fff_fef5;

/// `struct r_debug`.
#[repr(C)]
struct Debug {
    version: i32,
    first: *const LinkMap,
    breakpoint: usize,
    state: i32,
    /// Where it is itself loaded.
    interpreter: usize,
}

/// `struct link_map`: an object, and how far from its link addresses it is loaded.
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const u8,
    dynamic: *const Dynamic,
    next: *const LinkMap,
}

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: usize,
    size: usize,
}

/// The head of `DT_GNU_HASH`; a Bloom filter, the buckets and the chains follow.
#[repr(C)]
struct GnuHash {
    buckets: u32,
    first_symbol: u32,
    filter_words: u32,
    filter_shift: u32,
}

/// A variable that is looked for.
struct Wanted {
    /// With the zero at its end.
    name: &'static [u8],
    hash: u32,
    size: usize,
}

impl Wanted {
    const fn new(name: &'static CStr, size: usize) -> Self {
        let hash = gnu_hash(name.to_bytes());
        let name = name.to_bytes_with_nul();
        Self { name, hash, size }
    }
}

static WANTED: [Wanted; 3] = [
    Wanted::new(c"__rseq_offset", size_of::<isize>()),
    Wanted::new(c"__rseq_size", size_of::<u32>()),
    Wanted::new(c"__rseq_flags", size_of::<u32>()),
];

/// The three as the program interpreter defines them; each null where it does not.
#[cold]
pub(crate) fn trio() -> TrioAddresses {
    // SAFETY: value (1): the linker makes the section. The dynamic linker fills the table, before the program's first
    // instruction, and leads through it to objects that are loaded and relocated, definition (1): see the top of this file.
    let [offset, size, flags] = unsafe {
        let debug = value(arch::dynamic_section().cast(), DT_DEBUG) as *const Debug;
        let mut object = null();
        if !debug.is_null() && (*debug).interpreter != 0 {
            object = (*debug).first;
            while !object.is_null() && (*object).base != (*debug).interpreter {
                object = (*object).next;
            }
        }
        WANTED.each_ref().map(|wanted| definition(object, wanted))
    };
    TrioAddresses {
        offset: offset.cast(),
        size: size.cast(),
        flags: flags.cast(),
    }
}

/// The value of an entry; 0 where there is none, or no section.
///
/// # Safety
/// 1. `entry` is null, or the first of a dynamic section.
#[cold]
#[inline(never)]
unsafe fn value(mut entry: *const Dynamic, tag: usize) -> usize {
    // SAFETY: (1); an entry of type DT_NULL ends it.
    unsafe {
        while !entry.is_null() && (*entry).tag != DT_NULL {
            if (*entry).tag == tag {
                return (*entry).value;
            }
            entry = entry.wrapping_add(1);
        }
    }
    0
}

/// The address of one of the object's tables.
///
/// glibc adds the base to these entries in place, on some CPUs; musl never does. An address is never below the base, and a
/// distance always is: an object is smaller than the address that it is mapped at.
///
/// # Safety
/// 1. `object` is loaded and relocated.
#[cold]
#[inline(never)]
unsafe fn table(object: *const LinkMap, tag: usize) -> *const u8 {
    // SAFETY: (1), and value (1) is (1).
    unsafe {
        let address = value((*object).dynamic, tag);
        let base = (*object).base;
        (if address < base {
            address.wrapping_add(base)
        } else {
            address
        }) as *const u8
    }
}

/// Where the object defines a variable of that name and size; else null.
///
/// # Safety
/// 1. `object` is null, or loaded and relocated.
#[cold]
#[inline(never)]
unsafe fn definition(object: *const LinkMap, wanted: &Wanted) -> *const u8 {
    if object.is_null() {
        return null();
    }
    // SAFETY: table (1) and value (1) are (1). Whoever has DT_GNU_HASH has the other two, and all three are whole.
    unsafe {
        if value((*object).dynamic, DT_GNU_HASH) == 0 {
            return null();
        }
        let hash = table(object, DT_GNU_HASH).cast::<GnuHash>();
        let symbols = table(object, DT_SYMTAB).cast::<Symbol>();
        let names = table(object, DT_STRTAB);
        let filter = hash.wrapping_add(1).cast::<u64>();
        let buckets = filter
            .wrapping_add((*hash).filter_words as usize)
            .cast::<u32>();
        let chains = buckets.wrapping_add((*hash).buckets as usize);
        let Some(bucket) = wanted.hash.checked_rem((*hash).buckets) else {
            return null();
        };
        let mut index = *buckets.wrapping_add(bucket as usize);
        // An empty bucket holds 0, which is before the first symbol; the last of a chain is odd.
        while index >= (*hash).first_symbol {
            let chain = *chains.wrapping_add((index - (*hash).first_symbol) as usize);
            let symbol = symbols.wrapping_add(index as usize);
            if chain | 1 == wanted.hash | 1
                && (*symbol).section != 0
                && (*symbol).size == wanted.size
                && is_name(names.wrapping_add((*symbol).name as usize), wanted.name)
            {
                return (*object).base.wrapping_add((*symbol).value) as *const u8;
            }
            if chain & 1 != 0 {
                break;
            }
            index = index.wrapping_add(1);
        }
    }
    null()
}

/// # Safety
/// 1. A text that ends in zero is here.
unsafe fn is_name(mut at: *const u8, name: &[u8]) -> bool {
    name.iter().all(|&byte| {
        // SAFETY: (1): `name` ends in zero, and the first difference ends this.
        let same = unsafe { *at } == byte;
        at = at.wrapping_add(1);
        same
    })
}

const fn gnu_hash(mut name: &[u8]) -> u32 {
    let mut hash: u32 = 5381;
    while let [letter, rest @ ..] = name {
        hash = hash.wrapping_mul(33).wrapping_add(*letter as u32);
        name = rest;
    }
    hash
}

// Miri runs no inline assembly, by which both sides of the comparison begin.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::{gnu_hash, trio};
    use crate::arch;

    /// Linked beside a libc that has the three, the weak references lead to the same places, if they lead anywhere. A
    /// copy relocation, which would lead elsewhere, is what a test program of Rust does not have.
    #[test]
    fn finds_what_the_weak_references_find() {
        let weak = arch::weak_trio();
        let found = trio();
        if !weak.size.is_null() && !arch::dynamic_section().is_null() {
            assert_eq!(found.offset, weak.offset);
            assert_eq!(found.size, weak.size);
            assert_eq!(found.flags, weak.flags);
        }
    }

    #[test]
    fn hash_is_the_published_one() {
        assert_eq!(gnu_hash(b""), 0x1505);
        assert_eq!(gnu_hash(b"printf"), 0x156b_2bb8);
        assert_eq!(gnu_hash(b"flapenguin.me"), 0x8ae9_f18e);
    }
}
