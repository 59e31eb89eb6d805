//! The structures: a counter, a free list, and the fence used to drain another CPU's slot.

use core::ffi::{c_int, c_void};
use core::mem::{align_of, size_of};

use rseq_rt::percpu::{CpuId, Current, Slots, StorageError};
use rseq_rt::structures::{
    Counter, CounterSlot, DrainError, Fence, FreeList, LINE, ListSlot, Node, PopError,
};
use rseq_rt::{Area, Errno, Error};

use crate::given::{area, checked, code, done, given};
use crate::process::PROCESS;

type List = FreeList<'static, ()>;
type Link = Node<()>;
type Each = unsafe extern "C" fn(node: *mut Link, argument: *mut c_void);

// Sizes as in the header.
const _: () = {
    assert!(size_of::<CounterSlot>() == LINE && size_of::<ListSlot>() == LINE);
    assert!(size_of::<Counter<'static>>() == 2 * LINE && align_of::<Counter<'static>>() == LINE);
    assert!(size_of::<List>() == 32 && align_of::<List>() == 8);
    assert!(size_of::<Link>() == 8 && size_of::<Fence>() == 1);
};

/// The errno for a valid call that is refused.
fn refused(errno: Errno) -> c_int {
    -c_int::from(errno.raw())
}

fn not_drained(error: DrainError) -> c_int {
    refused(match error {
        DrainError::NoSuchSlot => Errno::INVAL,
        DrainError::Busy => Errno::AGAIN,
        DrainError::Refused(errno) => errno,
        _ => Errno::NOSYS,
    })
}

/// Makes a structure over the slots at `lines`.
///
/// # Safety
/// 1. `to` is null, misaligned, or can be written to, and nobody uses it yet.
/// 2. `lines` is null, misaligned, or `count` lines that are zero or slots, for ever.
unsafe fn make<T, S: Sync + 'static>(
    to: *mut T,
    lines: *const S,
    count: usize,
    over: impl FnOnce(Slots<'static, CpuId, S>) -> T,
) -> c_int {
    if let Err(error) = checked(to) {
        return code(error);
    }
    // SAFETY: Slots::from_raw (1) is (2).
    let slots: Result<_, StorageError> = unsafe { Slots::from_raw(lines, size_of::<S>(), count) };
    match slots {
        Ok(slots) => {
            // SAFETY: neither null nor misaligned, and (1).
            unsafe { to.write(over(slots)) };
            0
        }
        Err(error) => -c_int::from(error.raw_os_error()),
    }
}

/// The calling thread, if it may run sections.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the calling thread's area: 128 bytes, zero at first.
unsafe fn here<'a>(pointer: *const Area) -> Option<Current<'a, CpuId>> {
    // SAFETY: area (1) by (1).
    let area = unsafe { area(pointer) }.ok()?;
    // SAFETY: Process::current (1) by (1); (2) used by one operation, at once.
    unsafe { PROCESS.current(area) }
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `counter` is null, misaligned, or room for one that nobody uses yet.
/// 2. `lines` is null, misaligned, or `count` lines that are zero, and the counter's alone for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_counter_init(
    counter: *mut Counter<'static>,
    lines: *const CounterSlot,
    count: usize,
) -> c_int {
    // SAFETY: make (1, 2) are (1, 2).
    unsafe { make(counter, lines, count, Counter::over) }
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the calling thread's area: 128 bytes, zero at first.
/// 2. `counter` is null, misaligned, or one that was made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_counter_add(
    counter: *const Counter<'static>,
    pointer: *const Area,
    value: usize,
) -> c_int {
    // SAFETY: given (1) is (2); here (1) is (1).
    done(unsafe { given(counter).map(|counter| counter.add(here(pointer), value)) })
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. (2) of [`rseq_rt_counter_add`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_counter_sum(counter: *const Counter<'static>) -> usize {
    // SAFETY: given (1) is (1).
    unsafe { given(counter) }.map_or(0, Counter::sum)
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `list` is null, misaligned, or room for one that nobody uses yet.
/// 2. `lines` is null, misaligned, or `count` lines that are zero, and the list's alone for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_list_init(
    list: *mut List,
    lines: *const ListSlot,
    count: usize,
) -> c_int {
    // SAFETY: make (1, 2) are (1, 2); FreeList::over (1) is (2).
    unsafe { make(list, lines, count, |slots| FreeList::over(slots)) }
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the calling thread's area: 128 bytes, zero at first.
/// 2. `list` is null, misaligned, or one that was made.
/// 3. `node` is null, misaligned, or the caller's, and from now on the list's until it is popped or drained.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_list_push(
    list: *const List,
    pointer: *const Area,
    node: *mut Link,
) -> c_int {
    // SAFETY: given (1) is (2).
    let list = match unsafe { given(list) } {
        Ok(list) => list,
        Err(error) => return code(error),
    };
    // SAFETY: here (1) is (1); FreeList::push_ptr (1) is (3).
    done(checked(node).map(|node| unsafe { list.push_ptr(here(pointer), node) }))
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. and 2. of [`rseq_rt_list_push`].
/// 3. `node` is null, misaligned, or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_list_pop(
    list: *const List,
    pointer: *const Area,
    node: *mut *mut Link,
) -> c_int {
    // SAFETY: given (1) is (2) and (3).
    let list = match unsafe { (given(list), given(node)) } {
        (Ok(list), Ok(_)) => list,
        (Err(error), _) | (_, Err(error)) => return code(error),
    };
    // SAFETY: here (1) is (1).
    match list.pop(unsafe { here(pointer) }) {
        Ok(popped) => {
            // SAFETY: neither null nor misaligned, and (3).
            unsafe { node.write(popped) };
            0
        }
        Err(PopError::Empty) => refused(Errno::NOENT),
        Err(PopError::Busy) => refused(Errno::AGAIN),
    }
}

/// Passes nodes to `each`; returns how many.
///
/// # Safety
/// 1. `each` takes a node and the argument.
unsafe fn give(
    nodes: impl Iterator<Item = &'static mut Link>,
    each: Each,
    argument: *mut c_void,
) -> c_int {
    let mut count = 0;
    for node in nodes {
        // SAFETY: (1).
        unsafe { each(node, argument) };
        count += 1;
    }
    count
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `list` is null, misaligned, or one that was made.
/// 2. `fence` is null, or one that was registered.
/// 3. `each` is null, or takes a node and the argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_list_drain(
    list: *const List,
    fence: *const Fence,
    slot: usize,
    each: Option<Each>,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: given (1) is (1) and (2).
    let (list, fence, each) = match unsafe { (given(list), given(fence), each) } {
        (Ok(list), Ok(fence), Some(each)) => (list, fence, each),
        (Err(error), ..) | (_, Err(error), _) => return code(error),
        (_, _, None) => return code(Error::NullArea),
    };
    match list.take(slot, fence) {
        // SAFETY: give (1) is (3).
        Ok(chain) => unsafe { give(chain, each, argument) },
        Err(error) => not_drained(error),
    }
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. and 3. of [`rseq_rt_list_drain`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_list_drain_overflow(
    list: *const List,
    each: Option<Each>,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: given (1) is (1).
    match unsafe { (given(list), each) } {
        // SAFETY: give (1) is (3).
        (Ok(list), Some(each)) => unsafe { give(list.take_overflow(), each, argument) },
        (Err(error), _) => code(error),
        (_, None) => code(Error::NullArea),
    }
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `list` is null, misaligned, or one that was made.
/// 2. (1) and (2) of [`FreeList::repair_in_fork_child`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_list_repair_in_fork_child(list: *const List) -> c_int {
    // SAFETY: given (1) is (1); repair_in_fork_child (1, 2) are (2).
    done(unsafe { given(list).map(|list| list.repair_in_fork_child()) })
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `fence` is null, or room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_fence_register(fence: *mut Fence) -> c_int {
    if fence.is_null() {
        return code(Error::NullArea);
    }
    let registered = Fence::register();
    // SAFETY: not null, and (1).
    unsafe { fence.write(registered) };
    registered.has_membarrier().into()
}

/// See `rseq_rt_structures.h`.
///
/// # Safety
/// 1. `fence` is null, or one that was registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_fence_abort(fence: *const Fence, cpu: usize) -> c_int {
    // SAFETY: given (1) is (1).
    match unsafe { given(fence) }.map(|fence| fence.abort_sections::<CpuId>(cpu)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => not_drained(error),
        Err(error) => code(error),
    }
}
