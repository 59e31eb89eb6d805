//! The mem functions, and threads with their blocks.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::STACK;
use crate::errno::Errno;
use crate::harness::{Ctx, passed};
use crate::mem;
use crate::stack::Stack;
use crate::sys::{mm, process};
use crate::tcb::{self, Tcb};
use crate::thread::{self, Run};

pub(super) fn memory(_: &Ctx<'_>) {
    let source: [u8; 200] = core::array::from_fn(|n| n as u8);
    for (to, from, len) in [(0, 0, 200), (1, 3, 64), (8, 16, 100), (17, 1, 0), (5, 9, 7)] {
        let mut expected = source;
        expected[to..to + len].copy_from_slice(&source[from..from + len]);
        let (mut copied, mut moved) = (source, source);
        // SAFETY: inside the arrays; memcpy's do not overlap.
        unsafe {
            mem::memcpy(copied.as_mut_ptr().add(to), source.as_ptr().add(from), len);
            let at = moved.as_mut_ptr();
            mem::memmove(at.add(to), at.add(from), len);
        }
        assert_eq!(copied, expected, "memcpy of {len} from {from} to {to}");
        assert_eq!(moved, expected, "memmove of {len} from {from} to {to}");
    }
    let at = source.as_ptr();
    // SAFETY: inside the array.
    unsafe {
        assert!(mem::memcmp(at, at.add(1), 10) < 0);
        assert_eq!(mem::bcmp(at, at, 200), 0);
    }
}

pub(super) fn threads(ctx: &Ctx<'_>) {
    static RAN: AtomicU64 = AtomicU64::new(0);
    fn body(number: &u64) {
        let here = tcb::current();
        let run = here.payload::<Run<u64>>().unwrap();
        assert_eq!(run.payload, *number, "another's block");
        assert_eq!(here.tid.load(Relaxed), process::gettid());
        RAN.fetch_add(1, Relaxed);
    }
    let rounds = ctx.scale(100, 20, 5);
    for _ in 0..rounds {
        // Twenty at a time, as many as fit on this thread's stack.
        let started: [_; 20] =
            core::array::from_fn(|n| thread::start(STACK, n as u64, body).unwrap());
        for thread in started {
            thread.join().unwrap();
        }
    }
    assert_eq!(RAN.load(Relaxed), rounds * 20);
    let stack = Stack::map(STACK).unwrap();
    // SAFETY: no thread runs on it; afterwards nothing is mapped there, as mprotect(2) confirms.
    let gone = unsafe {
        stack.unmap().unwrap();
        mm::protect(stack.base(), stack.len(), mm::Access::Read)
    };
    assert_eq!(gone, Err(Errno::NOMEM), "still mapped");
    passed!("{} threads", rounds * 20);
}

#[repr(align(256))]
struct Aligned(AtomicU32);

pub(super) fn block_outside(_: &Ctx<'_>) {
    unsafe extern "C" fn run(arg: *mut u8) -> ! {
        // SAFETY: the block passed below.
        let block = unsafe { &*arg.cast::<Tcb<Aligned>>() };
        block.payload.0.store(process::gettid(), Relaxed);
        process::exit_thread(0)
    }
    let stack = Stack::map(STACK).unwrap();
    let block = Tcb::outside(stack, Aligned(AtomicU32::new(0))).unwrap();
    assert_eq!(block.addr() % 256, 0);
    // SAFETY: a new stack and a new block, both live until the join; the word is in the block; `outside` made it, and
    // the thread is gone.
    unsafe {
        let head = &raw mut (*block).head;
        let word = (*head).alive.as_ptr();
        let tid = thread::spawn(stack.top(), head, word, run, block.cast()).unwrap();
        thread::join(&(*head).alive);
        stack.unmap().unwrap();
        assert_eq!((*block).payload.0.load(Relaxed), tid);
        Tcb::unmap(block).unwrap();
    }
}
