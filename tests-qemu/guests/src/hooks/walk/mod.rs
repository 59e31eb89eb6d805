//! The walk: at every instruction of every hook, from every state, a handler makes each legal call. Afterwards the
//! kernel must agree with the state. The child is traced. Its instructions are recorded once, by single steps; then,
//! for each of them, it runs up to a breakpoint there, is moved to another CPU if there is one, and gets its signal.

mod acts;
mod case;
mod judge;
mod place;
mod seam;
mod shared;
mod slice;
mod subject;
mod sweep;
mod tracer;

use self::case::{Act, Before, Case, Hook};
use self::shared::Fault;
use self::tracer::{End, Walker};
use crate::harness::{Ctx, Needs, Scale, Test, passed, skip};
use crate::witness;

const NEEDS: Needs = Needs::RSEQ.and(Needs::PTRACE);

/// With a limit far above what any machine needs, even a loaded one.
const fn test(name: &'static str, run: fn(&Ctx<'_>)) -> Test {
    Test::new(name, run).needs(NEEDS).limit(1200)
}

pub const TESTS: &[Test] = &[
    test("walk/create", |ctx| walk(ctx, CREATE, &Before::ALL, CASE)),
    test("walk/loans", |ctx| walk(ctx, LOANS, &Before::ALL, CASE)),
    test("walk/exit", |ctx| {
        use Hook::{Keep, KeepMasked, Release, ReleaseMasked};
        let hooks = [Keep, KeepMasked, Release, ReleaseMasked];
        walk(ctx, &hooks, &Before::ALL, CASE);
    }),
    test("walk/scoped", |ctx| {
        let hooks = [Hook::ScopedBegin, Hook::ScopedEnd];
        walk(ctx, &hooks, &Before::ALL, CASE);
    }),
    test("walk/recycle-and-at-exit", |ctx| {
        walk(ctx, &[Hook::Recycle, Hook::AtExit], &Before::ALL, CASE);
    }),
    test("walk/slice", |ctx| {
        let befores = [Before::New, Before::Lazy, Before::Lent];
        walk(ctx, SLICE, &befores, CASE);
    }),
    test("walk/sweep", |ctx| {
        walk(ctx, SWEEP, &[Before::Lazy], CASE);
    }),
    test("walk/no-mask", |ctx| {
        use Hook::{Create, Ensure, Keep, Release, ScopedEnd};
        let hooks = [Create, Ensure, Keep, Release, ScopedEnd];
        let case = Case {
            refuses_mask: true,
            ..CASE
        };
        walk(ctx, &hooks, &Before::ALL, case);
    }),
    // The one signal that stays open: it may be sent, and its handler does not know that nothing was trapped.
    test("walk/sigsys", |ctx| {
        use Before::{KnownTaken, Lazy, New, Zeroed};
        use Hook::{Create, CreateMasked, Recycle, Release, ScopedEnd};
        let hooks = [Create, CreateMasked, Release, ScopedEnd, Recycle];
        let befores = [Zeroed, New, Lazy, KnownTaken];
        let case = Case {
            is_sigsys: true,
            ..CASE
        };
        walk(ctx, &hooks, &befores, case);
    }),
    test("walk/broken-loan-is-found", |ctx| {
        let (before, act) = (Before::New, Act::Ensure);
        finds(ctx, Hook::BrokenLend, before, act, judge::DENIED);
    }),
    test("walk/broken-slice-is-found", |ctx| {
        let (before, act) = (Before::Lazy, Act::Grant);
        if slice::kernel_clears() {
            skip!("this kernel clears a request before a handler could grant it");
        }
        finds(ctx, Hook::BrokenYieldSlice, before, act, slice::LOST);
    }),
    test("walk/broken-sweep-is-found", |ctx| {
        let (before, act) = (Before::Lazy, Act::Sweep);
        finds(ctx, Hook::BrokenSweep, before, act, sweep::NOT_ONE);
    }),
];

const CREATE: &[Hook] = &[Hook::Create, Hook::CreateMasked, Hook::Ensure];
const LOANS: &[Hook] = &[Hook::Lend, Hook::EndLoan];
const SLICE: &[Hook] = &[Hook::RequestSlice, Hook::YieldSlice];
const SWEEP: &[Hook] = &[Hook::Sweep];

const CASE: Case = Case {
    hook: Hook::Create,
    before: Before::New,
    act: Act::Nothing,
    refuses_mask: false,
    is_sigsys: false,
    is_moved: true,
    stops_behind: false,
};

#[derive(Default)]
struct Count {
    hooks: u32,
    instructions: usize,
    cases: u32,
    missed: u32,
}

/// One hook from one state: each instruction, with each act wanted there. Returns the first fault and its place.
fn one(
    ctx: &Ctx<'_>,
    walker: &mut Walker,
    case: Case,
    count: &mut Count,
    wants: impl Fn(usize, Act) -> bool,
) -> Option<(Case, usize, End)> {
    let (length, end) = walker.trace(case)?;
    if end != End::Judged(Ok(())) {
        return Some((case, 0, end));
    }
    count.hooks += 1;
    count.instructions += length;
    for nth in 0..length {
        for act in Act::ALL {
            if !wants(nth, act) {
                continue;
            }
            // Moving to an emulated CPU is slow.
            let is_moved = is_native(ctx) || nth % 4 == 0;
            let case = Case {
                act,
                is_moved,
                ..case
            };
            count.cases += 1;
            match walker.at(case, nth) {
                End::Judged(Ok(())) => {}
                End::Missed => count.missed += 1,
                end => return Some((case, nth, end)),
            }
        }
    }
    None
}

/// Under emulation every instruction where the kernel punishes a wrong store, from 7.0 on; every third one on older
/// kernels, so that each act still has its turn.
fn stride(ctx: &Ctx<'_>) -> usize {
    if is_native(ctx) || witness::kills_for_stores(ctx.facts) {
        1
    } else {
        3
    }
}

fn is_native(ctx: &Ctx<'_>) -> bool {
    ctx.scale == Scale::Native
}

/// Under emulation, one hook for each group of states that lead through the same instructions.
fn is_worth_it(ctx: &Ctx<'_>, hook: Hook, before: Before) -> bool {
    match before {
        _ if is_native(ctx) => true,
        Before::Zeroed => hook == Hook::Create,
        Before::Taken => hook == Hook::CreateMasked,
        // An exit hook from a new area runs a create hook first.
        Before::Lazy | Before::Created => {
            let direct = [CREATE, LOANS, SLICE, SWEEP];
            direct.iter().any(|hooks| hooks.contains(&hook))
        }
        _ => true,
    }
}

/// Natively every instruction with a handler that registers, one that lends and one that forks, and the others in turn.
/// Under emulation one of them in turn; from the common states, the registering one too. A sweep and a request meet
/// their own kind at every instruction.
fn wants(ctx: &Ctx<'_>, case: Case, nth: usize, act: Act) -> bool {
    let is_native = is_native(ctx);
    let turn = |of: usize, mine: usize| nth % of == mine;
    let is_usual = matches!(case.before, Before::New | Before::Lazy);
    match act {
        Act::Ensure => is_native || is_usual || turn(4, 0),
        Act::Lend => is_native || turn(4, 1),
        Act::Fork => is_native || turn(4, 2),
        Act::Vfork => turn(8, 3),
        Act::Push => turn(16, 7),
        Act::Read | Act::Nothing => turn(16, 15),
        // exec is slow, and its kernel state is the same each time.
        Act::Exec => turn(64, 5),
        Act::Slice | Act::Grant => SLICE.contains(&case.hook),
        Act::Sweep => SWEEP.contains(&case.hook),
    }
}

fn walk(ctx: &Ctx<'_>, hooks: &[Hook], befores: &[Before], case: Case) {
    let mut count = Count::default();
    let mut walker = Walker::start(ctx);
    for &hook in hooks {
        for &before in befores {
            if !is_worth_it(ctx, hook, before) {
                continue;
            }
            let case = Case {
                hook,
                before,
                ..case
            };
            let wants = |nth, act| nth % stride(ctx) == 0 && wants(ctx, case, nth, act);
            if let Some((case, nth, end)) = one(ctx, &mut walker, case, &mut count, wants) {
                let at = walker.address(nth);
                panic!("{case:?} at instruction {nth}, {at:#x}: {end:?}");
            }
        }
    }
    let Count {
        hooks,
        instructions,
        cases,
        missed,
    } = count;
    let acts = walker.acts();
    assert!(hooks != 0 && acts != 0, "nothing was walked through");
    assert!(missed * 20 <= cases, "{missed} of {cases} never came back");
    walker.end();
    passed!(
        "{instructions} instructions of {hooks} hooks and states, {cases} cases, {acts} handlers, {missed} missed"
    );
}

/// A broken variant, which this act must reveal.
fn finds(ctx: &Ctx<'_>, hook: Hook, before: Before, act: Act, fault: Fault) {
    let mut walker = Walker::start(ctx);
    let case = Case {
        hook,
        before,
        ..CASE
    };
    let count = &mut Count::default();
    let found = one(ctx, &mut walker, case, count, |_, other| other == act);
    let (_, nth, end) = found.expect("the walk has not found it");
    assert_eq!(end, End::Judged(Err(fault)));
    walker.end();
    passed!("at instruction {nth}: {fault}");
}
