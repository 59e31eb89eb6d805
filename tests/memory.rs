//! Areas at unverified addresses.

use std::ptr::null_mut;
use std::sync::atomic::Ordering::Relaxed;

use crate::fake::generation::LINUX_7_1;
use crate::fake::{Answers, Call, Machine, Memory, PLAIN, rseq_of};
use rseq_rt::{Area, Errno, Error, Kernel, Linux, State};

#[repr(align(64))]
struct Storage([u8; 256]);

fn look<K: Kernel>(kernel: &K, address: *mut u8, size: usize) -> Result<(), Error> {
    // SAFETY: from_raw (1): every test passes its own zeroed memory, or memory that is not writable.
    unsafe { Area::from_raw(kernel, address, size) }.map(|area| {
        assert_eq!(area.state(), State::Unregistered, "all zero is an area");
    })
}

#[test]
fn shape() {
    let machine = Machine::new(LINUX_7_1, PLAIN);
    let kernel = &&machine;
    let mut storage = Storage([0; 256]);
    let base = storage.0.as_mut_ptr();
    assert_eq!(look(kernel, null_mut(), 256), Err(Error::NullArea));
    for offset in [1, 8, 16, 32, 63] {
        let address = base.wrapping_add(offset);
        assert_eq!(look(kernel, address, 128), Err(Error::MisalignedArea));
    }
    for size in [0, 32, 33, 64, 127] {
        assert_eq!(look(kernel, base, size), Err(Error::AreaTooSmall));
    }
    assert_eq!(machine.count(Call::Probe), 0, "nothing asked of the kernel");
    assert_eq!(look(kernel, base, 128), Ok(()));
    assert_eq!(look(kernel, base.wrapping_add(64), 192), Ok(()));
    assert_eq!(machine.count(Call::Probe), 4, "both halves of each");
    assert_eq!(storage.0, [0; 256], "nothing written");
}

#[test]
fn unwritable() {
    for (memory, answers) in [
        (Memory::ReadOnly, PLAIN),
        (Memory::Unmapped, PLAIN),
        (
            Memory::Writable,
            Answers::refusing(Call::Probe, 2, Errno::FAULT),
        ),
    ] {
        let machine = Machine::new(LINUX_7_1, Answers { memory, ..answers });
        let mut storage = Storage([0; 256]);
        let outcome = look(&&machine, storage.0.as_mut_ptr(), 256);
        assert_eq!(outcome, Err(Error::UnwritableArea(Errno::FAULT)));
    }
}

/// Pages of the host's own kernel.
struct Pages(*mut u8);

const PAGE: usize = 4096;

impl Pages {
    fn new(count: usize) -> Self {
        // SAFETY: a new private mapping.
        let base = unsafe {
            libc::mmap(
                null_mut(),
                count * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Self(base.cast())
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }

    fn protect(&self, page: usize, protection: i32) {
        // SAFETY: a page of the mapping, to which no reference is held.
        let outcome = unsafe { libc::mprotect(self.at(page * PAGE).cast(), PAGE, protection) };
        assert_eq!(outcome, 0);
    }
}

const UNWRITABLE: Result<(), Error> = Err(Error::UnwritableArea(Errno::FAULT));

#[test]
#[cfg_attr(miri, ignore = "asks the real kernel")]
fn real_pages() {
    let pages = Pages::new(3);
    pages.protect(1, libc::PROT_READ);
    assert_eq!(look(&Linux, pages.at(0), PAGE), Ok(()));
    assert_eq!(look(&Linux, pages.at(PAGE - 128), 128), Ok(()));
    assert_eq!(look(&Linux, pages.at(PAGE - 64), 128), UNWRITABLE);
    assert_eq!(look(&Linux, pages.at(PAGE), 128), UNWRITABLE);
    assert_eq!(look(&Linux, pages.at(2 * PAGE - 64), 128), UNWRITABLE);
    assert_eq!(look(&Linux, pages.at(2 * PAGE), 128), Ok(()));
    pages.protect(1, libc::PROT_NONE);
    assert_eq!(look(&Linux, pages.at(PAGE), 128), UNWRITABLE);
    // SAFETY: the test's own pages, to which no reference is held.
    assert_eq!(unsafe { libc::munmap(pages.at(PAGE).cast(), PAGE) }, 0);
    assert_eq!(look(&Linux, pages.at(PAGE), 128), UNWRITABLE);
    assert_eq!(look(&Linux, pages.at(PAGE - 64), 128), UNWRITABLE);
}

#[test]
#[cfg_attr(miri, ignore = "asks the real kernel")]
fn real_addresses_outside_of_the_user_range() {
    for address in [
        64_usize,
        1 << 56,
        0xffff_8000_0000_0000,
        usize::MAX - 63,
        usize::MAX - 127,
    ] {
        let address = std::ptr::without_provenance_mut(address);
        assert_eq!(look(&Linux, address, 128), UNWRITABLE, "{address:p}");
    }
    let odd = std::ptr::without_provenance_mut(usize::MAX);
    assert_eq!(look(&Linux, odd, 128), Err(Error::MisalignedArea));
}

/// The check leaves the memory unchanged, in a registered area too.
#[test]
#[cfg_attr(miri, ignore = "asks the real kernel")]
fn the_question_changes_nothing() {
    let area = Area::new();
    rseq_of(&area).rseq_cs.store(u64::MAX, Relaxed);
    let word = (&raw const rseq_of(&area).rseq_cs).cast();
    assert_eq!(Linux.probe_write(word), Ok(()));
    assert_eq!(rseq_of(&area).rseq_cs.load(Relaxed), u64::MAX);
}
