//! Deep walks: every kernel without filters, every starting mask, with and without signals.

use rseq_rt::{Claim, Config};

use super::walk::walk;
use super::world::Scenario;
use crate::fake::generation::{ALL, LATER_48, LINUX_6_3, LINUX_7_0, LINUX_7_1};
use crate::fake::{Generation, PLAIN, as_is, config};

/// No signal blocked, some (SIGHUP and one of the libc's own), all.
pub const MASKS: [u64; 3] = [0, 1 | 1 << 32, u64::MAX];

fn walk_on(generations: impl IntoIterator<Item = Generation>, configure: fn(Config) -> Config) {
    for generation in generations {
        walk_one(generation, configure);
    }
}

fn walk_one(generation: Generation, configure: fn(Config) -> Config) {
    for (mask, signals) in [(MASKS[0], true), (MASKS[1], false), (MASKS[2], false)] {
        let scenario = Scenario {
            generation,
            answers: PLAIN,
            config: configure(config(generation)),
            mask,
            signals,
        };
        let states = walk(&scenario, 6);
        assert!(cfg!(miri) || states > 100, "{states} states only");
    }
}

#[test]
fn lengths_of_auxv() {
    walk_on(ALL, as_is);
}

#[test]
fn legacy_length() {
    walk_on([LINUX_6_3, LINUX_7_1], |config| config.legacy_length());
}

#[test]
fn slice_extension() {
    walk_on([LINUX_6_3, LINUX_7_0, LATER_48], |config| {
        config.slice_extension()
    });
}

#[test]
fn claimed_by_the_runtime() {
    walk_on([LINUX_7_1], |config| config.claim(Claim::Runtime));
}

#[test]
fn disabled() {
    walk_on([LINUX_7_1], |config| config.disabled());
}
