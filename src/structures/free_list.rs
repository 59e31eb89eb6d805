//! A stack of nodes for each CPU.

use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{NonNull, without_provenance_mut};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicUsize, compiler_fence};

use super::line::Line;
use super::link::{CLOSED, END, Links};
use super::overflow::{PopError, Stack};
use super::thread::{MAXIMUM_TRIES, ThreadSections, commit};
use crate::percpu::{CpuId, DrainError, Fence, Index, Membarrier, Miss, Operation, Slots};

/// An element of a [`FreeList`]: the link and the value. The link means nothing outside a list.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Node<T> {
    link: AtomicUsize,
    /// The caller's.
    pub value: T,
}

impl<T> Node<T> {
    /// A node that is in no list.
    pub const fn new(value: T) -> Self {
        Self {
            link: AtomicUsize::new(END),
            value,
        }
    }
}

/// One CPU's part of a [`FreeList`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct ListSlot {
    line: [Line; 0],
    head: AtomicUsize,
    /// 0; or a drain has the slot: 1 with the head that it took, once that is noted.
    drained: AtomicUsize,
}

impl ListSlot {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            line: [],
            head: AtomicUsize::new(END),
            drained: AtomicUsize::new(0),
        }
    }
}

type Mut<'n, T> = &'n mut Node<T>;

const HEAD: usize = offset_of!(ListSlot, head);

/// An intrusive stack for each CPU, for allocators, pools of stacks, and run queues: last in, first out on one CPU.
///
/// Pushing gives a node away for `'n`, popping gets one, and each node that was pushed is got once. Memory that was given
/// by [`Self::push_ptr`] may be unmapped as soon as it was popped.
///
/// ```
/// use rseq_rt::structures::{Fence, FreeList, ListSlot, Node};
///
/// static HEADS: [ListSlot; 8] = [const { ListSlot::new() }; 8]; // one for each possible CPU
/// // SAFETY: `FreeList::new` (1): nothing else uses HEADS.
/// static FREE: FreeList<'static, u64> = unsafe { FreeList::new(&HEADS) };
///
/// fn serve(thread: &rseq_rt::Thread<'_>, node: &'static mut Node<u64>) {
///     // SAFETY: `Thread::current` (1): used while nothing is lent.
///     let here = unsafe { thread.current() };
///     FREE.push(here, node);
///     if let Ok(node) = FREE.pop(here) {
///         node.value += 1;
///     }
/// }
///
/// // What is on other CPUs: one system call each.
/// let fence = Fence::register(); // once a process
/// for cpu in 0..FREE.slots().count() {
///     for node in FREE.take(cpu, &fence).into_iter().flatten() {
///         node.value = 0;
///     }
/// }
/// ```
///
/// A node cannot be used while it is in the list:
///
/// ```compile_fail,E0499
/// # use rseq_rt::structures::{FreeList, Node};
/// fn twice<'n>(thread: &rseq_rt::Thread<'_>, free: &FreeList<'n, u64>, node: &'n mut Node<u64>) {
///     free.push(unsafe { thread.current() }, node);
///     free.push(unsafe { thread.current() }, node);
/// }
/// ```
#[derive(Debug)]
pub struct FreeList<'n, T, I: Index = CpuId> {
    slots: Slots<'n, I, ListSlot>,
    overflow: Stack,
    // Invariant: nodes go in and come out.
    nodes: PhantomData<fn(Mut<'n, T>) -> Mut<'n, T>>,
}

// SAFETY: nodes move between threads, and the list itself is atomics.
unsafe impl<T: Send, I: Index> Sync for FreeList<'_, T, I> {}
// SAFETY: as above.
unsafe impl<T: Send, I: Index> Send for FreeList<'_, T, I> {}

impl<'n, T, I: Index> FreeList<'n, T, I> {
    /// An empty list, if the slots are.
    ///
    /// # Safety
    /// 1. From now on the slots serve this list alone, until each is made anew: another one over them, of other nodes,
    ///    of a longer life or by another kind of index, would be given this one's nodes.
    pub const unsafe fn new<const N: usize>(slots: &'n [ListSlot; N]) -> Self {
        // SAFETY: over (1) is (1).
        unsafe { Self::over(Slots::of(slots)) }
    }

    /// As [`Self::new`], for storage that was checked at run time.
    ///
    /// # Safety
    /// 1. of [`Self::new`].
    pub const unsafe fn over(slots: Slots<'n, I, ListSlot>) -> Self {
        Self {
            slots,
            overflow: Stack::new(),
            nodes: PhantomData,
        }
    }

    /// Its slots.
    pub const fn slots(&self) -> Slots<'n, I, ListSlot> {
        self.slots
    }

    /// Whether slot `index`, or the overflow slot for `None`, is empty. A moment old when it returns, and no barrier.
    ///
    /// For those who would pay a [`Fence`] for each slot otherwise. A slot that another drain has counts as empty,
    /// and so does one that is not there, and the overflow slot while a pop has it in hand.
    pub fn looks_empty(&self, index: Option<usize>) -> bool {
        match index {
            None => self.overflow.looks_empty(),
            Some(index) => self
                .slots
                .get(index)
                .is_none_or(|slot| matches!(slot.head.load(Relaxed), END | CLOSED)),
        }
    }

    /// Gives a node to the slot of the calling thread. Async-signal-safe.
    #[inline]
    pub fn push<S: ThreadSections<I>>(&self, here: S, node: &'n mut Node<T>) {
        // SAFETY: push_ptr (1): a `&'n mut` that the caller gives away.
        unsafe { self.push_ptr(here, NonNull::from(node)) }
    }

    /// As [`Self::push`], for memory that no reference stands for.
    ///
    /// # Safety
    /// 1. From here until it is popped the node is initialized, the list's alone, and not unmapped; and it may then be
    ///    used on the thread that pops it.
    #[inline]
    pub unsafe fn push_ptr<S: ThreadSections<I>>(&self, here: S, node: NonNull<Node<T>>) {
        // The link is the first field. From the pointer to the whole node, which comes back when it is popped.
        let link: *const AtomicUsize = node.as_ptr().cast_const().cast();
        let new = Links::word(link);
        for _ in 0..MAXIMUM_TRIES {
            let Some(slot) = here.index().and_then(|id| self.slots.get(id)) else {
                break;
            };
            let expect = slot.head.load(Relaxed);
            if expect == CLOSED {
                break;
            }
            let push = Operation::CompareLinkAndStore {
                word: HEAD,
                expect,
                link: link.cast_mut().cast(),
                new,
            };
            // SAFETY: run (1) HEAD, stored to by `take` else; (2) a link; (3) by (1) the list's, and not yet in it.
            match unsafe { here.run(self.slots, push, commit::<I>()) } {
                Ok(_) => return,
                // Another CPU's slot by now, or another thread of this one came first.
                Err(Miss::Differs) => {}
                Err(_) => break,
            }
        }
        // SAFETY: push (1) by (1).
        unsafe { self.overflow.push(here, new, new) };
    }

    /// The node that was last given to the slot of the calling thread, or else one of the overflow slot. Async-signal-safe.
    ///
    /// # Errors
    /// [`PopError`]. Nodes in other CPUs' slots are reached by [`Self::take`] alone.
    #[inline]
    pub fn pop<S: ThreadSections<I>>(&self, here: S) -> Result<&'n mut Node<T>, PopError> {
        let pop = Operation::Pop {
            word: HEAD,
            empty: without_provenance_mut(CLOSED),
            link: Links::origin() as isize,
        };
        // SAFETY: run (1) HEAD; (2) a link, or END; (3) the word is CLOSED, or END, behind which LAST is, or the link of a
        // node. A thread that has read that and not yet followed it is aborted before another one can have popped it: by
        // the switch to a thread of the same CPU, or by the fence.
        let missed = match unsafe { here.run(self.slots, pop, commit::<I>()) }.map(<*mut u8>::addr)
        {
            // SAFETY: node (1): popped.
            Ok(first) if first != END => return Ok(unsafe { Self::node(first) }),
            Ok(_) | Err(Miss::OutOfRange) => PopError::Empty,
            // A drain has the slot, or no section came to its end.
            Err(_) => PopError::Busy,
        };
        match self.overflow.pop(here) {
            // SAFETY: node (1): popped.
            Ok(first) => Ok(unsafe { Self::node(first) }),
            Err(PopError::Empty) => Err(missed),
            Err(busy) => Err(busy),
        }
    }

    /// All nodes of one slot, which may be any CPU's, offline ones included. System calls: 1, rarely more.
    ///
    /// By concurrency id, all sections of the process are aborted, by CPU those on that CPU.
    ///
    /// # Errors
    /// [`DrainError`]; nothing is taken.
    pub fn take<K: Membarrier>(
        &self,
        index: usize,
        fence: &Fence<K>,
    ) -> Result<Chain<'n, T>, DrainError> {
        let slot = self.slots.get(index).ok_or(DrainError::NoSuchSlot)?;
        // Two drains would take each other's mark for their own. No swap: it would take away what the other has noted.
        let drained = &slot.drained;
        if drained
            .compare_exchange(0, CLOSED, Acquire, Relaxed)
            .is_err()
        {
            return Err(DrainError::Busy);
        }
        let taken = Self::close(slot, || fence.abort_sections::<I>(index));
        if taken.is_ok() {
            // Open again. No section stores CLOSED, so it stays open.
            slot.head.store(END, Release);
        }
        drained.store(0, Release);
        taken.map(Chain::new)
    }

    /// The nodes of the slot, and the slot closed; or an error, and the slot as it was.
    fn close(
        slot: &ListSlot,
        abort_sections: impl Fn() -> Result<(), DrainError>,
    ) -> Result<usize, DrainError> {
        for _ in 0..MAXIMUM_TRIES {
            let first = slot.head.swap(CLOSED, AcqRel);
            // For a fork child, where this thread is not.
            slot.drained.store(first | CLOSED, Relaxed);
            if let Err(error) = abort_sections() {
                // A section that has read `first` and not yet stored finds it where it was; one that has stored has
                // replaced the mark, and the nodes are in the slot.
                let _ = slot.head.compare_exchange(CLOSED, first, Release, Relaxed);
                return Err(error);
            }
            // Sections store over `first`, never over the mark: if it is there, none did, and none can any more.
            if slot.head.load(Acquire) == CLOSED {
                return Ok(first);
            }
            // Before the next swap: this head is the slot's again, and may be popped.
            slot.drained.store(CLOSED, Relaxed);
            compiler_fence(SeqCst);
        }
        Err(DrainError::Busy)
    }

    /// All nodes of the overflow slot. No system call.
    ///
    /// A thread that has it in hand at the moment, for a pop, puts back what it has and not what was taken.
    pub fn take_overflow(&self) -> Chain<'n, T> {
        Chain::new(self.overflow.take())
    }

    /// In a fork child: makes the list usable again, whatever the parent's other threads were doing in it. No system call.
    ///
    /// Every node of a slot whose push had returned, and that no pop and no [`Self::take`] had got, is still there, but for
    /// one moment of `take`, an instruction long, at which its slot is lost. Nodes of the overflow slot are lost if a pop had
    /// them in hand: it takes all of them for that while.
    ///
    /// # Safety
    /// 1. The calling thread alone uses the structure until this returns: it is in a fork(2) child, before a second thread.
    /// 2. It is inside no operation and no drain of the structure itself: neither a handler nor a closure beneath one forked.
    pub unsafe fn repair_in_fork_child(&self) {
        for slot in self.slots.iter() {
            // A slot that needs no repair is not written to: the page stays shared with the parent.
            let noted = slot.drained.load(Relaxed);
            if slot.head.load(Relaxed) == CLOSED {
                slot.head.store(noted & !CLOSED, Relaxed);
            }
            if noted != 0 {
                slot.drained.store(0, Relaxed);
            }
        }
        self.overflow.forget_takers();
    }

    /// # Safety
    /// 1. `word` leads to the link of a node that was pushed and is in no list any more, and this is the only call for it.
    #[inline]
    unsafe fn node(word: usize) -> &'n mut Node<T> {
        // SAFETY: (1); push_ptr (1): initialized, and the list's alone until now.
        unsafe { &mut *Links::address(word).cast_mut().cast() }
    }
}

/// Nodes that were taken, last pushed first. Those that are left when it is dropped are lost to the list.
#[must_use = "the nodes are in no list any more"]
#[derive(Debug)]
pub struct Chain<'n, T> {
    first: usize,
    nodes: PhantomData<fn() -> Mut<'n, T>>,
}

// SAFETY: it is nodes, on their way to one thread.
unsafe impl<T: Send> Send for Chain<'_, T> {}

impl<'n, T> Chain<'n, T> {
    fn new(first: usize) -> Self {
        Self {
            first,
            nodes: PhantomData,
        }
    }

    /// Whether no node is left.
    pub const fn is_empty(&self) -> bool {
        self.first == END
    }
}

impl<'n, T> Iterator for Chain<'n, T> {
    type Item = &'n mut Node<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.first == END {
            return None;
        }
        // SAFETY: at (1): a node of this chain. Read before the node is given out, which may be the end of it.
        let next = unsafe { Links::at(self.first) }.load(Relaxed);
        // SAFETY: node (1): taken, and given out once.
        let node = unsafe { FreeList::<'n, T>::node(self.first) };
        self.first = next;
        Some(node)
    }
}
