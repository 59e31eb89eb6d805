//! A filter installed after threads have registered: they stay registered, and their memory is safe.

use linux_raw_sys::general::{__NR_rseq, SIGSEGV};
use rseq_rt::abi::FLAG_UNREGISTER;
use rseq_rt::{Area, ClearTid, Error, Exit, ExitMode, Owner, State, Thread};

use super::{STACK, meaning, refusal, runs_on};
use crate::errno::Errno;
use crate::harness::{Ctx, must_die, must_pass};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{
    Gate, Hooks as _, area_on_a_page, at, detached, init, is_ours, joined, registered_main,
    right_everywhere,
};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::mm;
use crate::sys::sched;
use crate::{thread, witness};

const UNREGISTRATION: When = When::ArgIs(2, FLAG_UNREGISTER);

/// Opened once the filter is there.
static GATE: Gate = Gate::new();

/// Created before the filter, ends after it, in its runtime's way.
fn early(thread: &Thread<'_>, _: &Hooked) {
    GATE.pass();
    still_right(thread.area());
}

#[track_caller]
fn still_right(area: &Area) {
    assert!(is_ours(area.state()) && area.cpu_id() >= 0);
    right_everywhere(area);
}

/// The answer to a request to release a registered thread.
fn refused(errno: u32) -> Option<Error> {
    meaning(errno).1.map(Error::StillRegistered)
}

/// As [`early`], but requests its release itself, to see the answer.
fn early_asks<const ERRNO: u32>(thread: &Thread<'_>, hooked: &Hooked) {
    early(thread, hooked);
    let thread = RSEQ.thread_of(thread.area()).unwrap();
    let Exit::Kept(kept) = thread.on_exit(ExitMode::Release) else {
        panic!("released against the filter");
    };
    assert_eq!(kept.why(), refused(ERRNO));
    let late = RSEQ.ensure(&hooked.area);
    assert_eq!(late, Ok(State::Exiting));
    assert!(hooked.area.cpu_id() >= 0);
    // SAFETY: exit (1) nothing on this stack waits to be dropped.
    unsafe { kept.exit(0) }
}

fn late<const ERRNO: u32>(thread: &Thread<'_>, _: &Hooked) {
    let (reason, errno) = meaning(ERRNO);
    runs_on(thread.area(), reason, errno);
}

/// A scope that began before the filter and ends after it.
fn early_scope<const ERRNO: u32>(_: &()) {
    static SCOPE: Area = Area::new();
    let scoped = RSEQ.scope(&SCOPE).unwrap();
    GATE.pass();
    assert_eq!(scoped.end().err(), refused(ERRNO));
    still_right(&SCOPE);
}

/// The memory of a thread whose release was refused is still mapped; the waiter for clear-tid frees it.
fn reclaim(stack: Stack, word: &ClearTid) {
    let reclaimed = word.wait().unwrap();
    assert!(stack.is_mapped(), "unmapped against the filter");
    // SAFETY: unmap (1) the thread's own stack, and its end is proven.
    unsafe { reclaimed.unmap(stack.base(), stack.len()) }.unwrap();
}

/// From here on rseq(2) is refused in every thread.
pub fn all<const ERRNO: u32>(ctx: &Ctx) {
    static WORDS: [ClearTid; 2] = [const { ClearTid::new() }; 2];
    static SCOPE: Area = Area::new();
    let main = registered_main(ctx);
    let lengths = (RSEQ.length(), RSEQ.feature_size());
    let keeps = hooked::start_joinable(STACK, early, 0).unwrap();
    let asks = hooked::start_joinable(STACK, early_asks::<ERRNO>, 0).unwrap();
    let stacks = [Stack::map(STACK).unwrap(), Stack::map(STACK).unwrap()];
    hooked::start_watched(stacks[0], early, 0, &WORDS[0]).unwrap();
    hooked::start_watched(stacks[1], early_asks::<ERRNO>, 0, &WORDS[1]).unwrap();
    hooked::start_detached(STACK, early, 0).unwrap();
    let scope = thread::start(STACK, (), early_scope::<ERRNO>).unwrap();
    GATE.wait_for(6);
    let answer = Answer::Errno(Errno(ERRNO));
    seccomp::install_everywhere(__NR_rseq, When::Always, answer).unwrap();
    for _ in 0..ctx.scale(20, 3, 3) {
        joined(STACK, late::<ERRNO>, 0);
        detached(STACK, late::<ERRNO>, 0);
    }
    GATE.open();
    keeps.join().unwrap();
    asks.join().unwrap();
    scope.join().unwrap();
    for (stack, word) in stacks.into_iter().zip(&WORDS) {
        reclaim(stack, word);
    }
    assert_eq!(RSEQ.owner(), Some(Owner::Runtime));
    assert_eq!(RSEQ.reason(), None);
    assert_eq!((RSEQ.length(), RSEQ.feature_size()), lengths);
    still_right(main.area());
    // A scope that could not begin ends without error.
    let ended = RSEQ.scope(&SCOPE).unwrap().end();
    let (reason, errno) = meaning(ERRNO);
    assert_eq!(ended, refusal(reason, errno).map_or(Ok(()), Err));
    let area = main.area();
    assert_eq!(hooked::release(main).err(), Some(refused(ERRNO)));
    assert!(area.state() == State::Exiting && area.cpu_id() >= 0);
}

/// The broken variant: a runtime that takes the refusal for a release.
pub fn refused_and_freed(ctx: &Ctx) {
    let life = |frees| {
        let area = area_on_a_page();
        init(ctx);
        let thread = RSEQ.create(area).unwrap();
        seccomp::install(__NR_rseq, UNREGISTRATION, Answer::Errno(Errno::PERM)).unwrap();
        hooked::release(thread).unwrap_err();
        if frees {
            // SAFETY: violated: the kernel still writes there.
            unsafe { mm::unmap(at(area), mm::page_size()) }.unwrap();
        }
        for _ in 0..3 {
            witness::migrate(witness::cpus());
            sched::relax();
        }
    };
    must_die(SIGSEGV as i32, || life(true));
    must_pass(|| life(false));
}

/// Registration succeeds and unregistration does not: every release is refused, and nothing else is affected.
pub fn only_unregistration(ctx: &Ctx) {
    static WORD: ClearTid = ClearTid::new();
    static SCOPE: Area = Area::new();
    fn body(thread: &Thread<'_>, _: &Hooked) {
        still_right(thread.area());
    }
    seccomp::install(__NR_rseq, UNREGISTRATION, Answer::Errno(Errno::PERM)).unwrap();
    init(ctx);
    let scoped = RSEQ.scope(&SCOPE).unwrap();
    let refused = Error::StillRegistered(rseq_rt::Errno::PERM);
    assert_eq!(scoped.end(), Err(refused));
    still_right(&SCOPE);
    let again = RSEQ.scope(&SCOPE);
    assert_eq!(again.unwrap_err(), Error::AlreadyCreated);
    for _ in 0..ctx.scale(50, 5, 5) {
        joined(STACK, body, 0);
        let stack = Stack::map(STACK).unwrap();
        hooked::start_watched(stack, body, 0, &WORD).unwrap();
        reclaim(stack, &WORD);
        // SAFETY: its thread has ended, and this is the only reader.
        unsafe { WORD.as_ptr().write_volatile(u32::MAX) };
    }
    still_right(&SCOPE);
}
