//! Creation that the kernel refuses half-way, and as many threads as it takes.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Release};
use linux_raw_sys::general::{__NR_clone, SIGSEGV};

use rseq_rt::{Area, Owner, State, Thread};

use super::children::look;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, failed, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::process::{Status, exit_group};
use crate::sys::signal::{self, Mask};
use crate::sys::{futex, task};
use crate::tcb::Tcb;
use crate::{check, passed, text, witness};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("ends/creation-refused-by-a-limit", limited).needs(Needs::REAL_KERNEL),
    Test::new("ends/creation-refused-by-a-filter", filtered).needs(Needs::SECCOMP),
    Test::new("ends/many-alive-at-once", many),
];

const STACK: usize = 16 * 1024;

/// A refused creation leaves no trace: mask, memory and the creator's own registration are as before.
fn refused(area: &Area, stack: Stack, errno: Errno) -> Result<(), Failed> {
    // Odd on purpose, so that neither "all open" nor "all blocked" passes for it.
    let odd = 0x5555_0000_aaaa_0000 & !signal::bit(SIGSEGV as i32);
    let found = signal::mask(Mask::Exactly(odd))?;
    let outcome = hooked::start_joinable_on(stack, look, 0);
    let after = signal::mask(Mask::Exactly(found))?;
    match outcome {
        Err(said) => check!(said == errno, "refused with ", said),
        Ok(_) => check!(false, "the creation was not refused"),
    }
    check!(
        after == odd,
        "the mask is another one: ",
        crate::show::Hex(after)
    );
    // SAFETY: nothing is there any more, and that is what it answers.
    let gone = unsafe { mm::protect(stack.base(), stack.len(), Access::Read) };
    check!(gone == Err(Errno::NOMEM), "the stack: ", gone);
    let wrong = witness::first_wrong(witness::cpus(), area);
    check!(wrong.is_none(), "wrong on CPU ", wrong.unwrap_or(0));
    Ok(())
}

/// In a child, as neither a filter nor a user can be changed back.
fn in_child(ctx: &Ctx<'_>, body: impl FnOnce(&'static Area) -> Result<(), Failed>) -> Verdict {
    let status = forked(|| {
        let run = || -> Result<(), Failed> {
            check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
            // SAFETY: (1) once in this process, on its main thread.
            match unsafe { hooked::adopt_main() } {
                Ok(thread) => body(thread.area()),
                Err(_) => Err(failed(text!("the create hook"))),
            }
        };
        exit_group(run().is_err().into());
    })?;
    check!(status == Status::Exited(0), "the child ", status);
    PASSED
}

fn works() -> Result<(), Failed> {
    let joined = hooked::start_joinable(STACK, look, 0)?.join();
    check!(joined.is_ok(), "join");
    Ok(())
}

fn limited(ctx: &Ctx<'_>) -> Verdict {
    in_child(ctx, |area| {
        // Root has no limit. Who is not root stays who it is, and has one.
        let _ = task::become_user(54_321);
        for _ in 0..20 {
            task::limit_tasks(Some(1))?;
            refused(area, Stack::map(STACK)?, Errno::AGAIN)?;
            task::limit_tasks(None)?;
            works()?;
        }
        Ok(())
    })
}

fn filtered(ctx: &Ctx<'_>) -> Verdict {
    for errno in [Errno::PERM, Errno::NOSYS, Errno::AGAIN] {
        let outcome = in_child(ctx, |area| {
            let stack = Stack::map(STACK)?;
            // The second one keeps later stacks away from the place of the first.
            let _apart = Stack::map(STACK)?;
            let Some(block) = stack.room_on_top::<Tcb<Hooked>>() else {
                check!(false, "no room for a block");
                return Ok(());
            };
            // Only the clone onto this very stack is refused: its first frame is two words below the block.
            let sp = (block.addr() & !15).wrapping_sub(16) as u32;
            seccomp::install(__NR_clone, When::ArgIs(1, sp), Answer::Errno(errno))?;
            refused(area, stack, errno)?;
            let other = Stack::map(2 * STACK)?;
            match hooked::start_joinable_on(other, look, 0)?.join() {
                Ok(()) => {}
                Err(_) => check!(false, "join"),
            }
            Ok(())
        });
        let _ = outcome?;
    }
    PASSED
}

fn many(ctx: &Ctx<'_>) -> Verdict {
    const MOST: usize = 1000;
    static ALIVE: AtomicU32 = AtomicU32::new(0);
    static GATE: AtomicU32 = AtomicU32::new(0);
    fn waits(thread: &Thread<'_>, _: &Hooked) {
        let registered = thread.state() == State::Registered(Owner::Runtime);
        if registered != (RSEQ.owner() == Some(Owner::Runtime)) {
            let _ = failed(text!("a thread is not as its process"));
        }
        ALIVE.fetch_add(1, Release);
        while GATE.load(Acquire) == 0 {
            let _ = futex::wait(&GATE, 0, None);
        }
        let wrong = witness::first_wrong(witness::cpus(), thread.area());
        if wrong.is_some() {
            let _ = failed(text!("wrong on a CPU"));
        }
        ALIVE.fetch_sub(1, Release);
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let count = ctx.scale(MOST as u64, 200, 100) as usize;
    let mut threads = [const { None }; MOST];
    for place in threads.iter_mut().take(count) {
        *place = Some(hooked::start_joinable(STACK, waits, 0)?);
    }
    while ALIVE.load(Acquire) as usize != count {
        crate::sys::sched::relax();
    }
    GATE.store(1, Release);
    futex::wake(&GATE, i32::MAX as u32)?;
    for thread in threads.into_iter().flatten() {
        check!(thread.join().is_ok(), "join");
    }
    let left = ALIVE.load(Acquire);
    check!(left == 0, left, " did not come to their end");
    passed!(count, " threads at once")
}
