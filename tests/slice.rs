//! The time-slice extension: each way a request can end, and silence where there is none.

mod fake;

use std::sync::atomic::Ordering::Relaxed;

use fake::generation::{ALL, LINUX_6_3, LINUX_7_0, LINUX_7_1};
use fake::{Answers, Call, Generation, Machine, PLAIN, rseq_of, run};
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
    let control = &rseq_of(area).slice_ctrl;
    if control.request.swap(0, Relaxed) != 0 {
        control.granted.store(u8::from(!revoke), Relaxed);
    }
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
            area.request_slice();
            assert_eq!(rseq_of(area).slice_ctrl.request.load(Relaxed), 0);
            assert_eq!(area.yield_slice_on(&machine), SliceEnd::Off);
            assert_eq!(machine.slice_yields.get(), 0);
        });
    }
    with_area(LINUX_6_3, PLAIN, wished, |machine, area| {
        assert_eq!(area.yield_slice_on(&machine), SliceEnd::Off);
    });
}

#[test]
fn every_end() {
    for generation in [LINUX_7_0, LINUX_7_1] {
        with_area(generation, PLAIN, wished, |machine, area| {
            area.request_slice();
            assert_eq!(rseq_of(area).slice_ctrl.request.load(Relaxed), 1);
            assert_eq!(area.yield_slice_on(&machine), SliceEnd::NotNeeded);
            assert_eq!(rseq_of(area).slice_ctrl.request.load(Relaxed), 0);
            assert_eq!(machine.slice_yields.get(), 0, "no call for nothing");

            area.request_slice();
            interrupt(area, false);
            assert_eq!(area.yield_slice_on(&machine), SliceEnd::Yielded);
            assert_eq!(machine.slice_yields.get(), 1);

            rseq_of(area).slice_ctrl.granted.store(0, Relaxed);
            area.request_slice();
            interrupt(area, true);
            assert_eq!(area.yield_slice_on(&machine), SliceEnd::Revoked);
            assert_eq!(machine.slice_yields.get(), 1);
        });
    }
}

#[test]
fn a_filter_on_the_yield() {
    let answers = Answers::refusing(Call::SliceYield, 1, Errno::PERM);
    with_area(LINUX_7_1, answers, wished, |machine, area| {
        area.request_slice();
        interrupt(area, false);
        assert_eq!(area.yield_slice_on(&machine), SliceEnd::Revoked);
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
