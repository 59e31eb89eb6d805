//! Two threads race for the first registration, and the kernel answers them differently.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Barrier, Mutex};

use crate::fake::generation::LINUX_7_1;
use crate::fake::{self, Answers, Call, Hooks as _, PLAIN, as_is, run};
use rseq_rt::abi::{FLAG_UNREGISTER, Rseq};
use rseq_rt::{Area, Errno, Error, Exit, ExitMode, Kernel, Owner, Process, Reason, State, Trio};

thread_local! {
    static ME: Cell<usize> = const { Cell::new(0) };
}

/// The kernel's answer to a registration of one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Yes,
    Only32,
    /// No registration with flags, that is with the slice extension.
    NoFlags,
    No(Errno),
    Pretends,
}

/// Shared by real threads. Masks are per thread and initially empty.
struct Kernels {
    says: [Says; 2],
    table: [Mutex<Option<(usize, u32)>>; 2],
    masks: [AtomicU64; 2],
}

// SAFETY: Kernel (1) areas are written only inside the calls; (2) by the table and the masks; (3) no trio.
unsafe impl Kernel for &Kernels {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        _signature: u32,
    ) -> Result<(), Errno> {
        let me = ME.get();
        assert_eq!(self.masks[me].load(Relaxed), fake::task::ALL_BUT_SIGSYS);
        let mut held = self.table[me].lock().expect("no panic inside");
        // SAFETY: Kernel::rseq (1).
        let memory = unsafe { &*area };
        if flags == FLAG_UNREGISTER {
            if *held != Some((area.addr(), length)) {
                return Err(Errno::INVAL);
            }
            *held = None;
            memory.cpu_id.store(-1, Relaxed);
            memory.cpu_id_start.store(0, Relaxed);
            return Ok(());
        }
        match (*held, self.says[me]) {
            (Some(it), _) if it != (area.addr(), length) => return Err(Errno::INVAL),
            (Some(_), _) => return Err(Errno::BUSY),
            (None, Says::No(errno)) => return Err(errno),
            (None, Says::Only32) if length != 32 => return Err(Errno::INVAL),
            (None, Says::NoFlags) if flags != 0 => return Err(Errno::INVAL),
            (None, Says::Pretends) => return Ok(()),
            (None, _) => {}
        }
        *held = Some((area.addr(), length));
        memory.cpu_id_start.store(me as u32, Relaxed);
        memory.cpu_id.store(me as i32, Relaxed);
        Ok(())
    }

    fn set_signal_mask(&self, mask: u64) -> Result<u64, Errno> {
        Ok(self.masks[ME.get()].swap(mask, Relaxed))
    }

    fn getcpu(&self) -> Result<(u32, u32), Errno> {
        Ok((ME.get() as u32, 0))
    }

    fn futex_wait(&self, _: &AtomicU32, _: u32) -> Result<(), Errno> {
        unreachable!("nobody waits here")
    }

    fn slice_yield(&self) -> Result<bool, Errno> {
        unreachable!("nobody asks for it here")
    }

    fn probe_write(&self, _: *const AtomicU32) -> Result<(), Errno> {
        unreachable!("nobody asks for it here")
    }

    fn libc_trio(&self) -> Option<Trio> {
        None
    }

    unsafe fn thread_pointer(&self) -> *const u8 {
        unreachable!("no libc here")
    }
}

fn kernels(says: [Says; 2]) -> Kernels {
    Kernels {
        says,
        table: Default::default(),
        masks: Default::default(),
    }
}

fn process(kernels: &Kernels) -> Process<&Kernels> {
    let process = Process::with_kernel(kernels);
    let config = fake::config(LINUX_7_1).slice_extension();
    process.init(config).expect("the first init");
    process
}

fn race(says: [Says; 2]) {
    let kernels = kernels(says);
    let process = process(&kernels);
    let areas = [Area::new(), Area::new()];
    let start = Barrier::new(2);
    let views = std::thread::scope(|scope| {
        let handles = [0, 1].map(|me| {
            let (process, area, start) = (&process, &areas[me], &start);
            scope.spawn(move || {
                ME.set(me);
                start.wait();
                let state = process.ensure(area).expect("initialized");
                assert_eq!(process.current_cpu(area), Ok(me as u32));
                (state, process.owner(), process.length())
            })
        });
        handles.map(|handle| handle.join().expect("no panic inside"))
    });
    let owner = process.owner();
    for (me, (state, seen_owner, seen_length)) in views.into_iter().enumerate() {
        // A decision is final. A refusal decides nothing for the other thread, unless the kernel has no rseq.
        if seen_owner.is_some() {
            assert_eq!((seen_owner, seen_length), (owner, process.length()));
        }
        match says[me] {
            Says::No(Errno::NOSYS) => assert!(seen_owner.is_some()),
            Says::No(_) | Says::Pretends => assert!(matches!(state, State::Unavailable(_))),
            Says::NoFlags => assert_eq!(state, OURS),
            Says::Yes | Says::Only32 => {}
        }
        let held = *kernels.table[me].lock().expect("no panic inside");
        if state == State::Registered(Owner::Runtime) {
            let address = areas[me].as_rseq().addr();
            assert_eq!(held, Some((address, process.length())));
            assert_eq!(owner, Some(Owner::Runtime));
        } else {
            assert!(matches!(state, State::Unavailable(_)), "{state:?}");
            assert_eq!(held, None);
        }
    }
    for mask in &kernels.masks {
        assert_eq!(mask.load(Relaxed), 0);
    }
}

#[test]
fn first_registration() {
    let rounds = if cfg!(miri) { 3 } else { 400 };
    for says in [
        [Says::Yes, Says::Yes],
        [Says::Yes, Says::Only32],
        [Says::Yes, Says::NoFlags],
        [Says::Yes, Says::No(Errno::PERM)],
        [Says::Only32, Says::No(Errno::NOSYS)],
        [Says::Yes, Says::No(Errno::INVAL)],
        [Says::Yes, Says::No(Errno::FAULT)],
        [Says::Pretends, Says::Only32],
    ] {
        for _ in 0..rounds {
            race(says);
        }
    }
}

/// Each thread asks for the extension; the one that is refused has rseq without it, whoever decides.
#[test]
fn a_refused_flag_costs_the_extension_alone() {
    for order in [[0, 1], [1, 0]] {
        let kernels = kernels([Says::Yes, Says::NoFlags]);
        let process = process(&kernels);
        let areas = [Area::new(), Area::new()];
        for me in order {
            ME.set(me);
            assert_eq!(process.ensure(&areas[me]), Ok(OURS));
            let exit = process
                .thread_of(&areas[me])
                .expect("settled")
                .on_exit(ExitMode::Release);
            assert!(matches!(exit, Exit::Released(_)));
        }
    }
}

/// Thread 1 runs its whole create hook while thread 0 is in its `after + 1`-th call of rseq(2).
fn cut_in(
    after: u32,
    answers: Answers,
    check: impl FnOnce(State, State, &Process<&fake::Machine>),
) {
    run(LINUX_7_1, answers, as_is, |machine, process, areas| {
        machine.handler.cuts_in_after.set(Some(after));
        let first = process.ensure(&areas[0]).expect("initialized");
        assert_eq!(machine.task(0).mask, 0);
        check(first, areas[1].state(), process);
        // Whatever the state says, no exit may prove free what the kernel writes to.
        machine.switch_to(0);
        let thread = process.thread_of(&areas[0]).expect("settled");
        let exit = thread.on_exit(ExitMode::Release);
        let held = machine.task(0).registration;
        assert!(
            matches!(exit, Exit::Kept(_)) || held.is_none(),
            "released, and registered"
        );
    });
}

const OURS: State = State::Registered(Owner::Runtime);

#[test]
fn the_same_answer_to_both() {
    cut_in(0, PLAIN, |first, second, process| {
        assert_eq!((first, second), (OURS, OURS));
        assert_eq!(process.length(), 33);
    });
}

/// A refusal to thread 1 while thread 0 is registered concerns only thread 1.
#[test]
fn a_refusal_in_between_decides_nothing() {
    let pretending = (Answers::pretending(2), Reason::Pretended);
    let refusing = [
        (Errno::PERM, Reason::Filtered),
        (Errno::INVAL, Reason::Taken),
    ];
    let refusing =
        refusing.map(|(errno, reason)| (Answers::refusing(Call::Rseq, 2, errno), reason));
    for (answers, reason) in [pretending].into_iter().chain(refusing) {
        cut_in(0, answers, |first, second, process| {
            assert_eq!((first, second), (OURS, State::Unavailable(reason)));
            assert_eq!(process.owner(), Some(Owner::Runtime));
        });
    }
}

/// ENOSYS is the kernel's answer for the whole process: the other thread's registration should go, but cannot.
#[test]
fn the_loser_is_refused_to_undo_it() {
    let answers = Answers::refusing(Call::Rseq, 2, Errno::NOSYS);
    cut_in(0, answers, |first, second, process| {
        assert_eq!(second, State::Unavailable(Reason::NoSyscall));
        assert_eq!(process.owner(), Some(Owner::Nobody));
        assert_eq!(
            first, OURS,
            "the kernel still writes, and the state says so"
        );
    });
}

/// Thread 0 is refused 33 while thread 1 decides for 32.
#[test]
fn the_winner_has_the_other_length() {
    let answers = Answers {
        only_32: true,
        ..PLAIN
    };
    cut_in(0, answers, |first, second, process| {
        assert_eq!((first, second), (OURS, OURS));
        assert_eq!(process.length(), 32);
    });
}

/// The mask is refused in the main flow, while a handler registers the thread.
#[test]
fn a_handler_that_got_further() {
    for from in 1..6 {
        let answers = Answers::refusing(Call::Mask, from, Errno::PERM);
        run(LINUX_7_1, answers, as_is, |machine, process, areas| {
            machine.handler.turn(true);
            let state = process.ensure(&areas[0]).expect("initialized");
            machine.handler.turn(false);
            let held = machine.task(0).registration.is_some();
            assert_eq!(held, state == OURS, "{state:?} from {from}");
            let thread = process.thread_of(&areas[0]).expect("settled");
            match thread.on_exit(ExitMode::Release) {
                Exit::Released(_) => assert_eq!(machine.task(0).registration, None),
                Exit::Kept(kept) => assert!(matches!(kept.why(), Some(Error::NotMasked(_)))),
            }
        });
    }
}
