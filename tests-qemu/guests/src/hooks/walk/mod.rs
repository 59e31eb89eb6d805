//! The walk: every instruction of every hook, with a handler that lands just there and does each legal thing, whatever
//! was true before. Afterwards the kernel is asked, and must agree with the state.
//!
//! The child is traced. Its instructions are recorded once, by steps; then, for each of them, it runs up to a breakpoint
//! there, is moved to another CPU if there is one, and gets its signal.

mod acts;
mod case;
mod fault;
mod judge;
mod place;
mod seam;
mod shared;
mod subject;
mod tracer;

use self::case::{Act, Before, Case, Hook, Seam};
use self::fault::Fault;
use self::tracer::{End, Walker};
use crate::harness::{Ctx, Failed, Needs, Scale, Test, Verdict, failed};
use crate::show::Hex;
use crate::{check, passed, text};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("walk/create", |ctx| walk(ctx, &CREATE, &[Seam::Linux]))
        .needs(NEEDS)
        .limit(LIMIT),
    Test::new("walk/loans", |ctx| walk(ctx, &LOANS, &[Seam::Linux]))
        .needs(NEEDS)
        .limit(LIMIT),
    Test::new("walk/exit", |ctx| walk(ctx, &EXIT, &[Seam::Linux]))
        .needs(NEEDS)
        .limit(LIMIT),
    Test::new("walk/scoped", |ctx| walk(ctx, &SCOPED, &[Seam::Linux]))
        .needs(NEEDS)
        .limit(LIMIT),
    Test::new("walk/recycle-and-at-exit", |ctx| {
        walk(ctx, &REST, &[Seam::Linux])
    })
    .needs(NEEDS),
    Test::new("walk/no-mask", |ctx| walk(ctx, &UNMASKED, &[Seam::NoMask]))
        .needs(NEEDS)
        .limit(LIMIT),
    Test::new("walk/sigsys", sigsys).needs(NEEDS).limit(LIMIT),
    Test::new("walk/broken-loan-is-found", broken)
        .needs(NEEDS)
        .limit(LIMIT),
];

const NEEDS: Needs = Needs::RSEQ.and(Needs::PTRACE);
/// Far more than any machine takes for it, a loaded one too.
const LIMIT: u64 = 1200;

const CREATE: [Hook; 3] = [Hook::Create, Hook::CreateMasked, Hook::Ensure];
const LOANS: [Hook; 2] = [Hook::Lend, Hook::EndLoan];
const EXIT: [Hook; 4] = [
    Hook::Keep,
    Hook::KeepMasked,
    Hook::Release,
    Hook::ReleaseMasked,
];
const SCOPED: [Hook; 2] = [Hook::ScopedBegin, Hook::ScopedEnd];
const REST: [Hook; 2] = [Hook::Recycle, Hook::AtExit];
const UNMASKED: [Hook; 5] = [
    Hook::Create,
    Hook::Ensure,
    Hook::Keep,
    Hook::Release,
    Hook::ScopedEnd,
];

/// What ran, for the test's line.
#[derive(Default)]
struct Count {
    hooks: u32,
    instructions: usize,
    cases: u32,
    missed: u32,
}

fn report(walker: &Walker, case: Case, nth: usize, end: End) -> Failed {
    let what = match end {
        End::Judged(fault) => text!(fault.text()),
        End::Missed => text!("never reached"),
        End::Died(status) => text!("the child ", status),
    };
    let signal = if case.is_sigsys { ", by SIGSYS" } else { "" };
    let seam = match case.seam {
        Seam::Linux => "",
        Seam::NoMask => ", no mask",
    };
    failed(text!(
        case.hook.text(),
        " / ",
        case.before.text(),
        " / ",
        case.act.text(),
        signal,
        seam,
        " at instruction ",
        nth,
        ", ",
        Hex(walker.address(nth)),
        ": ",
        what
    ))
}

/// One hook from one state before: each instruction, by each act that `wants`.
fn one(
    walker: &mut Walker,
    case: Case,
    is_native: bool,
    count: &mut Count,
    wants: impl Fn(usize, Act) -> bool,
) -> Result<Option<(usize, Act, End)>, Failed> {
    let (length, end) = walker.trace(case)?;
    match end {
        End::Judged(Fault::NotHere) => return Ok(None),
        End::Judged(Fault::None) => {}
        end => return Ok(Some((0, Act::Nothing, end))),
    }
    count.hooks += 1;
    count.instructions += length;
    for nth in 0..length {
        for &act in Act::ALL {
            if !wants(nth, act) {
                continue;
            }
            // An emulated CPU takes long to be moved to.
            let is_moved = case.is_moved && (is_native || nth % 4 == 0);
            let case = Case {
                act,
                is_moved,
                ..case
            };
            let end = walker.at(case, nth)?;
            count.cases += 1;
            match end {
                End::Judged(Fault::None) => {}
                End::Missed => count.missed += 1,
                end => return Ok(Some((nth, act, end))),
            }
        }
    }
    Ok(None)
}

fn is_native(ctx: &Ctx<'_>) -> bool {
    ctx.scale == Scale::Native
}

/// Under emulation, of the states before that lead through the same instructions one hook each.
fn is_worth_it(ctx: &Ctx<'_>, hook: Hook, before: Before) -> bool {
    match before {
        _ if is_native(ctx) => true,
        Before::Zeroed => hook == Hook::Create,
        Before::Taken => hook == Hook::CreateMasked,
        // An exit hook from a new area has a create hook in front of it.
        Before::Lazy | Before::Created => CREATE.contains(&hook) || LOANS.contains(&hook),
        _ => true,
    }
}

/// One hook from one state, with every act that is wanted: the first fault ends the test.
fn must_hold(
    ctx: &Ctx<'_>,
    walker: &mut Walker,
    case: Case,
    count: &mut Count,
) -> Result<(), Failed> {
    let found = one(walker, case, is_native(ctx), count, |nth, act| {
        wants(ctx, case.before, nth, act)
    })?;
    match found {
        None => Ok(()),
        Some((nth, act, end)) => Err(report(walker, Case { act, ..case }, nth, end)),
    }
}

/// Natively every instruction by a handler that registers, one that lends and one that forks, and by the others in
/// turn. Under emulation by one of them in turn; from the states that are every thread's, by the one that registers too.
fn wants(ctx: &Ctx<'_>, before: Before, nth: usize, act: Act) -> bool {
    let is_native = is_native(ctx);
    let turn = |of: usize, mine: usize| nth % of == mine;
    let is_usual = matches!(before, Before::New | Before::Lazy);
    match act {
        Act::Ensure => is_native || is_usual || turn(4, 0),
        Act::Lend => is_native || turn(4, 1),
        Act::Fork => is_native || turn(4, 2),
        Act::Vfork => turn(8, 3),
        Act::Push => turn(16, 7),
        Act::Read | Act::Nothing => turn(16, 15),
        // A new image takes its time, and its kernel is asked the same thing each time.
        Act::Exec => turn(64, 5),
    }
}

fn walk(ctx: &Ctx<'_>, hooks: &[Hook], seams: &[Seam]) -> Verdict {
    let mut count = Count::default();
    let mut walker = Walker::start(ctx)?;
    for (&hook, &seam) in hooks
        .iter()
        .flat_map(|hook| seams.iter().map(move |seam| (hook, seam)))
    {
        for &before in Before::ALL
            .iter()
            .filter(|&&before| is_worth_it(ctx, hook, before))
        {
            let case = Case {
                hook,
                before,
                act: Act::Nothing,
                seam,
                traced: false,
                is_sigsys: false,
                is_moved: true,
            };
            must_hold(ctx, &mut walker, case, &mut count)?;
        }
    }
    finish(walker, &count)
}

fn finish(walker: Walker, count: &Count) -> Verdict {
    let acts = walker.acts();
    check!(count.hooks != 0 && acts != 0, "nothing was walked through");
    check!(
        count.missed * 20 <= count.cases,
        count.missed,
        " of ",
        count.cases,
        " instructions were never reached again"
    );
    walker.end()?;
    passed!(
        count.instructions,
        " instructions of ",
        count.hooks,
        " hooks and states, ",
        count.cases,
        " cases, ",
        acts,
        " handlers, ",
        count.missed,
        " missed"
    )
}

/// By the one signal that stays open: somebody sends it, and its handler does not know that nobody trapped.
fn sigsys(ctx: &Ctx<'_>) -> Verdict {
    let mut count = Count::default();
    let mut walker = Walker::start(ctx)?;
    for hook in [
        Hook::Create,
        Hook::CreateMasked,
        Hook::Release,
        Hook::ScopedEnd,
        Hook::Recycle,
    ] {
        for before in [
            Before::Zeroed,
            Before::New,
            Before::Lazy,
            Before::KnownTaken,
        ] {
            if !is_worth_it(ctx, hook, before) {
                continue;
            }
            let case = Case {
                hook,
                before,
                act: Act::Nothing,
                seam: Seam::Linux,
                traced: false,
                is_sigsys: true,
                is_moved: true,
            };
            must_hold(ctx, &mut walker, case, &mut count)?;
        }
    }
    finish(walker, &count)
}

/// The broken variant: a loan by a load and a store, between which a handler registers.
fn broken(ctx: &Ctx<'_>) -> Verdict {
    let mut walker = Walker::start(ctx)?;
    let case = Case {
        hook: Hook::BrokenLend,
        before: Before::New,
        act: Act::Ensure,
        seam: Seam::Linux,
        traced: false,
        is_sigsys: false,
        is_moved: true,
    };
    let found = one(
        &mut walker,
        case,
        is_native(ctx),
        &mut Count::default(),
        |_, act| act == Act::Ensure,
    )?;
    match found {
        Some((nth, _, End::Judged(Fault::Denied))) => {
            walker.end()?;
            passed!("denied at instruction ", nth)
        }
        Some((nth, act, end)) => Err(report(&walker, Case { act, ..case }, nth, end)),
        None => Err(failed(text!("the walk has not found it"))),
    }
}
