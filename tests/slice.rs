//! The time-slice extension: each possible end of a request, and no calls where it is absent.

use std::sync::atomic::Ordering::Relaxed;

use crate::fake::generation::{ALL, LINUX_6_3, LINUX_7_0, LINUX_7_1, LINUX_7_1_NO_SLICE};
use crate::fake::{
    Answer, Answers, Call, Filter, Foreign, Generation, Hooks as _, Machine, PLAIN, as_is, rseq_of,
    run,
};
use rseq_rt::abi::{Rseq, SLICE_GRANTED, SLICE_REQUEST};
use rseq_rt::{Area, Config, Errno, Error, Lent, Process, SliceEnd};

fn with_area(
    generation: Generation,
    answers: Answers,
    configure: fn(Config) -> Config,
    test: impl FnOnce(&Machine, &Area),
) {
    run(generation, answers, configure, |machine, process, areas| {
        let _ = process.ensure(&areas[0]);
        test(machine, &areas[0]);
    });
}

fn wished(config: Config) -> Config {
    config.slice_extension()
}

/// The kernel wants the CPU and grants the request; `revoke` withdraws the grant.
fn interrupt(area: &Area, revoke: bool) {
    let granted = if revoke { 0 } else { SLICE_GRANTED };
    let control = &rseq_of(area).slice_ctrl;
    let _ = control.compare_exchange(SLICE_REQUEST, granted, Relaxed, Relaxed);
}

#[test]
fn armed_where_the_kernel_has_it() {
    for generation in ALL {
        with_area(generation, PLAIN, wished, |_, area| {
            let has = generation.has_slice && generation.auxv.is_some_and(|(size, _)| size <= 64);
            assert_eq!(area.has_slice_extension(), has, "{}", generation.name);
        });
    }
}

#[test]
fn off_without_a_wish_or_with_the_legacy_length() {
    let unwished: [fn(Config) -> Config; 3] = [
        as_is,
        |config| config.slice_extension().legacy_length(),
        |config| config.slice_extension().disabled(),
    ];
    for configure in unwished {
        with_area(LINUX_7_1, PLAIN, configure, |machine, area| {
            assert!(!area.has_slice_extension());
            let request = area.request_slice();
            assert_eq!(rseq_of(area).slice_ctrl.load(Relaxed), 0);
            assert_eq!(area.yield_slice_on(&machine, request), SliceEnd::Off);
            assert_eq!(machine.slice_yields.get(), 0);
        });
    }
    with_area(LINUX_6_3, PLAIN, wished, |machine, area| {
        let request = area.request_slice();
        assert_eq!(area.yield_slice_on(&machine, request), SliceEnd::Off);
    });
}

#[test]
fn every_end() {
    for generation in [LINUX_7_0, LINUX_7_1] {
        with_area(generation, PLAIN, wished, |machine, area| {
            let control = &rseq_of(area).slice_ctrl;
            let request = area.request_slice();
            assert_eq!(control.load(Relaxed), SLICE_REQUEST);
            let end = area.yield_slice_on(&machine, request);
            assert_eq!((end, control.load(Relaxed)), (SliceEnd::NotNeeded, 0));
            assert_eq!(machine.slice_yields.get(), 0, "no call for nothing");

            for (in_time, end) in [(true, SliceEnd::Yielded), (false, SliceEnd::Revoked)] {
                machine.slice_in_time.set(in_time);
                let request = area.request_slice();
                interrupt(area, false);
                assert_eq!(area.yield_slice_on(&machine, request), end);
                control.store(0, Relaxed);
            }
            assert_eq!(machine.slice_yields.get(), 2);

            let request = area.request_slice();
            interrupt(area, true);
            assert_eq!(area.yield_slice_on(&machine, request), SliceEnd::Revoked);
            assert_eq!(machine.slice_yields.get(), 2);
        });
    }
}

/// A request within a request, before a grant and during one: the kernel's checker kills for the latter.
#[test]
fn requests_nest() {
    with_area(LINUX_7_1, PLAIN, wished, |machine, area| {
        let control = &rseq_of(area).slice_ctrl;
        for granted in [false, true] {
            let outer = area.request_slice();
            if granted {
                interrupt(area, false);
            }
            let before = control.load(Relaxed);
            let inner = area.request_slice();
            assert_eq!(control.load(Relaxed), before, "request and grant at once");
            assert_eq!(area.yield_slice_on(&machine, inner), SliceEnd::Nested);
            assert_eq!(control.load(Relaxed), before, "the outer one stands");
            let expected = [SliceEnd::NotNeeded, SliceEnd::Yielded][usize::from(granted)];
            assert_eq!(area.yield_slice_on(&machine, outer), expected);
        }
    });
}

#[test]
fn a_filter_on_the_yield() {
    let answers = Answers::refusing(Call::SliceYield, 1, Errno::PERM);
    with_area(LINUX_7_1, answers, wished, |machine, area| {
        let request = area.request_slice();
        interrupt(area, false);
        assert_eq!(area.yield_slice_on(&machine, request), SliceEnd::Revoked);
    });
}

/// The kernel forgets the setting at unregistration: a recycled area enables it anew.
#[test]
fn armed_again_by_the_next_create() {
    run(LINUX_7_1, PLAIN, wished, |_, process, areas| {
        for _ in 0..2 {
            let scope = process.scope(&areas[0]).expect("a new area");
            assert!(areas[0].has_slice_extension());
            assert_eq!(scope.end(), Ok(()));
            assert!(!areas[0].has_slice_extension());
        }
    });
}

const NOT_HERE: Error = Error::Unavailable(Errno::NOSYS);

fn set(process: &Process<&Machine>, area: &Area, on: bool) -> Result<(), Error> {
    // SAFETY: set_slice_extension (1): the area of the thread that the machine is on.
    unsafe { process.set_slice_extension(area, on) }
}

fn get(process: &Process<&Machine>, area: &Area) -> Result<bool, Error> {
    // SAFETY: slice_extension (1) likewise.
    unsafe { process.slice_extension(area) }
}

fn of_libc(length: u32) -> Answers {
    Answers {
        foreign_length: length,
        ..Answers::with_foreign(Foreign::Visible)
    }
}

/// The created first thread, and its area in the kernel.
fn created(
    generation: Generation,
    answers: Answers,
    configure: fn(Config) -> Config,
    test: impl FnOnce(&Machine, &Process<&Machine>, &Area, &Rseq),
) {
    run(generation, answers, configure, |machine, process, areas| {
        let area = &areas[0];
        assert_eq!(set(process, area, true), Err(Error::NotCreated));
        let _ = process.ensure(area);
        let rseq = match machine.task(0).registration {
            // SAFETY: the libc's, in the machine, or the area itself.
            Some(registration) => unsafe { &*registration.area },
            None => rseq_of(area),
        };
        test(machine, process, area, rseq);
    });
}

/// In an area of 33 bytes, this runtime's or a libc's: on, used, and off again, only by that area's control word.
#[test]
fn switched_by_the_thread_whoever_registered_it() {
    for answers in [PLAIN, of_libc(33)] {
        let unwished = as_is;
        created(
            LINUX_7_1,
            answers,
            unwished,
            |machine, process, area, rseq| {
                // SAFETY: Process::slice (1) the one thread's area, (2) used at once.
                let slice = || unsafe { process.slice(area) };
                assert!(slice().is_none());
                for _ in 0..2 {
                    assert_eq!(get(process, area), Ok(false));
                    assert_eq!(set(process, area, true), Ok(()));
                    assert_eq!(get(process, area), Ok(true));
                    let on = slice().expect("it is on");
                    assert_eq!(on.as_control(), &raw const rseq.slice_ctrl);
                    let is_own = std::ptr::eq(rseq, rseq_of(area));
                    assert_eq!(area.has_slice_extension(), is_own);

                    let outer = on.request();
                    assert_eq!(rseq.slice_ctrl.load(Relaxed), SLICE_REQUEST);
                    let inner = on.request();
                    assert_eq!(on.end_on(&machine, inner), SliceEnd::Nested);
                    assert_eq!(rseq.slice_ctrl.load(Relaxed), SLICE_REQUEST);
                    rseq.slice_ctrl.store(SLICE_GRANTED, Relaxed);
                    let inner = on.request();
                    assert_eq!(rseq.slice_ctrl.load(Relaxed), SLICE_GRANTED);
                    assert_eq!(on.end_on(&machine, inner), SliceEnd::Nested);
                    assert_eq!(on.end_on(&machine, outer), SliceEnd::Yielded);
                    rseq.slice_ctrl.store(0, Relaxed);
                    let request = on.request();
                    assert_eq!(on.end_on(&machine, request), SliceEnd::NotNeeded);
                    assert_eq!(rseq.slice_ctrl.load(Relaxed), 0);

                    // SAFETY: Lent::of (1) the one thread's area.
                    let lent = unsafe { Lent::of(area) };
                    assert!(slice().is_none());
                    assert_eq!(set(process, area, false), Err(Error::Lent));
                    lent.end();
                    assert!(slice().is_some());
                    assert_eq!(set(process, area, false), Ok(()));
                    assert!(slice().is_none() && !area.has_slice_extension());
                }
            },
        );
    }
}

/// Elsewhere the kernel is asked for nothing that could be refused, and nothing changes.
#[test]
fn not_here() {
    type Case = (Generation, Answers, fn(Config) -> Config, u32);
    let plain: fn(Config) -> Config = as_is;
    // Prctls: where the registration has no room, the kernel is not asked.
    let cases: [Case; 7] = [
        (LINUX_6_3, PLAIN, plain, 0),
        (LINUX_7_1, PLAIN, |config| config.legacy_length(), 0),
        (LINUX_7_1, PLAIN, |config| config.disabled(), 0),
        (LINUX_7_1, of_libc(32), plain, 0),
        (LINUX_7_1, Answers::with_foreign(Foreign::Hidden), plain, 0),
        (LINUX_7_1_NO_SLICE, PLAIN, plain, 2),
        (LINUX_7_1_NO_SLICE, of_libc(33), plain, 2),
    ];
    for (generation, answers, configure, prctls) in cases {
        created(
            generation,
            answers,
            configure,
            |machine, process, area, rseq| {
                let flags = rseq.flags.load(Relaxed);
                assert_eq!(set(process, area, true), Err(NOT_HERE));
                assert_eq!(get(process, area), Err(NOT_HERE));
                assert_eq!(machine.count(Call::SlicePrctl), prctls);
                // SAFETY: Process::slice (1) the one thread's area, (2) not used.
                assert!(unsafe { process.slice(area) }.is_none());
                assert_eq!(rseq.flags.load(Relaxed), flags);
                assert_eq!(rseq.slice_ctrl.load(Relaxed), 0);
            },
        );
    }
}

/// A filter's refusal is passed on, and its pretended success does not count.
#[test]
fn a_filter_on_the_switch() {
    for (answer, expected) in [
        (Answer::Refuse(Errno::PERM), Error::Unavailable(Errno::PERM)),
        (Answer::Pretend, NOT_HERE),
    ] {
        let answers = Answers {
            filter: Some(Filter {
                call: Call::SlicePrctl,
                from: 1,
                answer,
            }),
            ..of_libc(33)
        };
        created(LINUX_7_1, answers, as_is, |_, process, area, _| {
            assert_eq!(set(process, area, true), Err(expected));
            // SAFETY: Process::slice (1) the one thread's area, (2) used for nothing.
            assert!(unsafe { process.slice(area) }.is_none());
        });
    }
}
