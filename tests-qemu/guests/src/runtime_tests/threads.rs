//! The mem functions, and threads with their blocks.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::STACK;
use crate::errno::Errno;
use crate::harness::{Ctx, PASSED, Verdict, failed};
use crate::stack::Stack;
use crate::sys::{mm, process};
use crate::tcb::{self, Tcb};
use crate::thread::{self, Run};
use crate::{check, passed, text};

pub(super) fn memory(_: &Ctx) -> Verdict {
    let source: [u8; 200] = core::array::from_fn(|n| n as u8);
    for (to, from, len) in [(0, 0, 200), (1, 3, 64), (8, 16, 100), (17, 1, 0), (5, 9, 7)] {
        for overlapping in [false, true] {
            let mut place = source;
            let expected = |n: usize| (n.wrapping_sub(to) < len).then(|| (n - to + from) as u8);
            let at = place.as_mut_ptr();
            let read = if overlapping {
                at.cast_const()
            } else {
                source.as_ptr()
            };
            // SAFETY: inside the arrays; the non-overlapping one is memcpy's.
            unsafe {
                match overlapping {
                    true => crate::mem::memmove(at.add(to), read.add(from), len),
                    false => crate::mem::memcpy(at.add(to), read.add(from), len),
                };
            }
            for (n, &byte) in place.iter().enumerate() {
                check!(
                    byte == expected(n).unwrap_or(n as u8),
                    "byte ",
                    n,
                    " is ",
                    byte
                );
            }
        }
    }
    // SAFETY: inside the array.
    let (less, same) = unsafe {
        let at = source.as_ptr();
        (
            crate::mem::memcmp(at, at.add(1), 10),
            crate::mem::bcmp(at, at, 200),
        )
    };
    check!(less < 0 && same == 0, "memcmp says ", less, " and ", same);
    PASSED
}

pub(super) fn threads(ctx: &Ctx) -> Verdict {
    static RAN: AtomicU64 = AtomicU64::new(0);
    fn body(number: &u64) {
        let here = tcb::current();
        let own = here
            .payload::<Run<u64>>()
            .is_some_and(|run| run.payload == *number);
        if !own || here.tid.load(Relaxed) != process::gettid() {
            let _ = failed(text!("thread ", *number, " has another's block"));
        }
        RAN.fetch_add(1, Relaxed);
    }
    let rounds = ctx.scale(100, 20, 5);
    for _ in 0..rounds {
        // Twenty at a time, as much as fits the stack of this thread.
        let started: [_; 20] = core::array::from_fn(|n| thread::start(STACK, n as u64, body));
        for thread in started {
            thread?.join()?;
        }
    }
    check!(
        RAN.load(Relaxed) == rounds * 20,
        "only ",
        RAN.load(Relaxed),
        " ran"
    );
    // Unmapped, not only forgotten: such a mapping can be made again at the same place.
    let stack = Stack::map(STACK)?;
    // SAFETY: no thread runs on it.
    unsafe { stack.unmap()? };
    // SAFETY: nothing is there, and that is what it answers.
    let gone = unsafe { mm::protect(stack.base(), stack.len(), mm::Access::Read) };
    check!(gone == Err(Errno::NOMEM), "still mapped: ", gone);
    passed!(rounds * 20, " threads")
}

#[repr(align(256))]
struct Aligned(AtomicU32);

pub(super) fn block_outside(_: &Ctx) -> Verdict {
    unsafe extern "C" fn run(arg: *mut u8) -> ! {
        // SAFETY: the block that was given below.
        let block = unsafe { &*arg.cast::<Tcb<Aligned>>() };
        block.payload.0.store(process::gettid(), Relaxed);
        process::exit_thread(0)
    }
    let stack = Stack::map(STACK)?;
    let block = Tcb::outside(stack, Aligned(AtomicU32::new(0)))?;
    // SAFETY: a new stack and a new block, both there until the join; the word
    // is in the block.
    let (tid, seen) = unsafe {
        let head = &raw mut (*block).head;
        let tid = thread::spawn(stack.top(), head, (*head).alive.as_ptr(), run, block.cast())?;
        thread::join(&(*head).alive);
        stack.unmap()?;
        (tid, (*block).payload.0.load(Relaxed))
    };
    check!(tid == seen, "thread ", tid, " wrote ", seen);
    check!(block.addr() % 256 == 0, "the block is at ", block);
    // SAFETY: made by `outside`, and the thread is gone.
    unsafe { Tcb::unmap(block)? };
    PASSED
}
