//! A value that is made at its first use, without a lock.
//!
//! Not a `OnceLock`: in a fork child nobody finishes an initialization that a thread of the parent had begun, and a
//! waiter would wait for ever. Here two threads may both make a value, and the second one is dropped. Memory comes from
//! the system allocator, so that a `#[global_allocator]` may itself count.

use std::alloc::{GlobalAlloc, Layout, System, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// The value, or null.
pub(crate) struct Lazy<T> {
    value: AtomicPtr<T>,
    owned: PhantomData<*mut T>,
}

// SAFETY: a `T` may be made on one thread, used on all and dropped on any.
unsafe impl<T: Send + Sync> Sync for Lazy<T> {}
// SAFETY: an owned `T`.
unsafe impl<T: Send> Send for Lazy<T> {}

impl<T> Lazy<T> {
    pub(crate) const fn new() -> Self {
        Self {
            value: AtomicPtr::new(ptr::null_mut()),
            owned: PhantomData,
        }
    }

    /// The value, if it was made.
    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<&T> {
        // SAFETY: null, or an initialized `T` that lives as long as `self`.
        unsafe { self.value.load(Acquire).as_ref() }
    }

    /// The value, made by `make` if there is none. The thread whose value is kept calls `placed` with it.
    #[inline(always)]
    pub(crate) fn get(&self, make: impl FnOnce() -> T, placed: impl FnOnce(&T)) -> &T {
        match self.peek() {
            Some(value) => value,
            None => self.make(make, placed),
        }
    }

    #[cold]
    #[inline(never)]
    fn make(&self, make: impl FnOnce() -> T, placed: impl FnOnce(&T)) -> &T {
        let new = place(make());
        match self
            .value
            .compare_exchange(ptr::null_mut(), new.as_ptr(), AcqRel, Acquire)
        {
            Ok(_) => {
                // SAFETY: initialized, and as long as `self`.
                let value = unsafe { new.as_ref() };
                placed(value);
                value
            }
            Err(first) => {
                // SAFETY: remove (1) nobody else has seen it.
                unsafe { remove(new) };
                // SAFETY: not null, initialized, and as long as `self`.
                unsafe { &*first }
            }
        }
    }
}

impl<T> Drop for Lazy<T> {
    fn drop(&mut self) {
        if let Some(value) = NonNull::new(*self.value.get_mut()) {
            // SAFETY: remove (1) nobody borrows it any more.
            unsafe { remove(value) };
        }
    }
}

/// Moves a value into memory of the system allocator.
pub(crate) fn place<T>(value: T) -> NonNull<T> {
    let layout = Layout::new::<T>();
    let place = if layout.size() == 0 {
        NonNull::dangling()
    } else {
        // SAFETY: not of size 0.
        let place = unsafe { System.alloc(layout) };
        NonNull::new(place.cast::<T>()).unwrap_or_else(|| handle_alloc_error(layout))
    };
    // SAFETY: new memory of that layout.
    unsafe { place.write(value) };
    place
}

/// # Safety
/// 1. It is from [`place`], is passed once, and nobody uses it any more.
pub(crate) unsafe fn remove<T>(place: NonNull<T>) {
    let layout = Layout::new::<T>();
    // SAFETY: (1).
    unsafe { place.drop_in_place() };
    if layout.size() != 0 {
        // SAFETY: (1), with the layout that it was allocated with.
        unsafe { System.dealloc(place.as_ptr().cast(), layout) };
    }
}

/// An array of values in memory of the system allocator.
pub(crate) struct Array<T> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: it is a `Box<[T]>`.
unsafe impl<T: Sync> Sync for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Array<T> {}

impl<T> Array<T> {
    /// Makes `length` values, at least one. If `make` panics, the values made so far are leaked.
    pub(crate) fn new(length: usize, make: impl Fn() -> T) -> Self {
        let length = length.max(1);
        let layout = Self::layout(length);
        assert!(layout.size() != 0);
        // SAFETY: not of size 0.
        let start = unsafe { System.alloc(layout) };
        let start = NonNull::new(start.cast::<T>()).unwrap_or_else(|| handle_alloc_error(layout));
        for index in 0..length {
            // SAFETY: new memory for `length` of them.
            unsafe { start.add(index).write(make()) };
        }
        Self { start, length }
    }

    fn layout(length: usize) -> Layout {
        match Layout::array::<T>(length) {
            Ok(layout) => layout,
            Err(_) => panic!("more than memory can hold"),
        }
    }
}

impl<T> std::ops::Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: initialized in `new`, and as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        let all = ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.length);
        // SAFETY: initialized in `new`, and owned.
        unsafe { all.drop_in_place() };
        // SAFETY: allocated in `new`, with that layout.
        unsafe { System.dealloc(self.start.as_ptr().cast(), Self::layout(self.length)) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Array, Lazy};
    use std::sync::Arc;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn one_is_kept_and_every_one_is_dropped_once() {
        struct Counted(Arc<[AtomicUsize; 2]>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0[1].fetch_add(1, Relaxed);
            }
        }
        let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
        let (lazy, start) = (Lazy::new(), Barrier::new(4));
        let placed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let make = || {
                        counts[0].fetch_add(1, Relaxed);
                        std::thread::yield_now();
                        Counted(Arc::clone(&counts))
                    };
                    lazy.get(make, |_| _ = placed.fetch_add(1, Relaxed));
                });
            }
        });
        assert_eq!(placed.load(Relaxed), 1);
        assert_eq!(counts[1].load(Relaxed), counts[0].load(Relaxed) - 1);
        drop(lazy);
        assert_eq!(counts[1].load(Relaxed), counts[0].load(Relaxed));
    }

    #[test]
    fn nothing_of_size_zero_is_allocated() {
        let lazy = Lazy::new();
        lazy.get(|| (), |()| {});
        assert!(lazy.peek().is_some());
    }

    #[test]
    fn an_array_has_at_least_one() {
        assert_eq!(*Array::new(0, || 7), [7]);
        assert_eq!(Array::new(3, String::new).len(), 3);
    }

    /// A child that is forked while another thread makes the value must finish.
    #[cfg(unix)]
    fn child_ends(get: impl Fn(&dyn Fn() -> u8) -> u8 + Sync) -> bool {
        let making = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                get(&|| {
                    making.wait();
                    making.wait();
                    1
                })
            });
            making.wait();
            // SAFETY: the child makes a byte and ends.
            let child = match unsafe { libc::fork() } {
                0 => {
                    let found = get(&|| 2);
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(i32::from(found)) }
                }
                child => child,
            };
            let (mut status, mut ended) = (0, 0);
            for _ in 0..300 {
                // SAFETY: writes the local word.
                ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
                if ended != 0 {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            if ended == 0 {
                // SAFETY: our own child.
                unsafe { libc::kill(child, libc::SIGKILL) };
                // SAFETY: writes the local word.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
            }
            making.wait();
            ended == child && libc::WEXITSTATUS(status) == 2
        })
    }

    #[cfg(unix)]
    #[cfg_attr(miri, ignore = "Miri does not fork")]
    #[test]
    fn a_fork_child_waits_for_nobody() {
        let lazy = Lazy::new();
        assert!(child_ends(|make| *lazy.get(make, |_| {})));
        // The broken variant.
        let lock = std::sync::OnceLock::new();
        assert!(!child_ends(|make| *lock.get_or_init(make)));
    }
}
