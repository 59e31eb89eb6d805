//! The time-slice extension: each way a request can end, and silence where there is none.

use std::sync::atomic::Ordering::Relaxed;

use crate::fake::generation::{ALL, LINUX_6_3, LINUX_7_0, LINUX_7_1};
use crate::fake::{Answers, Call, Generation, Machine, PLAIN, rseq_of, run};
use rseq_rt::abi::{SLICE_GRANTED, SLICE_REQUEST};
use rseq_rt::{Area, Config, Errno, SliceEnd};

fn with_area(
    generation: Generation,
    answers: Answers,
    configure: fn(Config) -> Config,
    test: impl FnOnce(&Machine, &Area),
) {
    run(generation, answers, configure, |machine, process, areas| {
        // SAFETY: ensure_registered (1, 2): the area outlives the machine's use of it.
        let _ = unsafe { process.ensure_registered(&areas[0]) };
        test(machine, &areas[0]);
    });
}

fn wished(config: Config) -> Config {
    config.slice_extension()
}

/// The kernel wants the CPU and grants the request; `revoke` takes the grant back.
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
        |config| config,
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

/// A request within a request, before a grant and while one is out: the kernel's checker kills for the latter.
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

/// The kernel forgets the wish at unregistration: a recycled area is armed anew.
#[test]
fn armed_again_by_the_next_create() {
    run(LINUX_7_1, PLAIN, wished, |_, process, areas| {
        for _ in 0..2 {
            // SAFETY: scoped (1, 2, 3): the area outlives the machine's use of it.
            let scope = unsafe { process.scoped(&areas[0]) }.expect("a new area");
            assert!(areas[0].has_slice_extension());
            assert_eq!(scope.end(), Ok(()));
            assert!(!areas[0].has_slice_extension());
        }
    });
}
