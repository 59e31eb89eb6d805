//! Foreign areas that come after ours, or on one thread alone, or go again.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::arch::SIGNATURE;
use rseq_rt::{Area, Error, ExitMode, Owner, Reason, State, Thread};

use super::filtered::{STACK, detached, joined, right_everywhere, runs_on};
use super::foreign::Foreign;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, PASSED, Verdict, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::{check, text, thread};

const OURS: State = State::Registered(Owner::Runtime);
const INVAL: Option<rseq_rt::Errno> = Some(rseq_rt::Errno::INVAL);

fn main_is_ours(ctx: &Ctx<'_>) -> Result<Thread<'static>, Failed> {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let main = unsafe { hooked::adopt_main() };
    let main = main.map_err(|_| failed(text!("the main thread's create hook")))?;
    check!(main.state() == OURS, "the main thread is not registered");
    Ok(main)
}

fn ours(thread: &Thread<'_>, _: &Hooked) {
    is_ours(thread.area());
}

#[track_caller]
fn is_ours(area: &Area) {
    if area.state() != OURS || area.cpu_id() < 0 {
        let _ = failed(text!("a thread of ours is not registered"));
    }
    right_everywhere(area);
}

/// The thread of somebody else: what it registered before our create hook stays; ours is refused, and leaves.
fn taken(foreign: &'static Foreign, area: &'static Area, releases: bool) -> Result<(), Failed> {
    foreign.register(32, SIGNATURE)?;
    let rest = foreign.rest();
    // SAFETY: on_thread_create (1, 2) `area` is this thread's for ever; (3) it stays here.
    let Ok(thread) = (unsafe { RSEQ.on_thread_create(area) }) else {
        check!(false, "the create hook");
        return Ok(());
    };
    runs_on(area, Reason::Taken, INVAL);
    foreign.is_alive(32, SIGNATURE);
    if releases {
        let refused = hooked::release(thread).err();
        check!(refused == Some(Some(Error::Taken)), "release");
    } else {
        let _kept = thread.on_exit(ExitMode::Keep).into_kept();
    }
    foreign.is_alive(32, SIGNATURE);
    check!(foreign.rest() == rest, "the foreign area changed");
    Ok(())
}

pub(super) fn on_one_thread(ctx: &Ctx<'_>) -> Verdict {
    static FOREIGN: [Foreign; 2] = [const { Foreign::new() }; 2];
    static AREAS: [Area; 2] = [const { Area::new() }; 2];
    let main = main_is_ours(ctx)?;
    let length = RSEQ.length();
    let keeps: fn() = || {
        let ([foreign, _], [area, _]) = (&FOREIGN, &AREAS);
        let _ = taken(foreign, area, false);
    };
    let releases: fn() = || {
        let ([_, foreign], [_, area]) = (&FOREIGN, &AREAS);
        let _ = taken(foreign, area, true);
    };
    for body in [keeps, releases] {
        joined(ours)?;
        thread::start(STACK, body, |body| body())?.join()?;
        joined(ours)?;
        detached(ours)?;
    }
    check!(RSEQ.owner() == Some(Owner::Runtime), "the owner changed");
    check!(RSEQ.length() == length, "the length changed");
    is_ours(main.area());
    check!(hooked::release(main).is_ok(), "release of the main thread");
    PASSED
}

/// It unregisters while our thread lives: ours does not try again, and nobody else notices.
pub(super) fn leaves_again(ctx: &Ctx<'_>) -> Verdict {
    static FOREIGN: Foreign = Foreign::new();
    static AREA: Area = Area::new();
    fn body(_: &()) {
        let _ = life();
    }
    fn life() -> Result<(), Failed> {
        FOREIGN.register(32, !SIGNATURE)?;
        // SAFETY: on_thread_create (1, 2) AREA is this thread's for ever; (3) it stays here.
        let Ok(thread) = (unsafe { RSEQ.on_thread_create(&AREA) }) else {
            check!(false, "the create hook");
            return Ok(());
        };
        FOREIGN.unregister(32, !SIGNATURE)?;
        seccomp::install(__NR_rseq, When::Always, Answer::Kill)?;
        runs_on(&AREA, Reason::Taken, INVAL);
        check!(FOREIGN.as_rseq().cpu_id.load(Relaxed) == -1, "its cpu_id");
        // It has gone without a word to us, so what is known of the thread is what it was.
        let refused = hooked::release(thread).err();
        check!(refused == Some(Some(Error::Taken)), "release");
        Ok(())
    }
    let main = main_is_ours(ctx)?;
    thread::start(STACK, (), body)?.join()?;
    joined(ours)?;
    detached(ours)?;
    is_ours(main.area());
    PASSED
}

/// Where we are registered it is the other one who is refused, and we do not notice.
pub(super) fn comes_second(ctx: &Ctx<'_>) -> Verdict {
    static FOREIGN: Foreign = Foreign::new();
    fn body(thread: &Thread<'_>, _: &Hooked) {
        for length in [32, 33, RSEQ.length()] {
            for signature in [SIGNATURE, !SIGNATURE] {
                let answers = (
                    FOREIGN.register(length, signature),
                    FOREIGN.unregister(length, signature),
                );
                if answers != (Err(Errno::INVAL), Err(Errno::INVAL)) {
                    let _ = failed(text!("it was told ", answers.0, " and ", answers.1));
                }
            }
        }
        is_ours(thread.area());
    }
    let main = main_is_ours(ctx)?;
    joined(body)?;
    detached(body)?;
    is_ours(main.area());
    PASSED
}

/// The kernel knows our own area already, as another copy of the crate registered it, or this one in a life that the
/// memory tells of no more: that is made a registration of ours, without a store to an id.
pub(super) fn behind_us(ctx: &Ctx<'_>) -> Verdict {
    static MAIN: Area = Area::new();
    static LATER: Area = Area::new();
    static LAZY: Area = Area::new();
    fn create(area: &'static Area, length: u32, lazily: bool) -> Result<(), Failed> {
        let all = sched::allowed()?;
        let at = area.as_rseq().cast_mut().cast();
        // SAFETY: rseq (1) static memory; (2) the hook below is to find it so.
        unsafe { rseq(at, length, 0, SIGNATURE)? };
        // Ids that are not the first CPU's, which zeroes would be.
        for cpu in all.iter() {
            sched::allow(0, &CpuSet::one(cpu))?;
        }
        // SAFETY: ensure_registered, on_thread_create (1, 2) `area` is this thread's for ever; (3) it stays here.
        let thread = unsafe {
            let ensured = lazily.then(|| RSEQ.ensure_registered(area));
            check!(ensured.is_none_or(|state| state == Ok(OURS)), "lazily");
            RSEQ.on_thread_create(area)
        };
        let Ok(thread) = thread else {
            check!(false, "the create hook");
            return Ok(());
        };
        // From 7.0 on the kernel compares its ids with those that are there when they change, and kills.
        for cpu in all.iter().chain(all.iter()) {
            sched::allow(0, &CpuSet::one(cpu))?;
        }
        sched::allow(0, &all)?;
        is_ours(area);
        check!(hooked::release(thread).is_ok(), "release");
        // SAFETY: rseq (1, 2): unregistration of what is not registered any more.
        let answer = unsafe { rseq(at, length, 1, SIGNATURE) };
        check!(answer == Err(Errno::INVAL), "still registered: ", answer);
        Ok(())
    }
    let config = hooked::config(ctx.env);
    check!(RSEQ.init(config) == Ok(None), "init");
    create(&MAIN, config.length(), false)?;
    let bodies: [fn(); 2] = [
        || _ = create(&LATER, RSEQ.length(), false),
        || _ = create(&LAZY, RSEQ.length(), true),
    ];
    for body in bodies {
        thread::start(STACK, body, |body| body())?.join()?;
    }
    PASSED
}
