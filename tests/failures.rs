//! Each way to fail has a value of its own, and no thread dies of it.

mod fake;

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use fake::generation::{ALL, LINUX_4_18, LINUX_6_3, LINUX_7_1};
use fake::{Answers, Call, Foreign, Generation, Machine, Memory, PLAIN, run};
use rseq_rt::{Area, Claim, Config, Errno, Error, Lent, Owner, Process, Reason, State};

fn as_is(config: Config) -> Config {
    config
}

fn ensure(process: &Process<&Machine>, area: &Area) -> State {
    // SAFETY: ensure_registered (1, 2): one area a thread, in scope as long as the machine runs.
    unsafe { process.ensure_registered(area) }.expect("initialized")
}

#[test]
fn refused_from_the_start() {
    for (errno, reason, owner) in [
        (Errno::NOSYS, Reason::NoSyscall, Some(Owner::Nobody)),
        (Errno::PERM, Reason::Filtered, Some(Owner::Nobody)),
        (Errno::ACCES, Reason::Filtered, Some(Owner::Nobody)),
        (Errno::INVAL, Reason::Taken, Some(Owner::Libc)),
        (Errno::FAULT, Reason::BadMemory, None),
        (Errno::AGAIN, Reason::Refused, Some(Owner::Nobody)),
    ] {
        for generation in ALL {
            let answers = Answers::refusing(Call::Rseq, 1, errno);
            run(generation, answers, as_is, |machine, process, areas| {
                assert_eq!(ensure(process, &areas[0]), State::Unavailable(reason));
                assert_eq!(areas[0].errno(), Some(errno));
                assert_eq!(areas[0].cpu_id(), -2);
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

/// The owner stays; the threads of later on say why they run without.
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
            // SAFETY: current_thread (1, 2): the first thread, which has no other `Thread`.
            let thread = unsafe { process.current_thread(&areas[0]) }.expect("registered");
            let refused = thread.on_exit_release().expect_err("still registered");
            assert_eq!(refused.error(), Error::StillRegistered(errno));
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
            assert_eq!(process.reason(), Some(Reason::Pretended));
        },
    );
}

#[test]
fn not_masked() {
    let answers = Answers::refusing(Call::Mask, 1, Errno::PERM);
    run(LINUX_7_1, answers, as_is, |machine, process, areas| {
        let state = ensure(process, &areas[0]);
        assert_eq!(state, State::Unavailable(Reason::NotMasked));
        assert_eq!(areas[0].errno(), Some(Errno::PERM));
        assert_eq!(areas[0].cpu_id(), -2, "no CPU for a debugger to believe in");
        assert_eq!(machine.count(Call::Rseq), 0);
        assert_eq!(process.owner(), None, "a thread's own affair");
    });
}

/// Memory that went bad behind the create hook's back; kernels before 7.0 kill for read-only, and tell nobody.
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

/// What each owner is called, and what can be read of it.
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
    assert_eq!(read(hidden, as_is), (Some(Owner::Libc), taken, 0, false));
    assert_eq!(read(off, as_is), (Some(Owner::Runtime), ours, 33, true));
    assert_eq!(
        read(visible, |config| config.claim(Claim::Libc)),
        (Some(Owner::Libc), libc, 32, true)
    );
    // Its word is believed as far as the kernel bears it out.
    assert_eq!(
        read(visible, |config| config.claim(Claim::Runtime)),
        (Some(Owner::Libc), taken, 0, false)
    );
    assert_eq!(
        read(PLAIN, |config| config.claim(Claim::Libc)),
        (Some(Owner::Libc), taken, 0, false)
    );
}

/// A libc whose filter came between its first and its second thread.
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

/// The kernel knows the area from a life that its state byte does not tell of.
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
    // As a TCB allocator would that clears by hand.
    // SAFETY: recycle (1) does *not* hold, which is the point.
    unsafe { rseq_rt::Reclaimed::in_fork_child().recycle(&area) };
    assert_eq!(ensure(&process, &area), State::Registered(Owner::Runtime));
    assert_eq!(area.cpu_id(), machine.task(0).cpu as i32);
}

#[test]
fn misuse() {
    let machine = Machine::new(LINUX_7_1, PLAIN);
    machine.boot(0);
    let process = Process::with_kernel(&machine);
    let area = Area::new();
    // SAFETY: on_thread_create (1, 2, 3): one thread, and an area that outlives the machine's use of it.
    let create = || unsafe { process.on_thread_create(&area) };
    // SAFETY: current_thread (1, 2): as above; no `Thread` is used after another was asked for.
    let current = || unsafe { process.current_thread(&area) };
    assert_eq!(create().err(), Some(Error::NotInitialized));
    // SAFETY: ensure_registered (1, 2): as above.
    let ensured = unsafe { process.ensure_registered(&area) };
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
    // As an interface without types carries it: only the number of this very loan ends it, and once.
    let raw = loan.into_raw();
    // SAFETY: Lent::from_raw (1, 2): there is no child.
    let ended = |raw| unsafe { Lent::from_raw(&area, raw) }.map(Lent::end);
    for wrong in (0..=u16::MAX).filter(|wrong| wrong & 0xfeff != raw) {
        assert_eq!(ended(wrong), None, "{wrong:#x}");
    }
    assert_eq!(area.state(), State::Lent);
    assert_eq!(ended(raw), Some(()));
    assert_eq!((ended(raw), area.state()), (None, thread.state()));
    let _kept = thread.on_exit_keep();
    assert_eq!(create().err(), Some(Error::Exiting));
    assert_eq!(current().err(), Some(Error::Exiting));
    // SAFETY: ensure_registered (1, 2): as above.
    let ensured = unsafe { process.ensure_registered(&area) };
    assert_eq!(ensured, Ok(State::Exiting));
    assert_eq!(
        (machine.count(Call::Rseq), machine.count(Call::Mask)),
        (1, 3)
    );
}

/// A TCB that was zeroed by hand under a live registration, and a filter that came late.
#[test]
fn what_cannot_be_unregistered_stays_registered() {
    let answers = Answers::refusing(Call::Rseq, 3, Errno::PERM);
    let program = |machine: &Machine, process: &Process<&Machine>, [area, _]: &[Area; 2]| {
        // SAFETY: on_thread_create (1, 2, 3): the only thread's.
        let create = || unsafe { process.on_thread_create(area) }.expect("a new area");
        let _first = create();
        let ids = fake::rseq_of(area);
        let before = (ids.cpu_id.load(Relaxed), ids.cpu_id_start.load(Relaxed));
        let bytes = std::ptr::from_ref(area).cast::<AtomicU8>();
        for at in [Area::STATE_OFFSET, CREATED] {
            // SAFETY: bytes of the area that are atomic ones there.
            unsafe { &*bytes.add(at) }.store(0, Relaxed);
        }
        let thread = create();
        assert_eq!(thread.state(), State::Registered(Owner::Runtime));
        // The hook had to prepare it before it could know. The kernel writes the ids anew when it next looks.
        ids.cpu_id.store(before.0, Relaxed);
        ids.cpu_id_start.store(before.1, Relaxed);
        assert!(
            machine
                .forgive()
                .is_some_and(|rule| rule.contains("stored to an id"))
        );
        let refused = thread.on_exit_release().err().map(|it| it.error());
        assert_eq!(refused, Some(Error::StillRegistered(Errno::PERM)));
    };
    fake::run(LINUX_6_3, answers, |config| config, program);
}

/// Where `Area` notes that its create hook has run.
const CREATED: usize = 68;

#[test]
fn loans_within_loans() {
    let program = |_: &Machine, process: &Process<&Machine>, [area, _]: &[Area; 2]| {
        // SAFETY: Lent::of (1): the only thread's.
        let early = unsafe { Lent::of(area) };
        // SAFETY: ensure_registered (1, 2): likewise.
        let ensured = unsafe { process.ensure_registered(area) };
        assert_eq!(ensured, Ok(State::Lent), "a child registers nothing");
        early.end();
        // SAFETY: on_thread_create (1, 2, 3): likewise.
        let thread = unsafe { process.on_thread_create(area) }.expect("a new area");
        let state = thread.state();
        let outer = thread.lend();
        thread.lend().end();
        assert_eq!(thread.state(), State::Lent, "the outer loan stands");
        std::mem::forget(thread.lend());
        outer.end();
        assert_eq!(thread.state(), state);
        // In the wrong order: not lent for ever.
        let (outer, inner) = (thread.lend(), thread.lend());
        outer.end();
        inner.end();
        assert_eq!(thread.state(), state);
    };
    fake::run(LINUX_7_1, PLAIN, |config| config, program);
}
