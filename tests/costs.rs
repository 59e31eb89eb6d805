//! C9 as documented: the system calls of each hook, one line each.

use crate::fake::generation::{LINUX_4_18, LINUX_7_1};
use crate::fake::{self, Answers, Call, Foreign, Hooks as _, Machine, PLAIN, as_is, config, run};
use rseq_rt::{Area, Config, Errno, ExitMode, Process, SignalMask, Thread};

fn mask_and_rseq(machine: &Machine, hook: impl FnOnce()) -> (u32, u32) {
    let count = || (machine.count(Call::Mask), machine.count(Call::Rseq));
    let before = count();
    let all_before: u32 = machine.counts().iter().sum();
    hook();
    let (mask, rseq) = (count().0 - before.0, count().1 - before.1);
    let all: u32 = machine.counts().iter().sum();
    assert_eq!(all - all_before, mask + rseq, "a call of another kind");
    (mask, rseq)
}

fn create<'a>(process: &'a Process<&'a Machine>, area: &'a Area) -> Thread<'a, &'a Machine> {
    process.create(area).expect("a new area")
}

#[derive(Debug, Default, PartialEq)]
struct Costs {
    create: (u32, u32),
    create_masked: (u32, u32),
    again: (u32, u32),
    keep: (u32, u32),
    release: (u32, u32),
}

/// The costs of the second and later threads, or of all where the owner is known before the first.
fn costs(generation: fake::Generation, answers: Answers, configure: fn(Config) -> Config) -> Costs {
    run(generation, answers, configure, |machine, process, areas| {
        let [first, second] = areas;
        let mut costs = Costs::default();
        // Whoever comes first finds out; that is not what is counted.
        drop(create(process, first).on_exit(ExitMode::Release));
        // SAFETY: recycle (1): the thread of `first` has ended for the test.
        unsafe { rseq_rt::Reclaimed::in_fork_child().recycle(first) };
        machine.spawn(0, 0);

        costs.create = mask_and_rseq(machine, || drop(create(process, first)));
        // SAFETY: ensure_registered (1, 2), as in `create`.
        costs.again = mask_and_rseq(machine, || unsafe {
            process.ensure_registered(first).expect("initialized");
        });
        let thread = process.thread_of(first).expect("created");
        costs.keep = mask_and_rseq(machine, || drop(thread.on_exit(ExitMode::Keep)));

        machine.switch_to(1);
        // SAFETY: assume_blocked (1): the fake task's mask is set as well.
        let mask = unsafe { SignalMask::assume_blocked(0) };
        machine.update(1, |task| task.mask = fake::task::ALL_BUT_SIGSYS);
        costs.create_masked = mask_and_rseq(machine, || {
            drop(process.create_masked(second, &mask));
        });
        let thread = process.thread_of(second).expect("created");
        costs.release = mask_and_rseq(machine, || drop(thread.on_exit(ExitMode::Release)));
        costs
    })
}

#[test]
fn of_the_owner() {
    for configure in [
        as_is as fn(Config) -> Config,
        |config| config.legacy_length(),
        |config| config.slice_extension(),
    ] {
        for generation in [LINUX_4_18, LINUX_7_1] {
            let expected = Costs {
                create: (2, 1),
                create_masked: (0, 1),
                keep: (1, 0),
                release: (1, 1),
                ..Costs::default()
            };
            assert_eq!(costs(generation, PLAIN, configure), expected);
        }
    }
}

#[test]
fn under_a_foreign_owner() {
    let visible = Costs {
        release: (1, 0),
        ..Costs::default()
    };
    // Each thread asks for itself, with both lengths: a taken thread says nothing about the next.
    let hidden = Costs {
        create: (2, 2),
        create_masked: (0, 2),
        keep: (1, 0),
        release: (1, 0),
        ..Costs::default()
    };
    for (foreign, expected) in [(Foreign::Visible, visible), (Foreign::Hidden, hidden)] {
        let answers = Answers::with_foreign(foreign);
        assert_eq!(costs(LINUX_7_1, answers, as_is), expected);
    }
}

#[test]
fn where_nobody_owns() {
    let masks_only = Costs {
        keep: (1, 0),
        release: (1, 0),
        ..Costs::default()
    };
    let refused = Answers::refusing(Call::Rseq, 1, Errno::NOSYS);
    assert_eq!(costs(LINUX_7_1, refused, as_is), masks_only);
    assert_eq!(
        costs(LINUX_7_1, PLAIN, |config| config.disabled()),
        masks_only
    );
}

/// The first registration requests the extension, then the length without it, then 32.
#[test]
fn of_the_first_thread_at_worst() {
    let answers = Answers {
        only_32: true,
        ..PLAIN
    };
    let slice = |config: Config| config.slice_extension();
    run(LINUX_7_1, answers, slice, |machine, process, areas| {
        let first = mask_and_rseq(machine, || drop(create(process, &areas[0])));
        assert_eq!(first, (2, 3));
        machine.switch_to(1);
        let second = mask_and_rseq(machine, || drop(create(process, &areas[1])));
        assert_eq!(
            second,
            (2, 1),
            "what the first found out is not asked again"
        );
    });
}

#[test]
fn init_is_free() {
    let machine = Machine::new(LINUX_7_1, PLAIN);
    machine.boot(0);
    let process = Process::with_kernel(&machine);
    let spent = mask_and_rseq(&machine, || {
        process.init(config(LINUX_7_1)).expect("the first init");
    });
    assert_eq!(spent, (0, 0));
}
