//! New structures, each on slots of its own, in memory that stays.

use rseq_rt::percpu::Index;
use rseq_rt::structures::{
    Buffer, BufferSlot, Bytes, BytesSlot, Counter, CounterSlot, FreeList, ListSlot,
};

use super::crowd::{SLOTS, place};

pub fn counter<I: Index>() -> Counter<'static, I> {
    Counter::new(place([const { CounterSlot::new() }; SLOTS]))
}

pub fn list<T, I: Index>() -> FreeList<'static, T, I> {
    // SAFETY: new (1) fresh slots, for this one alone.
    unsafe { FreeList::new(place([const { ListSlot::new() }; SLOTS])) }
}

pub fn buffer<T, const ROOM: usize, I: Index>() -> Buffer<'static, T, ROOM, I> {
    Buffer::new(place([const { BufferSlot::new() }; SLOTS]))
}

pub fn bytes<const ROOM: usize, I: Index>() -> Bytes<'static, ROOM, I> {
    // SAFETY: new (1) fresh slots, for this one alone.
    unsafe { Bytes::new(place([const { BytesSlot::new() }; SLOTS])) }
}
