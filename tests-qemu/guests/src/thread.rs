//! Threads: the bare clone, and a joinable thread for the runtime's own use. The bare one leaves its end to the caller:
//! how a thread exits, and who then frees what, is the subject of the tests.

use core::ptr;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use linux_raw_sys::general::{
    CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_FS, CLONE_PARENT_SETTID, CLONE_SETTLS, CLONE_SIGHAND,
    CLONE_SYSVSEM, CLONE_THREAD, CLONE_VFORK, CLONE_VM, SIGCHLD,
};

use crate::arch;
use crate::errno::Errno;
use crate::stack::Stack;
use crate::sys::raw::check;
use crate::sys::{futex, process};
use crate::tcb::{Head, Tcb};

pub type Entry = unsafe extern "C" fn(*mut u8) -> !;

/// Puts the two words for [`arch::clone`] below `top`.
///
/// # Safety
/// 1. Below `top` is a writable stack that nobody uses.
unsafe fn first_frame(top: *mut u8, entry: Entry, arg: *mut u8) -> *mut u8 {
    let top = top.map_addr(|top| top & !15);
    let sp = top.wrapping_sub(16).cast::<[*mut u8; 2]>();
    // SAFETY: 1.; 16-aligned.
    unsafe { sp.write([entry as *mut u8, arg]) };
    sp.cast()
}

/// Starts a thread of this process on the stack below `top`. Returns its tid. It has the caller's signal mask and `tls`
/// as its thread pointer. `tls.tid` holds its tid before either side continues, and the kernel zeroes and wakes
/// `clear_tid`, if not null, at its end.
///
/// # Safety
/// 1. Below `top` is a stack that nobody else uses until the thread is gone.
/// 2. `tls` is in a block written by [`Tcb::write`] that outlives the thread.
/// 3. `clear_tid` is null, or writable until the kernel has cleared it.
/// 4. `entry` may run with `arg` on another thread.
pub unsafe fn spawn(
    top: *mut u8,
    tls: *mut Head,
    clear_tid: *mut u32,
    entry: Entry,
    arg: *mut u8,
) -> Result<u32, Errno> {
    let mut flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    flags |= CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID;
    if !clear_tid.is_null() {
        flags |= CLONE_CHILD_CLEARTID;
    }
    // SAFETY: 1. the stack; 2. the block; 3. the word; 4. the entry.
    let answer = unsafe {
        let sp = first_frame(top, entry, arg);
        let tid = (*tls).tid.as_ptr();
        arch::clone(flags as usize, sp, tid, clear_tid, tls.cast())
    };
    check(answer).map(|tid| tid as u32)
}

/// A child that shares the memory while the caller is suspended, as by vfork(2) and posix_spawn(3). Returns its pid, to
/// be waited for. It has the caller's thread pointer, and the caller continues when it exits or execs.
///
/// # Safety
/// 1. Below `top` is a stack that nobody else uses until the child is gone.
/// 2. `entry` may run with `arg` while the calling thread is suspended, and ends in an exit or exec.
pub unsafe fn spawn_vfork(top: *mut u8, entry: Entry, arg: *mut u8) -> Result<i32, Errno> {
    let flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
    // SAFETY: 1., 2.; without CLONE_SETTLS and similar flags the pointers are not used.
    let answer = unsafe {
        let sp = first_frame(top, entry, arg);
        let null = ptr::null_mut();
        arch::clone(flags as usize, sp, null, null, null.cast())
    };
    check(answer).map(|pid| pid as i32)
}

/// A thread that ends by return and is then joined.
#[must_use]
pub struct Joinable<T: 'static> {
    tcb: *mut Tcb<Run<T>>,
}

/// The payload of a [`Joinable`]'s block.
pub struct Run<T: 'static> {
    body: fn(&T),
    /// For the body, and readable by the starter.
    pub payload: T,
}

/// Starts a thread that runs `body` on a stack of `size` bytes with a block on top. [`Joinable::join`] frees both.
pub fn start<T: Sync + Send + 'static>(
    size: usize,
    payload: T,
    body: fn(&T),
) -> Result<Joinable<T>, Errno> {
    unsafe extern "C" fn run<T: Sync + Send + 'static>(arg: *mut u8) -> ! {
        // SAFETY: `start` passed the block's own address.
        let tcb = unsafe { &*arg.cast::<Tcb<Run<T>>>() };
        (tcb.payload.body)(&tcb.payload.payload);
        process::exit_thread(0)
    }
    let stack = Stack::map(size)?;
    let started = Tcb::on(stack, Run { body, payload }).and_then(|tcb| {
        // SAFETY: 1. nobody else knows this stack; 2., 3. the block lives until join, and join unmaps only after
        // clear-tid; 4. T is Sync, and `run` takes the block.
        unsafe {
            let head = &raw mut (*tcb).head;
            let alive = (*head).alive.as_ptr();
            spawn(tcb.cast(), head, alive, run::<T>, tcb.cast())?;
        }
        Ok(tcb)
    });
    match started {
        Ok(tcb) => Ok(Joinable { tcb }),
        Err(errno) => {
            // SAFETY: no thread runs on it.
            unsafe { stack.unmap()? };
            Err(errno)
        }
    }
}

/// Runs `body` on a thread of its own, to its end.
#[track_caller]
pub fn run<T: Sync + Send + 'static>(size: usize, payload: T, body: fn(&T)) {
    start(size, payload, body).unwrap().join().unwrap();
}

impl<T: Sync + Send> Joinable<T> {
    pub fn payload(&self) -> &T {
        // SAFETY: the block lives until join.
        unsafe { &(*self.tcb).payload.payload }
    }

    pub fn tid(&self) -> u32 {
        // SAFETY: the block lives until join.
        unsafe { &(*self.tcb).head.tid }.load(Relaxed)
    }

    /// Waits for the thread's end; the payload can still be read.
    pub fn wait(&self) {
        // SAFETY: the block lives until join.
        join(unsafe { &(*self.tcb).head.alive });
    }

    /// Waits for the thread's end, drops the payload and unmaps everything.
    pub fn join(self) -> Result<(), Errno> {
        self.wait();
        // SAFETY: the block lives until the unmap below.
        let head = unsafe { &(*self.tcb).head };
        let stack = head.stack();
        // SAFETY: after clear-tid the kernel accesses no user memory for the thread, and the thread itself does not
        // run.
        unsafe {
            ptr::drop_in_place(self.tcb);
            stack.unmap()
        }
    }
}

/// Waits until the kernel has cleared the word at a thread's end.
pub fn join(clear_tid: &AtomicU32) {
    loop {
        match clear_tid.load(Acquire) {
            0 => return,
            // Whatever the reason of a wake-up, the word decides.
            alive => _ = futex::wait(clear_tid, alive, None),
        }
    }
}
