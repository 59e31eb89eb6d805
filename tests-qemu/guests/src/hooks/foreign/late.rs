//! Foreign areas that come after ours, or exist on one thread only, or are unregistered again.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::arch::SIGNATURE;
use rseq_rt::{Area, Error, ExitMode, Owner, Reason, State, Thread};

use super::{Foreign, STACK};
use crate::errno::Errno;
use crate::harness::Ctx;
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{
    self, Hooks as _, at, detached, init, joined, on_thread, registered_main, right_everywhere,
};
use crate::hooks::filtered::runs_on;
use crate::seccomp::{self, Answer, When};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};

const INVAL: Option<rseq_rt::Errno> = Some(rseq_rt::Errno::INVAL);

fn ours(thread: &Thread<'_>, _: &Hooked) {
    is_ours(thread.area());
}

#[track_caller]
fn is_ours(area: &Area) {
    assert!(common::is_ours(area.state()) && area.cpu_id() >= 0);
    right_everywhere(area);
}

#[track_caller]
fn release_is_refused(thread: Thread<'_>) {
    assert_eq!(hooked::release(thread).unwrap_err(), Some(Error::Taken));
}

/// A foreign owner's thread: its earlier registration stays; our create hook is refused, and the thread exits.
fn taken(foreign: &'static Foreign, area: &'static Area, releases: bool) {
    foreign.register(32, SIGNATURE).unwrap();
    let rest = foreign.rest();
    let thread = RSEQ.create(area).unwrap();
    runs_on(area, Reason::Taken, INVAL);
    foreign.is_alive(32, SIGNATURE);
    if releases {
        release_is_refused(thread);
    } else {
        let _kept = thread.on_exit(ExitMode::Keep).into_kept();
    }
    foreign.is_alive(32, SIGNATURE);
    assert_eq!(foreign.rest(), rest);
}

pub fn on_one_thread(ctx: &Ctx) {
    static FOREIGN: [Foreign; 2] = [const { Foreign::new() }; 2];
    static AREAS: [Area; 2] = [const { Area::new() }; 2];
    let main = registered_main(ctx);
    let length = RSEQ.length();
    let bodies: [fn(); 2] = [
        || taken(&FOREIGN[0], &AREAS[0], false),
        || taken(&FOREIGN[1], &AREAS[1], true),
    ];
    for body in bodies {
        joined(STACK, ours, 0);
        on_thread(STACK, body);
        joined(STACK, ours, 0);
        detached(STACK, ours, 0);
    }
    assert_eq!(RSEQ.owner(), Some(Owner::Runtime));
    assert_eq!(RSEQ.length(), length);
    is_ours(main.area());
    let _ = hooked::release(main).unwrap();
}

/// The foreign owner unregisters while our thread lives: ours does not try again, and no other thread is affected.
pub fn leaves_again(ctx: &Ctx) {
    static FOREIGN: Foreign = Foreign::new();
    static AREA: Area = Area::new();
    let main = registered_main(ctx);
    on_thread(STACK, || {
        FOREIGN.register(32, !SIGNATURE).unwrap();
        let thread = RSEQ.create(&AREA).unwrap();
        FOREIGN.unregister(32, !SIGNATURE).unwrap();
        seccomp::install(__NR_rseq, When::Always, Answer::Kill).unwrap();
        runs_on(&AREA, Reason::Taken, INVAL);
        assert_eq!(FOREIGN.as_rseq().cpu_id.load(Relaxed), -1);
        // This library is not told, so its view of the thread is unchanged.
        release_is_refused(thread);
    });
    joined(STACK, ours, 0);
    detached(STACK, ours, 0);
    is_ours(main.area());
}

/// A foreign owner that comes after our registration is refused, and changes nothing for us.
pub fn comes_second(ctx: &Ctx) {
    static FOREIGN: Foreign = Foreign::new();
    fn body(thread: &Thread<'_>, _: &Hooked) {
        for length in [32, 33, RSEQ.length()] {
            for signature in [SIGNATURE, !SIGNATURE] {
                assert_eq!(FOREIGN.register(length, signature), Err(Errno::INVAL));
                assert_eq!(FOREIGN.unregister(length, signature), Err(Errno::INVAL));
            }
        }
        is_ours(thread.area());
    }
    let main = registered_main(ctx);
    joined(STACK, body, 0);
    detached(STACK, body, 0);
    is_ours(main.area());
}

/// The kernel knows our area already, since another copy of the crate registered it, or this one before the memory was
/// cleared: it becomes our registration, without a store to an id.
pub fn behind_us(ctx: &Ctx) {
    static MAIN: Area = Area::new();
    static LATER: Area = Area::new();
    static LAZY: Area = Area::new();
    fn life(area: &'static Area, length: u32, lazily: bool) {
        let all = sched::allowed().unwrap();
        // SAFETY: rseq (1) static memory; (2) the hook below expects that.
        unsafe { rseq(at(area), length, 0, SIGNATURE) }.unwrap();
        // Ids other than the first CPU's, which zeroes would be.
        for cpu in all.iter() {
            sched::allow(0, &CpuSet::one(cpu)).unwrap();
        }
        if lazily {
            let state = RSEQ.ensure(area);
            assert_eq!(state, Ok(State::Registered(Owner::Runtime)));
        }
        let thread = RSEQ.create(area).unwrap();
        // From 7.0 on the kernel compares its ids with the stored ones when they change, and kills.
        for cpu in all.iter().chain(all.iter()) {
            sched::allow(0, &CpuSet::one(cpu)).unwrap();
        }
        sched::allow(0, &all).unwrap();
        is_ours(area);
        let _ = hooked::release(thread).unwrap();
        // SAFETY: rseq (1, 2): unregistration of an area that is not registered any more.
        let answer = unsafe { rseq(at(area), length, 1, SIGNATURE) };
        assert_eq!(answer, Err(Errno::INVAL));
    }
    init(ctx);
    life(&MAIN, hooked::config(ctx.env).length(), false);
    on_thread(STACK, || life(&LATER, RSEQ.length(), false));
    on_thread(STACK, || life(&LAZY, RSEQ.length(), true));
}
