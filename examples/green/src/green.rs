//! A green thread: its record, its end, and its joiner.

use core::cell::{Cell, UnsafeCell};
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};

use corosensei::{Coroutine, CoroutineResult, Yielder};
use rseq_rt::structures::Node;
use rustix::io::Errno;
use rustix::thread::futex;

use crate::carrier;
use crate::stacks::{self, Below, Stack};
use crate::switch;

/// The reason why a green thread stopped running; the operand is in its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// To let others run; it stays ready.
    Yield,
    /// To wait until the green thread at the operand has ended.
    Join,
    /// To sleep until the monotonic clock shows the operand, in nanoseconds.
    Sleep,
    /// To continue on the carrier in the slot that the operand names.
    Move,
}

type Body = Coroutine<(), Request, (), Below>;

/// Value of `state`: it has not ended, and nobody waits.
const ALIVE: usize = 0;
/// Value of `state`: it has ended.
const DONE: usize = 1;
/// Value of `state`: a kernel thread waits for `ended`. Any other value is the address of a waiting green thread.
const OUTSIDE: usize = 2;

/// The record of a green thread, on top of its stack. The fields used by a switch are in its first cache line.
#[repr(C, align(64))]
pub struct Green {
    // First, so that node and record have the same address.
    node: Node<()>,
    body: UnsafeCell<ManuallyDrop<Body>>,
    yielder: Cell<*const Yielder<(), Request>>,
    operand: Cell<usize>,
    /// The next record in a list of `slots`.
    pub link: AtomicPtr<Green>,
    state: AtomicUsize,
    ended: AtomicU32,
    stack: Stack,
}

/// A green thread that is ready to run; it has one holder at a time.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the holder must run it or queue it"]
pub struct Ready(NonNull<Green>);

// SAFETY: the holder has the green thread to itself, and `spawn` (1) lets it run on any carrier.
unsafe impl Send for Ready {}

impl Ready {
    /// The record, to be held by a list or a word.
    #[inline]
    pub fn into_raw(self) -> *mut Green {
        self.0.as_ptr()
    }

    /// The green thread in a list or a word; `None` for null.
    ///
    /// # Safety
    /// 1. It was made by [`Self::into_raw`], and this is the only call since.
    #[inline]
    pub unsafe fn from_raw(green: *mut Green) -> Option<Self> {
        NonNull::new(green).map(Self)
    }

    /// Its node in a per-CPU list.
    #[inline]
    pub fn into_node(self) -> NonNull<Node<()>> {
        self.0.cast()
    }

    /// The green thread whose node came out of a per-CPU list.
    #[inline]
    pub fn from_node(node: &'static mut Node<()>) -> Option<Self> {
        // The list has exposed the pointer that it was given, whose provenance is the whole record.
        let address = ptr::from_mut(node).expose_provenance();
        NonNull::new(ptr::with_exposed_provenance_mut(address)).map(Self)
    }

    /// Runs it on the calling carrier until it stops; `None` at its end.
    #[inline]
    pub(crate) fn resume(&self) -> Option<Request> {
        // SAFETY: the record lives until the green thread has ended and was joined, and the holder of `self` has its
        // coroutine to itself.
        let body = unsafe { &mut *self.0.as_ref().body.get() };
        match body.resume(()) {
            CoroutineResult::Yield(request) => Some(request),
            CoroutineResult::Return(()) => None,
        }
    }

    /// The operand of its last request.
    #[inline]
    pub(crate) fn operand(&self) -> usize {
        // SAFETY: as above; it is written by the green thread itself, which does not run.
        unsafe { self.0.as_ref() }.operand.get()
    }

    /// Ends the green thread and returns the waiter that is ready now. The record belongs to the joiner from here on.
    pub(crate) fn finish(self) -> Option<Ready> {
        // SAFETY: the joiner frees it only after the swap below, or after `ended` where it waits outside.
        let green = unsafe { self.0.as_ref() };
        let ended = ptr::from_ref(&green.ended);
        match green.state.swap(DONE, AcqRel) {
            ALIVE | DONE => None,
            OUTSIDE => {
                green.ended.store(1, Release);
                // SAFETY: only the address is used; if the memory has another use by now, the wake is a spurious one.
                let _ = futex::wake(unsafe { &*ended }, futex::Flags::PRIVATE, 1);
                None
            }
            // SAFETY: (1) stored by `await_end` from a Ready.
            waiting => unsafe { Ready::from_raw(ptr::with_exposed_provenance_mut(waiting)) },
        }
    }

    /// Makes `self` wait for the end of `target`; returns it if that has ended already.
    ///
    /// Called on the carrier, after the switch: once it waits, another carrier may run it.
    pub(crate) fn await_end(self, target: *const Green) -> Option<Ready> {
        let waiting = self.into_raw();
        // SAFETY: the joiner holds the target's handle, so its record lives.
        let state = unsafe { &(*target).state };
        match state.compare_exchange(ALIVE, waiting.expose_provenance(), AcqRel, Acquire) {
            Ok(_) => None,
            // SAFETY: (1) from this function's own `self`.
            Err(_) => unsafe { Ready::from_raw(waiting) },
        }
    }
}

/// Makes a green thread of `body`: a ready one, and the handle to wait for its end.
///
/// # Errors
/// Those of mmap(2).
///
/// # Safety
/// 1. `body` may be on another carrier after each switch: it keeps nothing across one that belongs to a kernel
///    thread.
pub unsafe fn make(body: impl FnOnce() + Send + 'static) -> Result<(Ready, Handle), Errno> {
    let (stack, record) = stacks::take::<Green>()?;
    let green = NonNull::new(record).ok_or(Errno::NOMEM)?;
    let below = Below::new(stack, record).ok_or(Errno::NOMEM)?;
    let address = record.expose_provenance();
    let body = Coroutine::with_stack(below, move |yielder: &Yielder<(), Request>, ()| {
        let green: *const Green = ptr::with_exposed_provenance(address);
        // SAFETY: the record lives at least until this closure has returned.
        unsafe { (*green).yielder.set(yielder) };
        body();
    });
    // SAFETY: room for a record; nobody else has its address yet.
    unsafe {
        record.write(Green {
            node: Node::new(()),
            link: AtomicPtr::new(ptr::null_mut()),
            state: AtomicUsize::new(ALIVE),
            ended: AtomicU32::new(0),
            operand: Cell::new(0),
            yielder: Cell::new(ptr::null()),
            body: UnsafeCell::new(ManuallyDrop::new(body)),
            stack,
        });
    }
    Ok((Ready(green), Handle { green }))
}

/// Suspends the calling green thread, whose record is `green`, with a request to the carrier.
///
/// # Safety
/// 1. `green` runs on the calling carrier.
#[inline]
pub(crate) unsafe fn suspend(green: *mut Green, request: Request, operand: usize) {
    // SAFETY: (1): it runs, so its record lives and its yielder is set.
    unsafe {
        (*green).operand.set(operand);
        (*(*green).yielder.get()).suspend(request);
    }
}

/// The handle of a green thread. It must be joined: only then is its stack free.
#[must_use = "the stack is free only after `join`"]
pub struct Handle {
    green: NonNull<Green>,
}

// SAFETY: it is used by one thread at a time, for atomics of the record.
unsafe impl Send for Handle {}

impl Handle {
    /// Waits for the end. A green thread lets others run; another thread sleeps on a futex.
    pub fn join(self) {
        // SAFETY: the record lives until the stack is given back below.
        let green = unsafe { self.green.as_ref() };
        if green.state.load(Acquire) != DONE {
            if carrier::here(|carrier| carrier.current()).is_null() {
                wait_outside(green);
            } else {
                switch::until_end_of(self.green.as_ptr());
            }
        }
        // SAFETY: (1) from `make`, and the green thread has ended: its carrier does not touch it any more.
        unsafe { stacks::give_back(green.stack) };
    }
}

fn wait_outside(green: &Green) {
    if green
        .state
        .compare_exchange(ALIVE, OUTSIDE, AcqRel, Acquire)
        .is_err()
    {
        return;
    }
    while green.ended.load(Acquire) == 0 {
        // Whatever the reason of the wake, the word decides.
        let _ = futex::wait(&green.ended, futex::Flags::PRIVATE, 0, None);
    }
    // The swap in `finish` came before the store: the record is not in use.
    let _ = green.state.load(Relaxed);
}
