//! Registration for a scope: the memory is unmapped after its end while the thread lives on.

use core::ptr;
use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{Area, Owner, Scoped, State};

use super::lifetime::init;
use super::lifetime_poison::Poison;
use crate::check;
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, PASSED, Test, Verdict, expect_killed_by};
use crate::hooked::RSEQ;
use crate::sys::mm::{self, Access};
use crate::sys::sched::{self, CpuSet};
use crate::sys::{process, signal};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("lifetime/scoped", scoped),
    Test::new("lifetime/scoped-dropped", dropped),
    Test::new("lifetime/scoped-unmapped-early-is-fatal", unmapped_early).needs(Needs::RSEQ.cpus(2)),
];

fn begin<'a>(page: *mut u8) -> Option<Scoped<'a>> {
    // SAFETY: a fresh page: zeroes are an area.
    let area = unsafe { &*page.cast::<Area>() };
    // SAFETY: scoped (1, 3) this thread's page; (2) unmapped after `end`, or in the variant that must die.
    unsafe { RSEQ.scoped(area) }.ok()
}

/// Here and there: the kernel writes where it still may.
fn move_about() -> Result<(), Errno> {
    let all = sched::allowed()?;
    for cpu in all.iter() {
        sched::allow(0, &CpuSet::one(cpu))?;
    }
    sched::allow(0, &all)
}

fn scoped(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    let len = mm::page_size();
    for round in 0..ctx.scale(50_000, 1_000, 200) {
        let page = mm::map(len, Access::ReadWrite)?;
        let Some(scope) = begin(page) else {
            check!(false, "scope ", round);
            return PASSED;
        };
        let registered = scope.thread().state() == State::Registered(Owner::Runtime);
        check!(
            registered == ctx.facts.rseq.is_ok(),
            "the state of scope ",
            round
        );
        let cpu = RSEQ.current_cpu(scope.thread().area());
        check!(cpu.is_ok(), "no CPU in scope ", round);
        check!(scope.end().is_ok(), "the end of scope ", round);
        check!(signal::blocked()? == 0, "the mask after scope ", round);
        // Poisoned for a while, then gone.
        // SAFETY: fill (1) after `end`, nobody's.
        let poison = unsafe { Poison::fill(page, len) };
        if round % 64 == 0 {
            move_about()?;
        }
        check!(poison.inspect(), "poison");
        // SAFETY: unmap (1) mapped above.
        unsafe { poison.unmap()? };
    }
    PASSED
}

/// One area, scope after scope, each ended by its drop.
fn dropped(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    let page = mm::map(mm::page_size(), Access::ReadWrite)?;
    // SAFETY: never unmapped; zeroes are an area.
    let area = unsafe { &*page.cast::<Area>() };
    for round in 0..ctx.scale(20_000, 500, 100) {
        let scope = begin(page);
        check!(scope.is_some(), "scope ", round);
        drop(scope);
        check!(area.state() == State::Unregistered, "after scope ", round);
        check!(area.cpu_id() == -1, "the CPU after scope ", round);
    }
    PASSED
}

fn unmapped_early(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    expect_killed_by(SIGSEGV as i32, || {
        let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap_or(ptr::null_mut());
        let Some(scope) = begin(page).filter(|_| !page.is_null()) else {
            process::exit_group(2);
        };
        core::mem::forget(scope);
        // SAFETY: not at all: the kernel still writes there. This is the variant that must die.
        let _ = unsafe { mm::unmap(page, mm::page_size()) };
        let _ = move_about();
    })?;
    PASSED
}
