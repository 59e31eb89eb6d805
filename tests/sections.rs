//! Permission to run critical sections, in every state of a thread, and the cost of the query.

use crate::fake::generation::{LINUX_4_18, LINUX_6_3, LINUX_7_1};
use crate::fake::{Answers, Call, Foreign, Generation, Hooks as _, Machine, PLAIN, as_is, run};
use rseq_rt::percpu::{CpuId, Index, MmCid, SectionSupport};
use rseq_rt::{Area, Config, Errno, Exit, ExitMode, Process};

fn may<I: Index>(process: &Process<&Machine>, area: &Area) -> bool {
    // SAFETY: Process::current (1) the area of the thread that the machine is on; (2) not used.
    unsafe { process.current::<I>(area) }.is_some()
}

fn both(process: &Process<&Machine>, area: &Area) -> (bool, bool) {
    (may::<CpuId>(process, area), may::<MmCid>(process, area))
}

/// A life of the first thread: whether it may run sections at each stage.
fn life(generation: Generation, configure: fn(Config) -> Config, expected: (bool, bool)) {
    const NO: (bool, bool) = (false, false);
    run(
        generation,
        PLAIN,
        configure,
        |machine, process, [area, _]| {
            assert_eq!(both(process, area), NO, "unregistered");
            let thread = process.create(area).expect("a new area");
            assert_eq!(both(process, area), NO, "nobody has asked for sections");
            let sections = process.allow_sections();
            let asked = machine.count(Call::Uname);
            assert_eq!(
                (process.allow_sections(), machine.count(Call::Uname)),
                (sections, asked)
            );
            assert_eq!(both(process, area), expected, "{}", generation.name);
            // SAFETY: Thread::current (1): not used.
            assert_eq!(unsafe { thread.current::<CpuId>() }.is_some(), expected.0);
            let lent = thread.lend();
            assert_eq!(both(process, area), NO, "lent");
            lent.end();
            assert_eq!(both(process, area), expected, "after the loan");
            let exit = thread.on_exit(ExitMode::Release);
            assert!(matches!(exit, Exit::Released(_)));
            assert_eq!(both(process, area), NO, "exiting");
        },
    );
}

/// On aarch64 the fake machine must report a trusted version.
const TRUSTED: bool = !cfg!(target_arch = "aarch64");

#[test]
fn every_station_of_a_life() {
    life(LINUX_4_18, as_is, (TRUSTED, false));
    life(LINUX_6_3, as_is, (TRUSTED, TRUSTED));
    life(LINUX_7_1, as_is, (TRUSTED, TRUSTED));
    life(LINUX_7_1, Config::legacy_length, (TRUSTED, TRUSTED));
    life(LINUX_7_1, Config::disabled, (false, false));
}

#[test]
fn a_thread_without_rseq_may_not() {
    for answers in [
        Answers::refusing(Call::Rseq, 1, Errno::NOSYS),
        Answers::refusing(Call::Rseq, 1, Errno::PERM),
        Answers::pretending(1),
        Answers::with_foreign(Foreign::Hidden),
    ] {
        run(LINUX_7_1, answers, as_is, |_, process, [area, _]| {
            process.allow_sections();
            let thread = process.create(area).expect("a new area");
            assert_eq!(both(process, area), (false, false), "{answers:?}");
            let _kept = thread.on_exit(ExitMode::Keep);
        });
    }
}

#[test]
fn a_thread_of_a_visible_libc_may() {
    let answers = Answers::with_foreign(Foreign::Visible);
    run(LINUX_7_1, answers, as_is, |_, process, [area, _]| {
        process.allow_sections();
        let thread = process.create(area).expect("a new area");
        assert_eq!(both(process, area).0, TRUSTED);
        let lent = thread.lend();
        assert_eq!(both(process, area), (false, false), "lent");
        lent.end();
        let _kept = thread.on_exit(ExitMode::Keep);
        assert_eq!(both(process, area), (false, false), "exiting");
    });
}

#[test]
fn asking_costs_a_call_where_a_kernel_is_known_bad() {
    run(LINUX_7_1, PLAIN, as_is, |machine, process, [area, _]| {
        let thread = process.create(area).expect("a new area");
        let count = || machine.counts().iter().sum::<u32>();
        let before = count();
        assert_eq!(process.section_support(), SectionSupport::NotAsked);
        let sections = process.allow_sections();
        let asked = count() - before;
        assert_eq!(asked, u32::from(cfg!(target_arch = "aarch64")));
        assert_eq!(process.section_support(), sections);
        both(process, area);
        assert_eq!(count() - before, asked, "a look is no call");
        let _kept = thread.on_exit(ExitMode::Keep);
    });
}
