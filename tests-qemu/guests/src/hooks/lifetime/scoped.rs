//! Registration for a scope: the memory is unmapped after its end while the thread lives on.

use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{Area, Owner, Scoped, State};

use super::poison::Poison;
use crate::harness::{Ctx, must_die};
use crate::hooked::RSEQ;
use crate::hooks::common::init;
use crate::sys::mm::{self, Access};
use crate::sys::signal;
use crate::witness;

fn map() -> *mut u8 {
    mm::map(mm::page_size(), Access::ReadWrite).unwrap()
}

fn begin<'a>(page: *mut u8) -> Scoped<'a> {
    // SAFETY: a page of this thread: zeroes are an area.
    let area = unsafe { &*page.cast::<Area>() };
    // SAFETY: scoped (1, 3) this thread's page; (2) unmapped after `end`, or in the variant that must die.
    unsafe { RSEQ.scoped(area) }.unwrap()
}

pub(super) fn scoped(ctx: &Ctx<'_>) {
    init(ctx);
    let len = mm::page_size();
    for round in 0..ctx.scale(50_000, 1_000, 200) {
        let page = map();
        let scope = begin(page);
        let registered = scope.thread().state() == State::Registered(Owner::Runtime);
        assert_eq!(registered, ctx.facts.rseq.is_ok(), "scope {round}");
        RSEQ.current_cpu(scope.thread().area()).unwrap();
        scope.end().unwrap();
        assert_eq!(signal::blocked(), Ok(0), "after scope {round}");
        // SAFETY: fill (1) after `end`, the page is unused.
        let poison = unsafe { Poison::fill(page, len) };
        if round % 64 == 0 {
            witness::migrate(witness::cpus());
        }
        poison.assert_clean();
        // SAFETY: unmap (1) mapped above.
        unsafe { poison.unmap().unwrap() };
    }
}

/// One area, scope after scope, each ended by its drop.
pub(super) fn dropped(ctx: &Ctx<'_>) {
    init(ctx);
    let page = map();
    // SAFETY: never unmapped; zeroes are an area.
    let area = unsafe { &*page.cast::<Area>() };
    for round in 0..ctx.scale(20_000, 500, 100) {
        drop(begin(page));
        assert_eq!(area.state(), State::Unregistered, "after scope {round}");
        assert_eq!(area.cpu_id(), -1, "after scope {round}");
    }
}

pub(super) fn unmapped_early(ctx: &Ctx<'_>) {
    init(ctx);
    must_die(SIGSEGV as i32, || {
        let page = map();
        core::mem::forget(begin(page));
        // SAFETY: violated: the kernel still writes there. This is the variant that must die.
        unsafe { mm::unmap(page, mm::page_size()) }.unwrap();
        witness::migrate(witness::cpus());
    });
}
