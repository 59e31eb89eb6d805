//! Thread creation that the kernel refuses half-way, and as many threads as it allows.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Release};
use linux_raw_sys::general::{__NR_clone, SIGSEGV};

use rseq_rt::{Area, Owner, Thread};

use crate::errno::Errno;
use crate::harness::{Ctx, must_pass, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{Gate, init, is_ours, joined, look, main_thread, right_everywhere};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::signal::{self, Mask};
use crate::sys::task;
use crate::tcb::Tcb;

const STACK: usize = 16 * 1024;

/// A refused creation leaves no trace: mask, memory and the creator's own registration are unchanged.
fn refused(area: &Area, stack: Stack, errno: Errno) {
    // An irregular mask, so that neither "all open" nor "all blocked" passes for it.
    let odd = 0x5555_0000_aaaa_0000 & !signal::bit(SIGSEGV as i32);
    let found = signal::mask(Mask::Exactly(odd)).unwrap();
    let outcome = hooked::start_joinable_on(stack, look, 0);
    let after = signal::mask(Mask::Exactly(found)).unwrap();
    assert_eq!(outcome.err(), Some(errno));
    assert_eq!(after, odd, "the mask");
    // SAFETY: nothing is mapped there, and that is the expected answer.
    let gone = unsafe { mm::protect(stack.base(), stack.len(), Access::Read) };
    assert_eq!(gone, Err(Errno::NOMEM), "the stack");
    right_everywhere(area);
}

pub fn limited(ctx: &Ctx) {
    // In a child, since a user cannot be changed back.
    must_pass(|| {
        let main = main_thread(ctx);
        // Root has no limit. A user other than root keeps its id, and has one.
        let _ = task::become_user(54_321);
        for _ in 0..20 {
            task::limit_tasks(Some(1)).unwrap();
            refused(main.area(), Stack::map(STACK).unwrap(), Errno::AGAIN);
            task::limit_tasks(None).unwrap();
            joined(STACK, look, 0);
        }
    });
}

pub fn filtered(ctx: &Ctx) {
    for errno in [Errno::PERM, Errno::NOSYS, Errno::AGAIN] {
        // In a child, since a filter is permanent.
        must_pass(|| {
            let main = main_thread(ctx);
            let stack = Stack::map(STACK).unwrap();
            // The second one keeps later stacks away from the place of the first.
            let _apart = Stack::map(STACK).unwrap();
            let block = stack.room_on_top::<Tcb<Hooked>>().unwrap();
            // Only the clone onto this very stack is refused: its first frame is two words below the block.
            let sp = (block.addr() & !15).wrapping_sub(16) as u32;
            let this_stack = When::ArgIs(1, sp);
            seccomp::install(__NR_clone, this_stack, Answer::Errno(errno)).unwrap();
            refused(main.area(), stack, errno);
            joined(2 * STACK, look, 0);
        });
    }
}

pub fn many(ctx: &Ctx) {
    const MOST: usize = 1000;
    static ALIVE: AtomicU32 = AtomicU32::new(0);
    static GATE: Gate = Gate::new();
    fn waits(thread: &Thread<'_>, _: &Hooked) {
        let registered = RSEQ.owner() == Some(Owner::Runtime);
        assert_eq!(is_ours(thread.state()), registered);
        ALIVE.fetch_add(1, Release);
        GATE.pass();
        right_everywhere(thread.area());
        ALIVE.fetch_sub(1, Release);
    }
    init(ctx);
    let count = ctx.scale(MOST as u64, 200, 100) as usize;
    let mut threads = [const { None }; MOST];
    for place in &mut threads[..count] {
        *place = Some(hooked::start_joinable(STACK, waits, 0).unwrap());
    }
    GATE.wait_for(count as u32);
    GATE.open();
    for thread in threads.into_iter().flatten() {
        thread.join().unwrap();
    }
    assert_eq!(ALIVE.load(Acquire), 0);
    passed!("{count} threads at once");
}
