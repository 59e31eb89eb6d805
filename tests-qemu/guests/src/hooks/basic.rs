//! The plain life: created, registered, right about its CPU, gone.

use rseq_rt::{Owner, State, Thread};

use crate::harness::{Ctx, Needs, PASSED, Test, Verdict};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::{check, text};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("basic/main-thread", main_thread).needs(Needs::RSEQ),
    Test::new("basic/cpu-after-each-move", cpu_after_each_move),
];

fn main_thread(ctx: &Ctx<'_>) -> Verdict {
    check!(RSEQ.owner().is_none(), "an owner before init");
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let thread = unsafe { hooked::adopt_main() };
    let Ok(thread) = thread else {
        check!(false, "the create hook");
        return PASSED;
    };
    check!(
        thread.state() == State::Registered(Owner::Runtime),
        "the state of the main thread"
    );
    check!(RSEQ.owner() == Some(Owner::Runtime), "the owner");
    check!(RSEQ.length() >= 32, "the length is ", RSEQ.length());
    PASSED
}

fn cpu_after_each_move(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        let tid = process::gettid();
        for cpu in sched::allowed().unwrap_or(CpuSet::empty()).iter() {
            if sched::allow(tid, &CpuSet::one(cpu)).is_ok()
                && RSEQ.current_cpu(thread.area()) != Ok(cpu)
            {
                let _ = crate::harness::failed(text!("not on CPU ", cpu));
            }
        }
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    for _ in 0..ctx.scale(100, 20, 10) {
        let thread = hooked::start_joinable(16 * 1024, body, 0)?;
        check!(thread.join().is_ok(), "join");
    }
    PASSED
}
