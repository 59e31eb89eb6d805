//! Wide walks: every effect that a filter, a tool or a libc can have between the program and the kernel, from the start
//! and from the middle of a life.

use rseq_rt::{Claim, Config, Errno};

use super::deep::MASKS;
use super::walk::walk;
use super::world::Scenario;
use crate::fake::generation::{LINUX_4_18, LINUX_6_3, LINUX_6_14_DEBUG, LINUX_7_1};
use crate::fake::{Answers, Call, Foreign, Generation, PLAIN, as_is, config};

const GENERATIONS: [Generation; 4] = [LINUX_4_18, LINUX_6_3, LINUX_6_14_DEBUG, LINUX_7_1];

const REFUSALS: [Errno; 6] = [
    Errno::NOSYS,
    Errno::PERM,
    Errno::ACCES,
    Errno::INVAL,
    Errno::FAULT,
    Errno::AGAIN,
];

fn walk_wide(answers: impl IntoIterator<Item = Answers>, configs: &[fn(Config) -> Config]) {
    for answers in answers {
        for generation in GENERATIONS {
            for configure in configs {
                for (mask, signals) in [(MASKS[0], true), (MASKS[1], false), (MASKS[2], false)] {
                    // Miri has time for only one of the twelve.
                    if cfg!(miri) && (generation != LINUX_7_1 || mask != MASKS[1]) {
                        continue;
                    }
                    let scenario = Scenario {
                        generation,
                        answers,
                        config: configure(config(generation)),
                        mask,
                        signals,
                    };
                    walk(&scenario, 4);
                }
            }
        }
    }
}

const WISHES: [fn(Config) -> Config; 2] = [as_is, |config| config.slice_extension()];

#[test]
fn filters_on_rseq() {
    let from_call = [1, 2, 3, 4];
    walk_wide(
        from_call
            .into_iter()
            .flat_map(|from| REFUSALS.map(|errno| Answers::refusing(Call::Rseq, from, errno))),
        &WISHES[..1],
    );
}

#[test]
fn filters_on_rseq_with_slice_extension() {
    let from_call = [1, 2, 3];
    walk_wide(
        from_call.map(|from| Answers::refusing(Call::Rseq, from, Errno::INVAL)),
        &WISHES[1..],
    );
}

#[test]
fn pretenders() {
    walk_wide([1, 2, 3].map(Answers::pretending), &WISHES);
}

#[test]
fn filters_on_the_mask() {
    walk_wide(
        (1..=6).map(|from| Answers::refusing(Call::Mask, from, Errno::PERM)),
        &WISHES[..1],
    );
}

#[test]
fn filters_on_getcpu() {
    walk_wide(
        [1, 3].map(|from| Answers::refusing(Call::Getcpu, from, Errno::NOSYS)),
        &WISHES[..1],
    );
}

#[test]
fn tools_that_take_only_32() {
    let answers = Answers {
        only_32: true,
        ..PLAIN
    };
    walk_wide([answers], &WISHES);
}

#[test]
fn foreign_owners() {
    let claims: [fn(Config) -> Config; 3] = [
        as_is,
        |config| config.claim(Claim::Libc),
        |config| config.claim(Claim::Runtime),
    ];
    let foreign = [
        Foreign::Visible,
        Foreign::Hidden,
        Foreign::HiddenOnSecond,
        Foreign::Off,
        Foreign::VisibleNotOnSecond,
    ];
    walk_wide(foreign.map(Answers::with_foreign), &claims);
}
