//! Invalid storage, and zeroed memory, which is valid.

use std::mem::MaybeUninit;
use std::ptr::{null_mut, without_provenance_mut};

use rseq_rt::percpu::{CpuId, Slots, StorageError};
use rseq_rt::structures::{
    Buffer, BufferSlot, Bytes, BytesSlot, Counter, CounterSlot, FreeList, LINE, ListSlot, Node,
    PopError,
};

use super::fake::Fake;

const NOWHERE: Option<Fake<'_>> = None;

fn raw<T: Sync + 'static>(
    base: *mut u8,
    stride: usize,
    count: usize,
) -> Result<usize, StorageError> {
    // SAFETY: from_raw (1): refused, or zeroed memory that the callers below hold.
    unsafe { Slots::<'static, CpuId, T>::from_raw(base.cast(), stride, count) }
        .map(|slots| slots.count())
}

#[test]
fn refused_and_not_touched() {
    fn each<T: Sync + 'static>() {
        let size = size_of::<T>();
        let nowhere = without_provenance_mut(LINE);
        assert_eq!(raw::<T>(null_mut(), size, 2), Err(StorageError::Null));
        let misaligned = without_provenance_mut(LINE + 8);
        assert_eq!(raw::<T>(misaligned, size, 2), Err(StorageError::Misaligned));
        for stride in [0, 8, size / 2, size - 1, size + 1, 2 * size] {
            assert_eq!(raw::<T>(nowhere, stride, 2), Err(StorageError::WrongStride));
        }
        assert_eq!(raw::<T>(nowhere, size, 0), Err(StorageError::NoSlots));
        assert_eq!(
            raw::<T>(nowhere, size, usize::MAX),
            Err(StorageError::TooManySlots)
        );
        assert!(align_of::<T>() == LINE && size.is_multiple_of(LINE));
    }
    each::<CounterSlot>();
    each::<ListSlot>();
    each::<BufferSlot<14>>();
    each::<BytesSlot<112>>();
}

#[test]
fn zeroed_memory_is_empty_slots() {
    fn zeroed<T>() -> [T; 3] {
        // SAFETY: all bytes zero is a slot, as each type's documentation says.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
    let (counters, lists) = (zeroed::<CounterSlot>(), zeroed::<ListSlot>());
    let (buffers, logs) = (zeroed::<BufferSlot<14>>(), zeroed::<BytesSlot<112>>());
    let fence = rseq_rt::structures::Fence::register_on(super::fake::Alone);
    assert_eq!(Counter::<'_, CpuId>::new(&counters).sum(), 0);
    // SAFETY: new (1) slots of its own.
    let list = unsafe { FreeList::<u8>::new(&lists) };
    let buffer = Buffer::<u8, 14>::new(&buffers);
    // SAFETY: new (1) slots of its own.
    let log = unsafe { Bytes::<112>::new(&logs) };
    for cpu in 0..3 {
        assert!(list.take(cpu, &fence).is_ok_and(|chain| chain.is_empty()));
        assert_eq!(buffer.drain(cpu, &fence, |_| ()), Ok(0));
        assert_eq!(
            log.drain(cpu, &fence, |bytes| assert!(bytes.is_empty())),
            Ok(0)
        );
    }
}

/// Only the overflow slots: the path of every thread under an emulator without rseq.
#[test]
fn without_rseq() {
    let slots = [const { ListSlot::new() }; 1];
    let mut nodes = [1, 2, 3].map(Node::new);
    // SAFETY: new (1) slots of its own.
    let list = unsafe { FreeList::<u32>::new(&slots) };
    for node in &mut nodes {
        list.push(NOWHERE, node);
    }
    let mut got = [(); 3].map(|()| list.pop(NOWHERE).map(|node| node.value));
    got.sort_by_key(|got| got.unwrap_or(0));
    assert_eq!(got, [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(list.pop(NOWHERE).err(), Some(PopError::Empty));
}
