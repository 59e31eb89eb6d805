//! The hooks, compared with a bare clone(2).

use std::ffi::{c_int, c_void};
use std::ptr;

use rseq_rt::{Area, ClearTid, Exit, ExitMode, SignalMask};

use crate::here::{self, RSEQ};
use crate::measure::{each, tell};

const NAME: &str = "clone+exit";
const STACK: usize = 64 << 10;

/// The child's data.
struct Block {
    area: Area,
    clear_tid: ClearTid,
}

static BLOCK: Block = Block {
    area: Area::new(),
    clear_tid: ClearTid::new(),
};

/// The code of the new thread. It has its parent's thread pointer, and accesses nothing behind it.
type Child = extern "C" fn(*mut c_void) -> c_int;

extern "C" fn bare(_: *mut c_void) -> c_int {
    0
}

extern "C" fn keep(_: *mut c_void) -> c_int {
    // SAFETY: assume_blocked (1) by the parent, around clone.
    let mask = unsafe { SignalMask::assume_blocked(0) };
    // SAFETY: on_thread_create (1, 2) static, and recycled after clear-tid; (3) it stays here.
    if let Ok(thread) = unsafe { RSEQ.on_thread_create_masked(&BLOCK.area, &mask) } {
        let _kept = thread.on_exit_masked(ExitMode::Keep, &mask);
        return 0;
    }
    1
}

extern "C" fn release(_: *mut c_void) -> c_int {
    // SAFETY: as in `keep`.
    let mask = unsafe { SignalMask::assume_blocked(0) };
    // SAFETY: as in `keep`.
    if let Ok(thread) = unsafe { RSEQ.on_thread_create_masked(&BLOCK.area, &mask) } {
        let exit = thread.on_exit_masked(ExitMode::Release, &mask);
        return c_int::from(!matches!(exit, Exit::Released(_)));
    }
    1
}

extern "C" fn keep_open(_: *mut c_void) -> c_int {
    // SAFETY: as in `keep`.
    if let Ok(thread) = unsafe { RSEQ.on_thread_create(&BLOCK.area) } {
        let _kept = thread.on_exit(ExitMode::Keep);
        return 0;
    }
    1
}

extern "C" fn release_open(_: *mut c_void) -> c_int {
    // SAFETY: as in `keep`.
    if let Ok(thread) = unsafe { RSEQ.on_thread_create(&BLOCK.area) } {
        let exit = thread.on_exit(ExitMode::Release);
        return c_int::from(!matches!(exit, Exit::Released(_)));
    }
    1
}

/// One life, joined.
fn life(top: *mut c_void, child: Child) {
    let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
    let flags = flags | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;
    let flags = flags | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
    let word = BLOCK.clear_tid.as_ptr();
    let none: *mut c_void = ptr::null_mut();
    // SAFETY: below `top` is a stack that nobody uses; the word is static; the child uses no thread-local storage.
    let tid = unsafe { libc::clone(child, top, flags, none, word, none, word) };
    assert!(tid > 0, "clone");
    let proof = BLOCK.clear_tid.wait().expect("futex(2)");
    // SAFETY: recycle (1) the area of the thread that the proof names.
    unsafe { proof.recycle(&BLOCK.area) };
    BLOCK.clear_tid.rearm(&proof);
}

pub fn run() {
    here::init();
    here::register();
    // SAFETY: a new mapping, never unmapped.
    let stack = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        libc::mmap(ptr::null_mut(), STACK, access, kind, -1, 0)
    };
    assert!(stack != libc::MAP_FAILED, "mmap");
    let top = stack.wrapping_byte_add(STACK);

    let mask = SignalMask::block_all().expect("rt_sigprocmask(2)");
    let what = "clone(2) on a mapped stack, exit(2), the futex wait for clear-tid; all on one CPU";
    tell(NAME, "bare", each(|| life(top, bare)), what);
    let what = "the same with create_masked and keep_masked: one system call more";
    tell(NAME, "keep", each(|| life(top, keep)), what);
    let what = "the same with create_masked and release_masked: two system calls more";
    tell(NAME, "release", each(|| life(top, release)), what);
    mask.restore().expect("rt_sigprocmask(2)");
    let what = "create and keep that block signals themselves: four system calls more";
    tell(NAME, "keep, own mask", each(|| life(top, keep_open)), what);
    let what = "create and release that block signals themselves: five system calls more";
    let value = each(|| life(top, release_open));
    tell(NAME, "release, own mask", value, what);
}
