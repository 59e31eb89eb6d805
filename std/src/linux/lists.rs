//! The lists of a pool that critical sections push to and pop from.

use std::ptr::NonNull;

use rseq_rt::Errno;
use rseq_rt::percpu::Slots;
use rseq_rt::structures::{Fence, FreeList, ListSlot, Membarrier, Node};

use super::fork::{Header, Registration};
use super::{as_static, thread};
use crate::cpus::possible_cpus;
use crate::lazy::{Array, Lazy};

/// The lists: one for each possible CPU, made at the first push.
pub(crate) struct Lists<V: 'static>(Lazy<Parts<V>>);

#[repr(C)]
struct Parts<V: 'static> {
    /// First, so that its address is that of the whole, as the fork handler needs it.
    header: Header,
    registration: Registration,
    /// `None` if this number of slots is not possible.
    list: Option<FreeList<'static, V>>,
    /// The slots of the list, dropped after it.
    _slots: Array<ListSlot>,
}

impl<V: Send> Parts<V> {
    fn new() -> Self {
        let slots = Array::new(possible_cpus(), ListSlot::new);
        // SAFETY: as_static (1): the list goes first. FreeList::over (1): they are this list's alone.
        let list =
            Slots::new(unsafe { as_static(&slots) }).map(|slots| unsafe { FreeList::over(slots) });
        Self {
            header: Header::new(repair::<V>),
            registration: Registration::new(),
            list: list.ok(),
            _slots: slots,
        }
    }
}

/// # Safety
/// 1. `header` is that of a `Parts<V>`.
/// 2. 1. and 2. of [`FreeList::repair_in_fork_child`].
unsafe fn repair<V: 'static>(header: *const Header) {
    // SAFETY: (1): the header is the first field, and the pointer was made of one to the whole.
    let parts = unsafe { &*header.cast::<Parts<V>>() };
    if let Some(list) = &parts.list {
        // SAFETY: repair_in_fork_child (1, 2) are (2).
        unsafe { list.repair_in_fork_child() };
    }
}

impl<V: Send> Lists<V> {
    pub(crate) const fn new() -> Self {
        Self(Lazy::new())
    }

    /// Takes the node if the calling thread runs sections. Otherwise changes nothing.
    ///
    /// # Safety
    /// 1. If it is taken, the node is the lists', from `Box::leak`.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, node: NonNull<Node<V>>) -> bool {
        // SAFETY: sections (1) used at once.
        let Some(here) = (unsafe { thread::sections() }) else {
            return false;
        };
        // A fork between the two leaves a child whose list is not repaired. Only nodes held by other threads are lost
        // to it.
        let parts = self.0.get(Parts::new, |parts| {
            // SAFETY: enter (1) by the drop of `Parts`; (2) the first field of what `repair` casts to.
            unsafe { parts.registration.enter(std::ptr::from_ref(parts).cast()) };
        });
        match &parts.list {
            Some(list) => {
                // SAFETY: push_ptr (1) is (1); `V` is Send.
                unsafe { list.push_ptr(here, node) };
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<NonNull<Node<V>>> {
        // SAFETY: sections (1) used at once.
        let here = unsafe { thread::sections() };
        let list = self.0.peek()?.list.as_ref()?;
        list.pop(here).ok().map(NonNull::from)
    }

    pub(crate) fn drain(&self, take: &mut impl FnMut(NonNull<Node<V>>)) {
        if let Some(list) = self.0.peek().and_then(|parts| parts.list.as_ref()) {
            drain(list, &Fence::register(), take);
        }
    }
}

fn drain<V: 'static, K: Membarrier>(
    list: &FreeList<'static, V>,
    fence: &Fence<K>,
    take: &mut impl FnMut(NonNull<Node<V>>),
) {
    let slots = 0..list.slots().count();
    for cpu in slots.filter(|&cpu| !list.looks_empty(Some(cpu))) {
        let taken = list.take(cpu, fence).into_iter().flatten();
        taken.map(NonNull::from).for_each(&mut *take);
    }
    list.take_overflow().map(NonNull::from).for_each(take);
}

impl<V: 'static> Drop for Parts<V> {
    fn drop(&mut self) {
        self.registration.leave();
        if let Some(list) = &self.list {
            // SAFETY: from Box::leak, by `Lists::push` (1).
            drain(list, &Fence::register_on(Alone), &mut |node| unsafe {
                drop(Box::from_raw(node.as_ptr()))
            });
        }
    }
}

/// The barrier of an exclusive owner of the list: nobody runs a section over it.
struct Alone;

// SAFETY: (1) there is no section to abort.
unsafe impl Membarrier for Alone {
    fn membarrier(&self, _: u32, _: u32, _: u32) -> Result<(), Errno> {
        Ok(())
    }

    fn visit(&self, _: u32) -> Result<(), Errno> {
        Ok(())
    }
}
