//! At-exit callbacks: what the runtime, or a library, asked to be called while rseq still works.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, compiler_fence};

use heapless::Vec;

use crate::sys::error::Error;

/// A function and its argument, to be called once: neither `Copy` nor `Clone`.
#[derive(Debug)]
pub struct Callback {
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
}

impl Callback {
    /// # Safety
    /// 1. `function(argument)` may be called on this thread, once, at any time until it exits.
    ///
    /// In Rust it returns, or ends the thread by the system call. What it may do in C is in `rseq_rt.h`.
    pub const unsafe fn new(
        function: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
    ) -> Self {
        Self { function, argument }
    }
}

/// One thread's bounded stack of callbacks, in its TCB. `N` is its capacity.
///
/// Not `Sync`: it belongs to its thread. A signal handler of that thread may
/// push; if it lands in the middle of another change it is told `Busy`.
///
/// A library asks for a last visit to its data of the thread, and the runtime makes it before the exit hook:
///
/// ```
/// use core::cell::Cell;
/// use core::ffi::c_void;
/// use rseq_rt::{AtExit, Callback, Error};
///
/// /// Calls `flush(data)` at the end of the calling thread, while rseq still works.
/// fn at_end<T>(callbacks: &AtExit<8>, data: &'static T, flush: unsafe extern "C" fn(*mut c_void)) -> Result<(), Error> {
///     let data = core::ptr::from_ref(data).cast_mut().cast();
///     // SAFETY: Callback::new (1): `data` lives for ever, and `flush` is a function for it.
///     callbacks.push(unsafe { Callback::new(flush, data) })
/// }
///
/// unsafe extern "C" fn flush(cache: *mut c_void) {
///     // SAFETY: at_end was given a Cell.
///     unsafe { &*cache.cast::<Cell<u32>>() }.set(0);
/// }
///
/// let cache: &'static Cell<u32> = Box::leak(Box::new(Cell::new(7))); // in the TCB, really
/// let callbacks = AtExit::<8>::new(); // beside it
/// at_end(&callbacks, cache, flush)?;
/// callbacks.run(); // the runtime: thread.run_at_exit(&callbacks)
/// assert_eq!(cache.get(), 0);
/// assert_eq!(at_end(&callbacks, cache, flush), Err(Error::Exiting));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct AtExit<const N: usize> {
    stack: UnsafeCell<Vec<Callback, N>>,
    changing: AtomicBool,
    closed: AtomicBool,
}

impl<const N: usize> Default for AtExit<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> AtExit<N> {
    /// An empty stack.
    pub const fn new() -> Self {
        Self {
            stack: UnsafeCell::new(Vec::new()),
            changing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Adds a callback; the last one added is the first one called.
    ///
    /// # Errors
    /// `CallbacksFull`; `Exiting` once the callbacks have run; `Busy` from a signal handler that
    /// interrupted a push or a pop. Nothing is changed.
    pub fn push(&self, callback: Callback) -> Result<(), Error> {
        self.change(|stack| stack.push(callback).map_err(|_| Error::CallbacksFull))?
    }

    /// Calls all callbacks, last first, those that callbacks add included; then closes the stack.
    ///
    /// As [`Thread::run_at_exit`](crate::Thread::run_at_exit), for a caller that has no
    /// [`Thread`](crate::Thread) at hand. A second run calls nothing.
    pub fn run(&self) {
        // The change is over before the call: a callback that never returns leaves the rest as another run wants it.
        while let Ok(Some(Callback { function, argument })) = self.pop() {
            // SAFETY: Callback::new (1): on this thread (`self` is not Sync), once (it was popped).
            unsafe { function(argument) };
        }
    }

    fn pop(&self) -> Result<Option<Callback>, Error> {
        self.change(|stack| {
            let last = stack.pop();
            // Closed inside the change, so that no push can slip in between "empty" and "closed".
            self.closed.store(last.is_none(), Relaxed);
            last
        })
    }

    fn change<R>(&self, change: impl FnOnce(&mut Vec<Callback, N>) -> R) -> Result<R, Error> {
        // The other party is a signal handler of this very thread: it runs between two instructions of ours and
        // returns before we go on, so plain loads and stores with compiler fences are enough.
        if self.changing.load(Relaxed) {
            return Err(Error::Busy);
        }
        if self.closed.load(Relaxed) {
            return Err(Error::Exiting);
        }
        self.changing.store(true, Relaxed);
        compiler_fence(core::sync::atomic::Ordering::SeqCst);
        // SAFETY: one thread, and `changing` keeps its signal handlers out: the only reference.
        let result = change(unsafe { &mut *self.stack.get() });
        compiler_fence(core::sync::atomic::Ordering::SeqCst);
        self.changing.store(false, Relaxed);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use core::ffi::c_void;
    use core::ptr::null_mut;

    use super::{AtExit, Callback};
    use crate::sys::error::Error;

    unsafe extern "C" fn nothing(_: *mut c_void) {}

    /// A handler that lands inside a push or a pop: the closure stands where the interrupted instructions are.
    #[test]
    fn busy_from_inside_a_change() {
        let stack = AtExit::<2>::new();
        // SAFETY: Callback::new (1): it does nothing.
        let callback = || unsafe { Callback::new(nothing, null_mut()) };
        let nested = stack.change(|_| (stack.push(callback()), stack.pop().err()));
        assert!(matches!(nested, Ok((Err(Error::Busy), Some(Error::Busy)))));
        assert_eq!(stack.push(callback()), Ok(()), "open again afterwards");
    }
}
