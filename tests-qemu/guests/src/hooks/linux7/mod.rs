//! The rules of Linux 7.x: only the kernel stores ids, and length and alignment are part of the registration.

mod ids;
mod steps;

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, fence};
use linux_raw_sys::general::SIGSEGV;

use rseq_rt::abi::LEGACY_LENGTH;
use rseq_rt::{Area, Config, Owner, State};

use super::common::{Hooks as _, joined_at_once, look, main_thread_with, right_everywhere};
use crate::harness::child::wait;
use crate::harness::{Ctx, Facts, Needs, Test, forked, must_die, passed};
use crate::hooked::{self, RSEQ};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::{mm, sched};
use crate::witness;

pub const TESTS: &[Test] = &[
    Test::new("linux7/length-of-this-kernel", length).needs(Needs::RSEQ),
    Test::new("linux7/store-while-registered", store).needs(Needs::RSEQ.cpus(2)),
    Test::new("linux7/alignment", alignment).needs(Needs::RSEQ),
    Test::new("linux7/both-lengths-in-two-processes", both).needs(Needs::RSEQ),
    Test::new("linux7/ids-after-each-move", ids::after_each_move).needs(Needs::RSEQ),
    Test::new("linux7/hooks-moved-at-each-step", steps::hooks).needs(STEPS),
    Test::new("linux7/broken-hook-moved-at-each-step", steps::broken_hook).needs(STEPS),
    Test::new("linux7/hooks-in-a-storm-of-moves", steps::storm).needs(Needs::RSEQ.cpus(2)),
];

const STEPS: Needs = Needs::RSEQ.and(Needs::PTRACE).cpus(2);

const STACK: usize = 32 * 1024;
const OURS: State = State::Registered(Owner::Runtime);

/// Starts the process with `config`, and returns the main thread's area.
pub(super) fn begin(config: Config) -> &'static Area {
    let thread = main_thread_with(config);
    assert_eq!(thread.state(), OURS);
    thread.area()
}

/// The length in auxv is registered at the first attempt.
fn length(ctx: &Ctx<'_>) {
    let Facts {
        feature_size: size,
        align,
        ..
    } = *ctx.facts;
    let config = hooked::config(ctx.env);
    // Shorter than 33, or too large for an Area: 32. Otherwise exactly the kernel's.
    let long = size > 32 && size <= 64 && align <= Area::ALIGN;
    let length = if long { size as u32 } else { LEGACY_LENGTH };
    assert_eq!(config.length(), length);
    begin(config);
    assert_eq!(RSEQ.length(), length);
    assert_eq!(RSEQ.feature_size() as usize, size.min(64));
    passed!("feature size {size}, align {align}, length {length}");
}

/// Reports the end of the broken variants.
fn passed_by_end(facts: &Facts) {
    passed!(
        "{}",
        match (witness::kills_for_stores(facts), facts.strict) {
            (true, true) => "killed, with length 32 too",
            (true, false) => "killed, and repaired with length 32",
            (false, _) => "repaired",
        }
    );
}

/// The broken variant: a program that stores an id itself.
fn store(ctx: &Ctx<'_>) {
    const REPAIRED: i32 = 3;
    fn broken(config: Config, field: usize) {
        const BROKEN: u16 = 0x7777;
        let ids = witness::rseq_of(begin(config));
        let cpus = witness::cpus();
        match field {
            0 => ids.cpu_id.store(BROKEN.into(), Relaxed),
            1 => ids.cpu_id_start.store(BROKEN.into(), Relaxed),
            2 => ids.node_id.store(BROKEN.into(), Relaxed),
            _ => ids.mm_cid.store(BROKEN.into(), Relaxed),
        }
        fence(Release);
        witness::migrate(cpus);
        let now = [
            ids.cpu_id.load(Relaxed) as u32,
            ids.cpu_id_start.load(Relaxed),
            ids.node_id.load(Relaxed),
            ids.mm_cid.load(Relaxed),
        ];
        // Fields beyond the feature size are unused, so they do not change.
        let known = match RSEQ.feature_size() {
            ..24 => 2,
            24..28 => 3,
            _ => 4,
        };
        if !now[..known].contains(&BROKEN.into()) {
            exit_group(REPAIRED);
        }
    }
    let config = hooked::config(ctx.env);
    for field in 0..4 {
        let status = forked(|| broken(config.legacy_length(), field)).unwrap();
        let expected = witness::end_with_length_32(ctx.facts, REPAIRED);
        assert_eq!(status, expected, "length 32, field {field}");
        if witness::kills_for_stores(ctx.facts) {
            must_die(SIGSEGV as i32, || broken(config, field));
        } else {
            let status = forked(|| broken(config, field)).unwrap();
            assert_eq!(status, Status::Exited(REPAIRED), "field {field}");
        }
    }
    passed_by_end(ctx.facts);
}

/// Every [`Area`] has the alignment that its length requires, wherever it lies.
fn alignment(ctx: &Ctx<'_>) {
    // Behind one byte, and in an array.
    #[repr(C)]
    struct Packed(u8, Area, u8, [Area; 2]);
    let packed = Packed(0, Area::new(), 0, [const { Area::new() }; 2]);
    let config = hooked::config(ctx.env);
    assert_eq!(RSEQ.init(config), Ok(None));
    for area in [&packed.1, &packed.3[0], &packed.3[1]] {
        let scoped = RSEQ.scope(area).unwrap();
        assert_eq!(scoped.thread().state(), OURS, "an area in a structure");
        scoped.end().unwrap();
    }
    assert_eq!(RSEQ.length(), config.length());
}

/// Two processes at once, each with its own length.
fn both(ctx: &Ctx<'_>) {
    fn live(config: Config, here: &AtomicU32, there: &AtomicU32, rounds: u64) {
        let area = begin(config);
        assert_eq!(RSEQ.length(), config.length());
        // Both are registered before either goes on.
        here.store(1, Release);
        sched::wait_until(|| there.load(Acquire) != 0);
        for _ in 0..rounds {
            joined_at_once::<2>(STACK, look, 0);
            right_everywhere(area);
        }
        assert!(witness::kernel_knows(area));
    }
    let config = hooked::config(ctx.env);
    let legacy = config.legacy_length();
    let page: *const [AtomicU32; 2] = mm::map_shared(mm::page_size()).unwrap().cast();
    // SAFETY: zeroed, never unmapped.
    let [ours, theirs] = unsafe { &*page };
    let rounds = ctx.scale(300, 20, 0);
    // SAFETY: (1) no other thread yet.
    let pid = unsafe { process::fork() }.unwrap();
    if pid == 0 {
        live(legacy, theirs, ours, rounds);
        exit_group(0);
    }
    live(config, ours, theirs, rounds);
    assert_eq!(wait(pid), Ok(Status::Exited(0)), "the other process");
    passed!("lengths {} and {}", config.length(), legacy.length());
}
