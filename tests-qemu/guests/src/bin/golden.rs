//! Each per-CPU operation as a separate symbol, so that the runner can pin its code and count its instructions. When
//! run, it does nothing and exits with 0.
#![no_std]
#![no_main]

use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicUsize};

use guests::entry;
use guests::entry::Env;
use own_sections::events::{self, Log};
use own_sections::slab::{self, Slab};
use rseq_rt::percpu::{Commit, CpuId, Current, Miss, MmCid, Operation, Slots};

entry!(main);

/// A user's layout: two cache lines for each CPU.
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

/// Callers distinguish the misses, here by addresses that no node has.
fn code(result: Result<*mut u8, Miss>) -> usize {
    match result {
        Ok(popped) => popped.expose_provenance(),
        Err(Miss::Differs) => 1,
        Err(Miss::Aborted) => 2,
        Err(Miss::OutOfRange) => 3,
    }
}

/// The address of a function.
struct Address(#[allow(dead_code)] *const ()); // Its being there is its use.

// SAFETY: never read.
unsafe impl Sync for Address {}

/// One operation, in both orders, with both kinds of index.
macro_rules! golden {
    ($([$relaxed:ident $release:ident $mm_cid:ident $mm_cid_release:ident]
        ($($given:ident: $type:ty),*) $operation:expr;)*) => {
        $(
            golden!(@one $relaxed, CpuId, Relaxed, ($($given: $type),*), $operation);
            golden!(@one $release, CpuId, Release, ($($given: $type),*), $operation);
            golden!(@one $mm_cid, MmCid, Relaxed, ($($given: $type),*), $operation);
            golden!(@one $mm_cid_release, MmCid, Release, ($($given: $type),*), $operation);
        )*
    };
    (@one $name:ident, $index:ident, $commit:ident, ($($given:ident: $type:ty),*), $operation:expr) => {
        /// # Safety
        /// 1. Never called.
        #[unsafe(no_mangle)]
        #[inline(never)]
        unsafe fn $name(
            current: Current<'static, $index>,
            slots: Slots<'static, $index, Slot>,
            $($given: $type),*
        ) -> usize {
            use Operation::*;
            // SAFETY: (1).
            code(unsafe { current.run(slots, $operation, Commit::$commit) })
        }
        const _: () = {
            /// Kept, whether called or not.
            #[used]
            static KEPT: Address = Address($name as *const ());
        };
    };
}

golden! {
    [add_relaxed add_release add_mm_cid add_mm_cid_release]
        (value: usize) Add { word: WORD, value };
    [add_through_relaxed add_through_release add_through_mm_cid add_through_mm_cid_release]
        (offset: isize, value: usize) AddThrough { word: WORD, offset, value };
    [compare_and_store_relaxed compare_and_store_release compare_and_store_mm_cid compare_and_store_mm_cid_release]
        (expect: usize, new: usize) CompareAndStore { word: WORD, expect, new };
    [compare_two_and_store_relaxed compare_two_and_store_release
        compare_two_and_store_mm_cid compare_two_and_store_mm_cid_release]
        (expect: usize, expect_second: usize, new: usize)
        CompareTwoAndStore { word: WORD, expect, second: SECOND, expect_second, new };
    [compare_store_and_store_relaxed compare_store_and_store_release
        compare_store_and_store_mm_cid compare_store_and_store_mm_cid_release]
        (expect: usize, value: usize, new: usize)
        CompareStoreAndStore { word: WORD, expect, second: SECOND, value, new };
    [compare_link_and_store_relaxed compare_link_and_store_release
        compare_link_and_store_mm_cid compare_link_and_store_mm_cid_release]
        (expect: usize, link: *mut usize, new: usize)
        CompareLinkAndStore { word: HEAD, expect, link, new };
    [pop_relaxed pop_release pop_mm_cid pop_mm_cid_release]
        (link: isize) Pop { word: HEAD, empty: core::ptr::null_mut(), link };
    [compare_copy_and_store_relaxed compare_copy_and_store_release
        compare_copy_and_store_mm_cid compare_copy_and_store_mm_cid_release]
        (expect: usize, source: *const u8, length: usize, new: usize)
        CompareCopyAndStore { word: WORD, expect, offset: BYTES, source, length, new };
}

/// A section of `examples/sections`, likewise: the names of the sections with mutants.
macro_rules! own {
    ($([$relaxed:ident $release:ident $mm_cid:ident $mm_cid_release:ident]
        $section:path, $slot:ty, ($($given:ident),*);)*) => {
        $(
            own!(@one $relaxed, CpuId, Relaxed, $section, $slot, ($($given),*));
            own!(@one $release, CpuId, Release, $section, $slot, ($($given),*));
            own!(@one $mm_cid, MmCid, Relaxed, $section, $slot, ($($given),*));
            own!(@one $mm_cid_release, MmCid, Release, $section, $slot, ($($given),*));
        )*
    };
    (@one $name:ident, $index:ident, $commit:ident, $section:path, $slot:ty, ($($given:ident),*)) => {
        /// # Safety
        /// 1. Never called.
        #[unsafe(no_mangle)]
        #[inline(never)]
        unsafe fn $name(
            current: Current<'static, $index>,
            slots: Slots<'static, $index, $slot>,
            $($given: usize),*
        ) -> usize {
            // SAFETY: (1).
            match unsafe { $section(current, slots, Commit::$commit, slots.address(0), $($given),*) } {
                Ok(result) => result,
                Err(miss) => miss as usize,
            }
        }
        const _: () = {
            /// Kept, whether called or not.
            #[used]
            static KEPT: Address = Address($name as *const ());
        };
    };
}

own! {
    [own_push_relaxed own_push_release own_push_mm_cid own_push_mm_cid_release]
        slab::sections::push, Slab, (from, length);
    [own_pop_relaxed own_pop_release own_pop_mm_cid own_pop_mm_cid_release]
        slab::sections::pop, Slab, (to, length, none);
    [own_append_relaxed own_append_release own_append_mm_cid own_append_mm_cid_release]
        events::sections::append, Log, (first, second, from, bytes);
    [own_take_relaxed own_take_release own_take_mm_cid own_take_mm_cid_release]
        events::sections::take, Log, (to, none);
}

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
