//! The control block at the thread pointer: the runtime's part, and the caller's beside it. There is no other
//! thread-local storage.

use core::any::TypeId;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::arch;
use crate::errno::Errno;
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::process;

/// The part of a control block that does not depend on the payload.
#[repr(C)]
pub struct Head {
    // First: x86_64 reads the thread pointer from here.
    this: *mut u8,
    payload: TypeId,
    stack: Stack,
    /// The tid, set by the kernel before the child's first instruction.
    pub tid: AtomicU32,
    /// The clear-tid word for the runtime's own join: non-zero while the thread lives.
    pub alive: AtomicU32,
}

// SAFETY: mutable fields are atomic.
unsafe impl Sync for Head {}

impl Head {
    /// The stack given at the start; [`Stack::NONE`] for the main thread.
    pub fn stack(&self) -> Stack {
        self.stack
    }

    /// The payload, if it is a `T`.
    pub fn payload<T: 'static>(&self) -> Option<&T> {
        (self.payload == TypeId::of::<T>()).then(|| {
            // SAFETY: every head is in a Tcb of the type it names.
            unsafe { &(*ptr::from_ref(self).cast::<Tcb<T>>()).payload }
        })
    }
}

/// A control block with the caller's payload, aligned for it.
#[repr(C)]
pub struct Tcb<T> {
    pub head: Head,
    pub payload: T,
}

impl<T: Sync + Send + 'static> Tcb<T> {
    /// # Safety
    /// 1. `at` is aligned and writable for a `Tcb<T>`, and otherwise unused.
    pub unsafe fn write(at: *mut Self, stack: Stack, payload: T) {
        let head = Head {
            this: at.cast(),
            payload: TypeId::of::<T>(),
            stack,
            tid: AtomicU32::new(0),
            alive: AtomicU32::new(1),
        };
        // SAFETY: 1.
        unsafe { at.write(Self { head, payload }) };
    }

    /// Writes a block on top of the stack, in its mapping.
    pub fn on(stack: Stack, payload: T) -> Result<*mut Self, Errno> {
        let at = stack.room_on_top::<Self>().ok_or(Errno::NOMEM)?;
        // SAFETY: room for it; no thread has been started on the stack yet.
        unsafe { Self::write(at, stack, payload) };
        Ok(at)
    }

    /// Writes a block in its own mapping, to outlive the stack. [`unmap`](Self::unmap) frees it.
    pub fn outside(stack: Stack, payload: T) -> Result<*mut Self, Errno> {
        // Page alignment is enough: payloads require at most 256.
        let at: *mut Self = mm::map(mm::whole_pages(size_of::<Self>()), Access::ReadWrite)?.cast();
        // SAFETY: a new mapping, large enough.
        unsafe { Self::write(at, stack, payload) };
        Ok(at)
    }

    /// Unmaps a block made by [`outside`](Self::outside).
    ///
    /// # Safety
    /// 1. It was made there, and nobody uses it any more, the kernel included.
    pub unsafe fn unmap(at: *mut Self) -> Result<(), Errno> {
        // SAFETY: 1.
        unsafe { mm::unmap(at.cast(), mm::whole_pages(size_of::<Self>())) }
    }
}

/// The calling thread's control block. Not `Send`: it is freed with the thread.
pub struct Current(&'static Head, PhantomData<*const ()>);

impl Deref for Current {
    type Target = Head;

    fn deref(&self) -> &Head {
        self.0
    }
}

/// The calling thread's control block; async-signal-safe.
pub fn current() -> Current {
    // SAFETY: the main thread adopted a block before main, spawn gives each thread one, and both outlive the thread.
    Current(
        unsafe { &*arch::thread_pointer().cast::<Head>() },
        PhantomData,
    )
}

/// Makes `block` the calling thread's control block.
///
/// # Safety
/// 1. `block` was written by [`Tcb::write`] and outlives the thread, or its next `adopt`.
/// 2. No [`Current`] of this thread is in use.
pub unsafe fn adopt<T>(block: *mut Tcb<T>) {
    // SAFETY: 1.: the first word points at the block, which lives.
    unsafe {
        (*block).head.tid.store(process::gettid(), Relaxed);
        arch::set_thread_pointer(block.cast());
    }
}

struct MainBlock(UnsafeCell<MaybeUninit<Tcb<()>>>);

// SAFETY: written once, before any other thread exists.
unsafe impl Sync for MainBlock {}

static MAIN: MainBlock = MainBlock(UnsafeCell::new(MaybeUninit::uninit()));

/// Gives the main thread a block with an empty payload.
///
/// # Safety
/// 1. Called once, before anything uses the thread pointer.
pub(crate) unsafe fn adopt_main() {
    let block: *mut Tcb<()> = MAIN.0.get().cast();
    // SAFETY: 1.; a static of the right type.
    unsafe {
        Tcb::write(block, Stack::NONE, ());
        adopt(block);
    }
}
