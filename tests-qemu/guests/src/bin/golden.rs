//! Each per-CPU operation as a symbol of its own, so that the runner can pin its code and count its instructions.
//!
//! Run, it does nothing and exits 0.
#![no_std]
#![no_main]

use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicUsize};

use guests::entry;
use guests::entry::Env;
use rseq_rt::percpu::{Commit, CpuId, Current, Miss, MmCid, Slots};

entry!(main);

/// As a user would lay it out: two cache lines for each CPU.
#[repr(C, align(128))]
struct Slot {
    word: AtomicUsize,
    second: AtomicUsize,
    head: AtomicPtr<u8>,
    bytes: [AtomicUsize; 13],
}

const WORD: usize = offset_of!(Slot, word);
const SECOND: usize = offset_of!(Slot, second);
const HEAD: usize = offset_of!(Slot, head);
const BYTES: usize = offset_of!(Slot, bytes);

/// 0 is the commit; whoever calls an operation tells the misses apart.
fn code(result: Result<(), Miss>) -> usize {
    match result {
        Ok(()) => 0,
        Err(Miss::Differs) => 1,
        Err(Miss::Aborted) => 2,
        Err(Miss::OutOfRange) => 3,
    }
}

/// The head that was popped, or a miss as an address that none has.
fn head(result: Result<*mut u8, Miss>) -> usize {
    match result {
        Ok(head) => head.expose_provenance(),
        Err(miss) => code(Err(miss)),
    }
}

/// One operation in one order, over one kind of index.
macro_rules! golden {
    ($($name:ident: $index:ident $commit:ident, $method:ident($($argument:expr),*) of ($($given:ident: $type:ty),*),
        $result:ident;)*) => {
        $(
            /// # Safety
            /// 1. Never called.
            #[unsafe(no_mangle)]
            #[inline(never)]
            unsafe fn $name(
                current: Current<'static, $index>,
                slots: Slots<'static, $index, Slot>,
                $($given: $type),*
            ) -> usize {
                // SAFETY: (1).
                $result(unsafe { current.$method(slots, $($argument,)* Commit::$commit) })
            }
        )*
        /// Kept, whether called or not.
        #[used]
        static KEPT: [Address; [$(stringify!($name)),*].len()] = [$(Address($name as *const ())),*];
    };
}

/// Of a function.
struct Address(#[allow(dead_code)] *const ()); // Its being there is its use.

// SAFETY: read by nobody.
unsafe impl Sync for Address {}

golden! {
    add_relaxed: CpuId Relaxed, add(WORD, value) of (value: usize), code;
    add_release: CpuId Release, add(WORD, value) of (value: usize), code;
    add_mm_cid: MmCid Relaxed, add(WORD, value) of (value: usize), code;
    add_mm_cid_release: MmCid Release, add(WORD, value) of (value: usize), code;
    add_through_relaxed: CpuId Relaxed,
        add_through(WORD, offset, value) of (offset: isize, value: usize), code;
    add_through_release: CpuId Release,
        add_through(WORD, offset, value) of (offset: isize, value: usize), code;
    add_through_mm_cid: MmCid Relaxed,
        add_through(WORD, offset, value) of (offset: isize, value: usize), code;
    add_through_mm_cid_release: MmCid Release,
        add_through(WORD, offset, value) of (offset: isize, value: usize), code;
    compare_and_store_relaxed: CpuId Relaxed,
        compare_and_store(WORD, expect, new) of (expect: usize, new: usize), code;
    compare_and_store_release: CpuId Release,
        compare_and_store(WORD, expect, new) of (expect: usize, new: usize), code;
    compare_and_store_mm_cid: MmCid Relaxed,
        compare_and_store(WORD, expect, new) of (expect: usize, new: usize), code;
    compare_and_store_mm_cid_release: MmCid Release,
        compare_and_store(WORD, expect, new) of (expect: usize, new: usize), code;
    compare_two_and_store_relaxed: CpuId Relaxed, compare_two_and_store(WORD, expect, SECOND, second, new)
        of (expect: usize, second: usize, new: usize), code;
    compare_two_and_store_release: CpuId Release, compare_two_and_store(WORD, expect, SECOND, second, new)
        of (expect: usize, second: usize, new: usize), code;
    compare_two_and_store_mm_cid: MmCid Relaxed, compare_two_and_store(WORD, expect, SECOND, second, new)
        of (expect: usize, second: usize, new: usize), code;
    compare_two_and_store_mm_cid_release: MmCid Release, compare_two_and_store(WORD, expect, SECOND, second, new)
        of (expect: usize, second: usize, new: usize), code;
    compare_store_and_store_relaxed: CpuId Relaxed, compare_store_and_store(WORD, expect, SECOND, value, new)
        of (expect: usize, value: usize, new: usize), code;
    compare_store_and_store_release: CpuId Release, compare_store_and_store(WORD, expect, SECOND, value, new)
        of (expect: usize, value: usize, new: usize), code;
    compare_store_and_store_mm_cid: MmCid Relaxed, compare_store_and_store(WORD, expect, SECOND, value, new)
        of (expect: usize, value: usize, new: usize), code;
    compare_store_and_store_mm_cid_release: MmCid Release, compare_store_and_store(WORD, expect, SECOND, value, new)
        of (expect: usize, value: usize, new: usize), code;
    compare_link_and_store_relaxed: CpuId Relaxed, compare_link_and_store(HEAD, expect, link, new)
        of (expect: usize, link: *mut usize, new: usize), code;
    compare_link_and_store_release: CpuId Release, compare_link_and_store(HEAD, expect, link, new)
        of (expect: usize, link: *mut usize, new: usize), code;
    compare_link_and_store_mm_cid: MmCid Relaxed, compare_link_and_store(HEAD, expect, link, new)
        of (expect: usize, link: *mut usize, new: usize), code;
    compare_link_and_store_mm_cid_release: MmCid Release, compare_link_and_store(HEAD, expect, link, new)
        of (expect: usize, link: *mut usize, new: usize), code;
    pop_relaxed: CpuId Relaxed, pop(HEAD, core::ptr::null_mut(), link) of (link: isize), head;
    pop_release: CpuId Release, pop(HEAD, core::ptr::null_mut(), link) of (link: isize), head;
    pop_mm_cid: MmCid Relaxed, pop(HEAD, core::ptr::null_mut(), link) of (link: isize), head;
    pop_mm_cid_release: MmCid Release, pop(HEAD, core::ptr::null_mut(), link) of (link: isize), head;
    compare_copy_and_store_relaxed: CpuId Relaxed,
        compare_copy_and_store(WORD, expect, BYTES, source, length, new)
        of (expect: usize, source: *const u8, length: usize, new: usize), code;
    compare_copy_and_store_release: CpuId Release,
        compare_copy_and_store(WORD, expect, BYTES, source, length, new)
        of (expect: usize, source: *const u8, length: usize, new: usize), code;
    compare_copy_and_store_mm_cid: MmCid Relaxed,
        compare_copy_and_store(WORD, expect, BYTES, source, length, new)
        of (expect: usize, source: *const u8, length: usize, new: usize), code;
    compare_copy_and_store_mm_cid_release: MmCid Release,
        compare_copy_and_store(WORD, expect, BYTES, source, length, new)
        of (expect: usize, source: *const u8, length: usize, new: usize), code;
}

/// The number alone.
///
/// # Safety
/// 1. Never called.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn number_cpu_id(current: Current<'static, CpuId>) -> usize {
    current.id()
}

/// As [`number_cpu_id`].
///
/// # Safety
/// 1. Never called.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe fn number_mm_cid(current: Current<'static, MmCid>) -> usize {
    current.id()
}

/// Kept, whether called or not.
#[used]
static NUMBERS: [Address; 2] = [
    Address(number_cpu_id as *const ()),
    Address(number_mm_cid as *const ()),
];

fn main(_: &Env) -> i32 {
    0
}
