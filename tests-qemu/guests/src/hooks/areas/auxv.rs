//! Configurations from a nonsensical auxv, or from a later kernel's, on a real kernel.

use rseq_rt::{Claim, Config, Owner, Reason, Thread};

use crate::harness::{Ctx, must_pass, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{detached, is_ours, joined, main_thread_with, right_everywhere};
use crate::hooks::filtered::{STACK, runs_on};

fn moves(thread: &Thread<'_>, _: &Hooked) {
    assert!(is_ours(thread.state()));
    right_everywhere(thread.area());
}

/// Main and later threads are registered with one of these lengths, read correct ids, and exit in both ways.
#[track_caller]
fn registers(config: Config, lengths: &[u32]) {
    must_pass(|| {
        let main = main_thread_with(config.claim(Claim::Runtime));
        assert!(is_ours(main.state()), "{config:?}");
        let length = RSEQ.length();
        assert!(lengths.contains(&length), "{config:?}: {length}");
        assert!(RSEQ.feature_size() <= length, "{config:?}");
        for _ in 0..3 {
            joined(STACK, moves, 0);
            detached(STACK, moves, 0);
        }
        assert_eq!(RSEQ.length(), length, "{config:?}");
    });
}

pub fn absurd_auxv(_: &Ctx) {
    const MAX: usize = usize::MAX;
    let absurd = [
        (None, None),
        (None, Some(64)),
        (None, Some(MAX)),
        (Some(0), Some(0)),
        (Some(19), Some(32)),
        (Some(20), None),
        (Some(28), Some(32)),
        (Some(32), Some(64)),
        (Some(33), Some(0)),
        (Some(33), Some(3)),
        (Some(33), Some(128)),
        (Some(33), Some(MAX)),
        (Some(65), Some(64)),
        (Some(200), Some(256)),
        (Some(65_535), Some(64)),
        (Some(65_536 + 33), Some(64)),
        (Some((1 << 32) + 33), Some(64)),
        (Some(MAX), Some(64)),
    ];
    for (feature_size, align) in absurd {
        registers(Config::new(feature_size, align), &[32]);
    }
    // The last entry of a type counts.
    let entries = [
        (27, 33),
        (28, 64),
        (27, 0),
        (1 << 32 | 27, 33),
        (0, 0),
        (27, 33),
    ];
    registers(Config::from_entries(entries), &[32]);
}

/// The auxv of a later kernel, on this one: it takes the length, or the hooks fall back to 32.
pub fn future_auxv(ctx: &Ctx) {
    // 4.18 to 6.2.
    let only_32 = ctx.facts.feature_size < 24;
    for length in [33, 40, 48, 64] {
        let expected = if only_32 { 32 } else { length };
        registers(Config::new(Some(length as usize), Some(64)), &[expected]);
    }
    registers(Config::new(Some(200), Some(64)), &[32]);
    registers(Config::new(Some(48), Some(128)), &[32]);
    match only_32 {
        true => passed!("it takes 32 only, and got it"),
        false => passed!("it takes 33 to 64, believing or not; 200 became 32"),
    }
}

pub fn legacy_policy(ctx: &Ctx) {
    registers(hooked::config(ctx.env).legacy_length(), &[32]);
    registers(Config::new(Some(48), Some(64)).legacy_length(), &[32]);
}

pub fn disabled_policy(ctx: &Ctx) {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        runs_on(thread.area(), Reason::Disabled, None);
    }
    let init = RSEQ.init(hooked::config(ctx.env).disabled());
    assert_eq!(init, Ok(Some(Owner::Nobody)));
    // SAFETY: (1) once in this process, on its main thread.
    let main = unsafe { hooked::adopt_main() }.unwrap();
    runs_on(main.area(), Reason::Disabled, None);
    joined(STACK, body, 0);
    detached(STACK, body, 0);
    assert_eq!(RSEQ.reason(), Some(Reason::Disabled));
}
