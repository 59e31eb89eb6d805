//! Each failure has its own value, and no thread dies of it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::fake::generation::{ALL, LINUX_4_18, LINUX_6_3, LINUX_7_1};
use crate::fake::{
    self, Answers, Call, Foreign, Generation, Hooks as _, Machine, Memory, PLAIN, as_is, run,
};
use rseq_rt::{
    Area, Claim, Config, Errno, Error, Exit, ExitMode, Kept, Lent, Owner, Process, Reason, State,
};

fn kept(exit: Exit<'_>) -> Kept<'_> {
    match exit {
        Exit::Released(_) => panic!("released, and still registered"),
        Exit::Kept(kept) => kept,
    }
}

fn ensure(process: &Process<&Machine>, area: &Area) -> State {
    process.ensure(area).expect("initialized")
}

#[test]
fn refused_from_the_start() {
    for (errno, reason, owner) in [
        (Errno::NOSYS, Reason::NoSyscall, Some(Owner::Nobody)),
        (Errno::PERM, Reason::Filtered, None),
        (Errno::ACCES, Reason::Filtered, None),
        (Errno::INVAL, Reason::Taken, None),
        (Errno::FAULT, Reason::BadMemory, None),
        (Errno::AGAIN, Reason::Refused, None),
    ] {
        for generation in ALL {
            let answers = Answers::refusing(Call::Rseq, 1, errno);
            run(generation, answers, as_is, |machine, process, areas| {
                assert_eq!(ensure(process, &areas[0]), State::Unavailable(reason));
                assert_eq!(areas[0].errno(), Some(errno));
                // Bad memory is not written to either.
                let marked = reason != Reason::BadMemory;
                assert_eq!(areas[0].cpu_id(), if marked { -2 } else { -1 });
                assert_eq!(process.owner(), owner);
                assert_eq!(process.length(), 0);
                assert_eq!(process.feature_size(), 0);
                assert_eq!(process.current_cpu(&areas[0]), Ok(machine.task(0).cpu));
                assert_eq!(process.current_mm_cid(&areas[0]), None);
                assert_eq!(process.reason(), owner.map(|_| reason));
            });
        }
    }
}

/// The owner stays; later threads report why they run without rseq.
#[test]
fn refused_from_the_middle() {
    for (errno, reason) in [
        (Errno::NOSYS, Reason::NoSyscall),
        (Errno::PERM, Reason::Filtered),
        (Errno::INVAL, Reason::Taken),
    ] {
        let answers = Answers::refusing(Call::Rseq, 2, errno);
        run(LINUX_7_1, answers, as_is, |machine, process, areas| {
            ensure(process, &areas[0]);
            machine.switch_to(1);
            assert_eq!(ensure(process, &areas[1]), State::Unavailable(reason));
            assert_eq!(process.owner(), Some(Owner::Runtime));
            machine.switch_to(0);
            let thread = process.thread_of(&areas[0]).expect("registered");
            let kept = kept(thread.on_exit(ExitMode::Release));
            assert_eq!(kept.why(), Some(Error::StillRegistered(errno)));
            assert_eq!(areas[0].errno(), Some(errno));
        });
    }
}

#[test]
fn pretended() {
    run(
        LINUX_7_1,
        Answers::pretending(1),
        as_is,
        |_, process, areas| {
            let state = ensure(process, &areas[0]);
            assert_eq!(state, State::Unavailable(Reason::Pretended));
            assert_eq!((areas[0].errno(), areas[0].cpu_id()), (None, -2));
            assert_eq!(process.reason(), None, "the thread's own affair");
        },
    );
}

#[test]
fn a_refused_mask_is_no_reason() {
    let answers = Answers::refusing(Call::Mask, 1, Errno::PERM);
    run(LINUX_7_1, answers, as_is, |machine, process, areas| {
        let state = ensure(process, &areas[0]);
        assert_eq!(state, State::Registered(Owner::Runtime));
        assert_eq!(machine.count(Call::Rseq), 1);
        let thread = process.thread_of(&areas[0]).expect("registered");
        let kept = kept(thread.on_exit(ExitMode::Release));
        let why = Error::NotMasked(Errno::PERM);
        assert_eq!(kept.why(), Some(why), "never with signals open");
    });
}

/// Memory that became bad after the create hook; kernels before 7.0 kill for read-only memory, without an error.
#[test]
fn bad_memory_is_one_threads_affair() {
    for (memory, generation) in [
        (Memory::Unmapped, LINUX_4_18),
        (Memory::Unmapped, LINUX_7_1),
        (Memory::ReadOnly, LINUX_7_1),
    ] {
        let answers = Answers { memory, ..PLAIN };
        run(generation, answers, as_is, |_, process, areas| {
            let state = ensure(process, &areas[0]);
            assert_eq!(state, State::Unavailable(Reason::BadMemory));
            assert_eq!(process.owner(), None);
        });
    }
}

#[test]
fn tools_that_take_only_32() {
    let answers = Answers {
        only_32: true,
        ..PLAIN
    };
    run(LINUX_7_1, answers, as_is, |machine, process, areas| {
        assert_eq!(
            ensure(process, &areas[0]),
            State::Registered(Owner::Runtime)
        );
        assert_eq!((process.length(), process.feature_size()), (32, 32));
        assert_eq!(
            process.current_mm_cid(&areas[0]),
            Some(0),
            "below 32, and valid"
        );
        assert_eq!(machine.count(Call::Rseq), 2);
    });
}

/// The name of each owner, and the values that can be read.
#[test]
fn foreign_owners() {
    let read = |answers, claim: fn(Config) -> Config| {
        run(LINUX_7_1, answers, claim, |machine, process, areas| {
            let state = ensure(process, &areas[0]);
            let calls = machine.count(Call::Getcpu);
            assert_eq!(process.current_cpu(&areas[0]), Ok(machine.task(0).cpu));
            let by_load = machine.count(Call::Getcpu) == calls;
            (process.owner(), state, process.feature_size(), by_load)
        })
    };
    let visible = Answers::with_foreign(Foreign::Visible);
    let hidden = Answers::with_foreign(Foreign::Hidden);
    let off = Answers::with_foreign(Foreign::Off);
    let libc = State::Registered(Owner::Libc);
    let taken = State::Unavailable(Reason::Taken);
    let ours = State::Registered(Owner::Runtime);
    assert_eq!(read(visible, as_is), (Some(Owner::Libc), libc, 32, true));
    assert_eq!(read(hidden, as_is), (None, taken, 0, false));
    assert_eq!(read(off, as_is), (Some(Owner::Runtime), ours, 33, true));
    assert_eq!(
        read(visible, |config| config.claim(Claim::Libc)),
        (Some(Owner::Libc), libc, 32, true)
    );
    // Its claim is believed as far as the kernel confirms it.
    assert_eq!(
        read(visible, |config| config.claim(Claim::Runtime)),
        (None, taken, 0, false)
    );
    assert_eq!(
        read(PLAIN, |config| config.claim(Claim::Libc)),
        (Some(Owner::Libc), taken, 0, false)
    );
}

/// A libc with a filter installed between its first and its second thread.
#[test]
fn foreign_thread_that_its_libc_did_not_register() {
    let answers = Answers::with_foreign(Foreign::VisibleNotOnSecond);
    run(LINUX_7_1, answers, as_is, |machine, process, areas| {
        machine.switch_to(1);
        ensure(process, &areas[1]);
        assert_eq!(process.current_cpu(&areas[1]), Ok(machine.task(1).cpu));
        assert_eq!(process.current_node(&areas[1]), Ok(machine.task(1).node()));
        assert_eq!(process.current_mm_cid(&areas[1]), None);
    });
}

/// The kernel knows the area from an earlier life, which the state word does not show.
#[test]
fn registered_already_by_a_forgotten_life() {
    for generation in [LINUX_4_18, LINUX_6_3, LINUX_7_1] {
        run_forgotten_life(generation);
    }
}

fn run_forgotten_life(generation: Generation) {
    let machine = Machine::new(generation, PLAIN);
    machine.boot(0);
    let area = Area::new();
    let forgotten = Process::with_kernel(&machine);
    let process = Process::with_kernel(&machine);
    for copy in [&forgotten, &process] {
        copy.init(fake::config(generation)).expect("the first init");
    }
    ensure(&forgotten, &area);
    forget(&area);
    assert_eq!(ensure(&process, &area), State::Registered(Owner::Runtime));
    assert_eq!(area.cpu_id(), machine.task(0).cpu as i32);
    if generation.lays_out() {
        assert_eq!(machine.violation(), None, "an id was stored to");
    }
}

#[test]
fn misuse() {
    let machine = Machine::new(LINUX_7_1, PLAIN);
    machine.boot(0);
    let process = Process::with_kernel(&machine);
    let area = Area::new();
    let create = || process.create(&area);
    let current = || process.thread_of(&area);
    assert_eq!(create().err(), Some(Error::NotInitialized));
    let ensured = process.ensure(&area);
    assert_eq!(ensured, Err(Error::NotInitialized));
    assert_eq!(current().err(), Some(Error::NotCreated));
    assert_eq!(process.init(fake::config(LINUX_7_1)), Ok(None));
    let again = process.init(fake::config(LINUX_7_1).disabled());
    assert_eq!(again, Err(Error::AlreadyInitialized));
    assert_eq!(current().err(), Some(Error::NotCreated));
    let thread = create().expect("a new area");
    assert_eq!(create().err(), Some(Error::AlreadyCreated));
    let loan = thread.lend();
    assert_eq!(create().err(), Some(Error::Lent));
    assert_eq!(current().err(), Some(Error::Lent));
    // As an interface without types passes it: only the number of this very loan ends it, and only once.
    let raw = loan.into_raw();
    // SAFETY: Lent::from_raw (1, 2): there is no child.
    let ended = |raw| unsafe { Lent::from_raw(&area, raw) }.map(Lent::end);
    for wrong in (1..=u8::MAX).filter(|wrong| *wrong != raw) {
        assert_eq!(ended(wrong), None, "{wrong:#x}");
    }
    assert_eq!(area.state(), State::Lent);
    assert_eq!(ended(raw), Some(()));
    assert_eq!((ended(raw), area.state()), (None, thread.state()));
    let _kept = thread.on_exit(ExitMode::Keep);
    assert_eq!(create().err(), Some(Error::Exiting));
    assert_eq!(current().err(), Some(Error::Exiting));
    let ensured = process.ensure(&area);
    assert_eq!(ensured, Ok(State::Exiting));
    assert_eq!(
        (machine.count(Call::Rseq), machine.count(Call::Mask)),
        (1, 3)
    );
}

/// A TCB zeroed by hand under a live registration, and a late filter.
#[test]
fn what_cannot_be_unregistered_is_not_released() {
    let answers = Answers::refusing(Call::Rseq, 3, Errno::PERM);
    let program = |machine: &Machine, process: &Process<&Machine>, [area, _]: &[Area; 2]| {
        let create = || process.create(area).expect("a new area");
        let _first = create();
        forget(area);
        let thread = create();
        // Neither an unconfirmed CPU, nor a release of memory that the kernel may write to.
        assert_eq!(thread.state(), State::Unavailable(Reason::Refused));
        assert_eq!(area.errno(), Some(Errno::BUSY));
        assert_eq!(process.current_cpu(area), Ok(machine.task(0).cpu));
        let kept = kept(thread.on_exit(ExitMode::Release));
        assert_eq!(kept.why(), Some(Error::StillRegistered(Errno::PERM)));
    };
    fake::run(LINUX_7_1, answers, as_is, program);
}

/// As a TCB allocator that clears by hand, under a live registration.
fn forget(area: &Area) {
    let word = std::ptr::from_ref(area)
        .cast::<u8>()
        .wrapping_add(Area::STATE_OFFSET);
    // SAFETY: the word of the area, which is an atomic one.
    unsafe { &*word.cast::<AtomicU32>() }.store(0, Relaxed);
}

/// A filter that answers EBUSY to everything registers nobody, whether the memory is zeroed and shows a CPU or not.
#[test]
fn busy_is_confirmed() {
    for generation in [LINUX_4_18, LINUX_7_1] {
        let answers = Answers::refusing(Call::Rseq, 1, Errno::BUSY);
        run(generation, answers, as_is, |machine, process, areas| {
            fake::rseq_of(&areas[0]).cpu_id.store(0, Relaxed);
            let state = ensure(process, &areas[0]);
            assert_eq!(state, State::Unavailable(Reason::Refused));
            assert_eq!(process.current_cpu(&areas[0]), Ok(machine.task(0).cpu));
        });
    }
}

/// Zeroed memory shows CPU 0 before and after: only the kernel knows whether it is registered.
#[test]
fn success_on_zeroed_memory_is_confirmed() {
    for (answers, expected) in [
        (PLAIN, State::Registered(Owner::Runtime)),
        (
            Answers::pretending(1),
            State::Unavailable(Reason::Pretended),
        ),
    ] {
        run(LINUX_7_1, answers, as_is, |machine, process, areas| {
            machine.update(0, |task| task.cpu = 0);
            fake::rseq_of(&areas[0]).cpu_id.store(0, Relaxed);
            assert_eq!(ensure(process, &areas[0]), expected);
            let calls = if answers == PLAIN { 2 } else { 3 };
            assert_eq!(machine.count(Call::Rseq), calls);
        });
    }
}

/// A filter refuses the fork child's query: the inherited registration is valid all the same.
#[test]
fn a_repair_that_is_refused_releases_nothing() {
    let refusals = [Errno::PERM, Errno::NOSYS, Errno::INVAL];
    let refusals = refusals.map(|errno| Answers::refusing(Call::Rseq, 2, errno));
    let answers = refusals.into_iter().chain([Answers::pretending(2)]);
    // Before 7.0 the attempt clears the id that would show a pretended release.
    let kernels = answers.flat_map(|answers| ALL.map(|kernel| (kernel, answers)));
    for (kernel, answers) in kernels {
        run(kernel, answers, as_is, |machine, process, areas| {
            ensure(process, &areas[0]);
            // SAFETY: Lent::of (1): the only thread's.
            std::mem::forget(unsafe { Lent::of(&areas[0]) });
            // SAFETY: repair_in_fork_child (1, 2, 3): the only thread's, whose loan was forgotten.
            let state = unsafe { process.repair_in_fork_child(&areas[0]) };
            assert!(matches!(state, State::Unavailable(_)));
            let thread = process.thread_of(&areas[0]).expect("settled");
            let kept = kept(thread.on_exit(ExitMode::Release));
            assert!(kept.why().is_some());
            assert!(machine.task(0).registration.is_some());
            if !kernel.lays_out() {
                // These kernels repair the ids that the attempt has cleared.
                machine.forgive();
                machine.write_ids(0);
            }
        });
    }
}

/// The area has a life of another length that its word no longer tells of: the end of a scope stores to no id.
#[test]
fn the_end_of_a_scope_leaves_a_taken_area_alone() {
    let machine = Machine::new(LINUX_7_1, PLAIN);
    machine.boot(0);
    let area = Area::new();
    let config = fake::config(LINUX_7_1);
    let [first, second] = [config, config.legacy_length()].map(|config| {
        let process = Process::with_kernel(&machine);
        process.init(config).expect("the first init");
        process
    });
    assert_eq!(ensure(&first, &area), State::Registered(Owner::Runtime));
    forget(&area);
    let scoped = second.scope(&area).expect("not created");
    assert_eq!(scoped.end(), Err(Error::Taken));
    machine.check_ids();
    assert_eq!(machine.violation(), None);
    assert!(machine.task(0).registration.is_some());
}

/// The first thread is taken, the next one is free.
#[test]
fn a_refusal_is_one_threads_affair() {
    let answers = Answers::with_foreign(Foreign::HiddenOnSecond);
    run(LINUX_7_1, answers, as_is, |machine, process, areas| {
        machine.switch_to(1);
        assert_eq!(
            ensure(process, &areas[1]),
            State::Unavailable(Reason::Taken)
        );
        assert_eq!(process.owner(), None);
        let thread = process.thread_of(&areas[1]).expect("settled");
        let kept = kept(thread.on_exit(ExitMode::Release));
        assert_eq!(
            kept.why(),
            Some(Error::Taken),
            "its memory may hold that area"
        );
        machine.switch_to(0);
        let state = ensure(process, &areas[0]);
        assert_eq!(state, State::Registered(Owner::Runtime));
        let scoped = process.scope(&areas[0]).expect("not created");
        assert_eq!(scoped.end(), Ok(()));
    });
}

/// A handler forks during a loan: the child's area is in use again, whoever forked.
#[test]
fn a_fork_child_asks_the_kernel() {
    for generation in [LINUX_6_3, LINUX_7_1] {
        for is_registered in [true, false] {
            run(generation, PLAIN, as_is, |machine, process, areas| {
                let area = &areas[0];
                ensure(process, area);
                // SAFETY: Lent::of (1): the only thread's.
                std::mem::forget(unsafe { Lent::of(area) });
                if !is_registered {
                    // The child of a vfork child: the memory shows a registration that is not its own.
                    machine.exit_task(0);
                }
                machine.update(0, |task| task.cpu = 3);
                machine.write_ids(0);
                // SAFETY: repair_in_fork_child (1, 2, 3): the only thread's, whose loan was forgotten.
                let state = unsafe { process.repair_in_fork_child(area) };
                assert_eq!(state, State::Registered(Owner::Runtime));
                assert_eq!(process.current_cpu(area), Ok(3));
                assert!(machine.task(0).registration.is_some());
                // SAFETY: as above.
                let again = unsafe { process.repair_in_fork_child(area) };
                assert_eq!(again, state);
                if !generation.lays_out() {
                    // Stores to the ids, as CONFIG_DEBUG_RSEQ requires for a registration; this kernel repairs them.
                    machine.forgive();
                }
            });
        }
    }
}

#[test]
fn loans_within_loans() {
    let program = |_: &Machine, process: &Process<&Machine>, [area, _]: &[Area; 2]| {
        // SAFETY: Lent::of (1): the only thread's.
        let early = unsafe { Lent::of(area) };
        let ensured = process.ensure(area);
        assert_eq!(ensured, Ok(State::Lent), "a child registers nothing");
        early.end();
        let thread = process.create(area).expect("a new area");
        let state = thread.state();
        let outer = thread.lend();
        thread.lend().end();
        assert_eq!(thread.state(), State::Lent, "the outer loan stands");
        outer.end();
        assert_eq!(thread.state(), state);
        // In the other order: neither in use while one is outstanding, nor lent for ever.
        let (outer, inner) = (thread.lend(), thread.lend());
        outer.end();
        assert_eq!(thread.state(), State::Lent);
        inner.end();
        assert_eq!(thread.state(), state);
    };
    fake::run(LINUX_7_1, PLAIN, as_is, program);
}
