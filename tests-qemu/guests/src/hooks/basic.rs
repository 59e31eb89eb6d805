//! The plain life cycle: create, register, read the right CPU, exit.

use rseq_rt::{Owner, State, Thread};

use super::common::{init, joined};
use crate::harness::{Ctx, Needs, Test};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};

pub const TESTS: &[Test] = &[
    Test::new("basic/main-thread", main_thread).needs(Needs::RSEQ),
    Test::new("basic/cpu-after-each-move", cpu_after_each_move),
];

fn main_thread(ctx: &Ctx) {
    assert_eq!(RSEQ.owner(), None, "before init");
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    // SAFETY: (1) once in this process, on its main thread.
    let thread = unsafe { hooked::adopt_main() }.unwrap();
    assert_eq!(thread.state(), State::Registered(Owner::Runtime));
    assert_eq!(RSEQ.owner(), Some(Owner::Runtime));
    assert!(RSEQ.length() >= 32);
}

fn cpu_after_each_move(ctx: &Ctx) {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        let tid = process::gettid();
        for cpu in sched::allowed().unwrap_or(CpuSet::empty()).iter() {
            if sched::allow(tid, &CpuSet::one(cpu)).is_ok() {
                assert_eq!(RSEQ.current_cpu(thread.area()), Ok(cpu));
            }
        }
    }
    init(ctx);
    for _ in 0..ctx.scale(100, 20, 10) {
        joined(16 * 1024, body, 0);
    }
}
