//! A free list for each CPU.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::here::{Lists, Node};
use crate::shards::Shards;

/// The node of a pool: the value, and room for the links of the lists that it may be in.
pub(crate) struct Linked<T> {
    /// The link of the stack for threads without rseq. It has no meaning outside that stack.
    next: AtomicPtr<Node<Linked<T>>>,
    value: T,
}

/// A value on the heap that can be in a [`Pool`]: an owned `T`, like a `Box<T>`.
///
/// ```
/// use rseq_rt_std::Item;
///
/// let mut item = Item::new(vec![0u8; 4096]);
/// item[0] = 1;
/// assert_eq!(Item::into_inner(item).len(), 4096);
/// ```
pub struct Item<T>(Box<Node<Linked<T>>>);

impl<T> Item<T> {
    /// Allocates one. An item pushed to a pool and popped again is not reallocated.
    #[must_use]
    pub fn new(value: T) -> Self {
        let next = AtomicPtr::new(ptr::null_mut());
        Self(Box::new(Node::new(Linked { next, value })))
    }

    /// Returns the value and frees the memory.
    #[must_use]
    pub fn into_inner(item: Self) -> T {
        item.0.value.value
    }

    fn into_raw(self) -> NonNull<Node<Linked<T>>> {
        NonNull::from(Box::leak(self.0))
    }

    /// # Safety
    /// 1. `node` is from `into_raw`, and is passed once.
    unsafe fn from_raw(node: NonNull<Node<Linked<T>>>) -> Self {
        // SAFETY: (1): from Box::leak.
        Self(unsafe { Box::from_raw(node.as_ptr()) })
    }
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value.value
    }
}

impl<T> DerefMut for Item<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.value.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(&**self).finish()
    }
}

impl<T> From<T> for Item<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// A pool of objects with a stack for each CPU: buffers, connections, anything that is expensive to make.
///
/// ```
/// use rseq_rt_std::{Item, Pool};
///
/// static BUFFERS: Pool<Vec<u8>> = Pool::new();
///
/// let mut buffer = BUFFERS.pop().unwrap_or_else(|| Item::new(Vec::with_capacity(4096)));
/// buffer.extend_from_slice(b"some bytes");
/// buffer.clear();
/// BUFFERS.push(buffer);
/// ```
///
/// An item pushed on a CPU is popped on that CPU, last in first out, without an atomic instruction. Threads without rseq
/// share a few separate lock-free stacks. An [`Item`] is an ordinary value: it may be kept across an `await`, sent to
/// another thread, dropped, or pushed to another pool. Dropping the pool drops its items.
///
/// It is a cache, not a queue: [`Self::pop`] may find nothing while there are items on other CPUs. If some threads only
/// push and others only pop, items gather on the CPUs of the former; [`Self::drain`] gets them all. The size of a pool is
/// not limited.
pub struct Pool<T: 'static> {
    lists: Lists<Linked<T>>,
    shards: Shards<Stack<T>>,
}

impl<T: Send + 'static> Pool<T> {
    /// An empty pool.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lists: Lists::new(),
            shards: Shards::new(),
        }
    }

    /// Gives an item to the calling thread's CPU. Never blocks or fails.
    ///
    /// Cost: some nanoseconds, whatever other threads do; without rseq, an atomic compare-and-exchange. The first
    /// use of the pool allocates.
    #[inline(never)]
    pub fn push(&self, item: Item<T>) {
        let node = item.into_raw();
        // SAFETY: push (1) owned, and given away here.
        if !unsafe { self.lists.push(node) } {
            // SAFETY: push (1) as above; the list did not accept it.
            unsafe { self.shards.own(Stack::new).push(node, node) };
        }
    }

    /// Takes the item last given to the calling thread's CPU, or one from a thread without rseq; `None` if there was none
    /// at that moment. Never blocks.
    ///
    /// Cost: as [`Self::push`].
    #[inline(never)]
    pub fn pop(&self) -> Option<Item<T>> {
        let node = self.lists.pop().or_else(|| self.pop_of_shards())?;
        // SAFETY: from_raw (1): pushed once, and popped once.
        Some(unsafe { Item::from_raw(node) })
    }

    /// Takes all items of the pool, including those of other CPUs: to trim it, or to expire old items.
    ///
    /// The result may or may not contain items that other threads push or pop meanwhile. If a filter refuses
    /// membarrier(2) and sched_setaffinity(2), the kernel does not interrupt other CPUs, whose items then stay in the
    /// pool.
    ///
    /// Cost: one or two system calls for each possible CPU that has items: microseconds.
    #[must_use = "what is not pushed again is dropped"]
    pub fn drain(&self) -> Vec<Item<T>> {
        let mut items = Vec::new();
        // SAFETY: from_raw (1): taken once.
        let mut take = |node| items.push(unsafe { Item::from_raw(node) });
        self.lists.drain(&mut take);
        while let Some(node) = self.pop_of_shards() {
            take(node);
        }
        items
    }

    #[cold]
    fn pop_of_shards(&self) -> Option<NonNull<Node<Linked<T>>>> {
        self.shards.nearest_first().find_map(Stack::pop)
    }
}

impl<T: Send + 'static> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: 'static> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// A lock-free stack of all threads. A pop takes the whole stack for a moment, since the first item's link cannot be read
/// while others may pop that item. Items held by one thread while another forks are lost to the child.
struct Stack<T> {
    first: AtomicPtr<Node<Linked<T>>>,
}

impl<T> Stack<T> {
    fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// # Safety
    /// 1. The nodes from `first` to `last` are the caller's, and become the stack's.
    unsafe fn push(&self, first: NonNull<Node<Linked<T>>>, last: NonNull<Node<Linked<T>>>) {
        // SAFETY: (1).
        let last = unsafe { &last.as_ref().value.next };
        let mut seen = self.first.load(Relaxed);
        loop {
            last.store(seen, Relaxed);
            let pushed = self
                .first
                .compare_exchange_weak(seen, first.as_ptr(), Release, Relaxed);
            match pushed {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn pop(&self) -> Option<NonNull<Node<Linked<T>>>> {
        if self.first.load(Relaxed).is_null() {
            return None;
        }
        let first = NonNull::new(self.first.swap(ptr::null_mut(), Acquire))?;
        // SAFETY: next_of (1): the whole stack is owned here since the exchange.
        if let Some(rest) = unsafe { Self::next_of(first) } {
            // SAFETY: put_back (1) likewise.
            unsafe { self.put_back(rest) };
        }
        Some(first)
    }

    /// # Safety
    /// 1. The nodes from `rest` on are the caller's, and become the stack's.
    unsafe fn put_back(&self, rest: NonNull<Node<Linked<T>>>) {
        let empty = ptr::null_mut();
        if self
            .first
            .compare_exchange(empty, rest.as_ptr(), Release, Relaxed)
            .is_ok()
        {
            return;
        }
        // Few nodes were pushed meanwhile, and `rest` may be long. So `rest` goes in first, and the end of the few is
        // searched.
        if let Some(newer) = NonNull::new(self.first.swap(rest.as_ptr(), AcqRel)) {
            let mut last = newer;
            // SAFETY: next_of (1): the nodes that were there are owned here since the exchange.
            while let Some(next) = unsafe { Self::next_of(last) } {
                last = next;
            }
            // SAFETY: push (1) likewise.
            unsafe { self.push(newer, last) };
        }
    }

    /// # Safety
    /// 1. The node is the caller's.
    unsafe fn next_of(node: NonNull<Node<Linked<T>>>) -> Option<NonNull<Node<Linked<T>>>> {
        // SAFETY: (1).
        NonNull::new(unsafe { node.as_ref() }.value.next.load(Relaxed))
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        while let Some(node) = self.pop() {
            // SAFETY: from_raw (1): popped once.
            drop(unsafe { Item::from_raw(node) });
        }
    }
}

// SAFETY: it owns nodes, which move between threads, and is an atomic itself.
unsafe impl<T: Send> Send for Stack<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Stack<T> {}

#[cfg(test)]
mod tests {
    use super::{Item, Pool, Stack};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn last_in_first_out_on_one_cpu() {
        let pool = Pool::new();
        assert!(pool.pop().is_none());
        for number in 0..3 {
            pool.push(Item::new(number));
        }
        let mut all: Vec<i32> = pool.drain().into_iter().map(Item::into_inner).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert!(pool.pop().is_none() && pool.drain().is_empty());
    }

    #[test]
    fn a_stack_loses_nothing() {
        let stack = Stack::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..500u64 {
                        let node = Item::new(number).into_raw();
                        // SAFETY: push (1) a new one.
                        unsafe { stack.push(node, node) };
                        if let Some(node) = stack.pop() {
                            // SAFETY: push (1) popped.
                            unsafe { stack.push(node, node) };
                        }
                    }
                });
            }
        });
        let mut sum = 0;
        while let Some(node) = stack.pop() {
            // SAFETY: from_raw (1) popped.
            sum += Item::into_inner(unsafe { Item::from_raw(node) });
        }
        assert_eq!(sum, 4 * 499 * 500 / 2);
    }

    #[test]
    fn a_pool_drops_what_is_in_it() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new();
        for _ in 0..4 {
            pool.push(Item::new(Counted(Arc::clone(&dropped))));
        }
        let node = Item::new(Counted(Arc::clone(&dropped))).into_raw();
        // SAFETY: push (1) a new one.
        unsafe { pool.shards.own(Stack::new).push(node, node) };
        assert_eq!(dropped.load(Relaxed), 0);
        drop(pool);
        assert_eq!(dropped.load(Relaxed), 5);
    }
}
