//! The steps themselves, each with its expected result.

use std::ffi::c_void;
use std::mem::{forget, replace};
use std::ptr::from_ref;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::{AtExit, Callback, Error, Process, Reclaimed, SignalMask, State, Thread};

use super::expect::Cost;
use super::step::{Act, Step};
use super::world::{Life, World};
use crate::fake::machine::VFORK_CHILD;
use crate::fake::{Hooks as _, Machine, rseq_of};

/// The state that the program holds while its callbacks run.
struct Reader<'a> {
    world: *const World<'a>,
    thread: usize,
}

unsafe extern "C" fn read_at_exit(argument: *mut c_void) {
    // SAFETY: World::run_at_exit passes a Reader that outlives the call, as does the world in it.
    let (world, thread) = unsafe {
        let reader = &*argument.cast::<Reader<'_>>();
        (&*reader.world, reader.thread)
    };
    world.check_reads(thread);
    assert_ne!(world.areas[thread].state(), State::Exiting);
}

impl<'a> World<'a> {
    /// Takes one step, if it is possible here, and checks all invariants after it.
    pub fn step(&mut self, step: Step) -> bool {
        let before = self.before();
        self.renewed = [false; 2];
        let (possible, exited) = match step {
            Step::Init => (self.init(), None),
            Step::Thread(thread, act) => {
                self.machine.switch_to(thread);
                let (cost, counts) = (self.cost(thread, act), self.machine.counts());
                let was_live = self.is_live(thread);
                let possible = self.act(thread, act);
                if let Some(cost) = cost
                    && possible
                    && self.costs_are_exact()
                {
                    let spent = Cost::between(counts, self.machine.counts());
                    assert_eq!(spent, cost, "{act:?} spent");
                }
                let exited = was_live && self.lives[thread].is_exiting();
                (possible, exited.then_some(thread))
            }
        };
        self.check(before, exited);
        possible
    }

    fn init(&mut self) -> bool {
        let outcome = self.process.init(self.scenario.config);
        if self.initialized {
            assert_eq!(outcome, Err(Error::AlreadyInitialized));
        } else {
            assert_eq!(outcome, Ok(self.process.owner()));
        }
        !replace(&mut self.initialized, true)
    }

    /// Whether the thread holds what the step needs.
    fn is_possible(&self, thread: usize, act: Act) -> bool {
        let life = &self.lives[thread];
        match act {
            Act::Vfork
            | Act::RunAtExit
            | Act::Keep
            | Act::KeepMasked
            | Act::Release
            | Act::ReleaseMasked => matches!(life, Life::Live(_)),
            Act::LoseLoan => matches!(life, Life::Live(_) | Life::Scoped(_)),
            Act::CurrentThread => matches!(life, Life::Bare | Life::Live(_)),
            Act::EndScope | Act::DropScope => matches!(life, Life::Scoped(_)),
            Act::Reclaim => life.is_exiting(),
            Act::Recycle => matches!(life, Life::Gone(_)),
            // Only one thread: two of them would share nothing in it.
            Act::Section => thread == 0 && !life.is_exiting(),
            // A thread does not fork after its exit hook.
            Act::Fork => !life.is_exiting(),
            _ => true,
        }
    }

    fn act(&mut self, thread: usize, act: Act) -> bool {
        if !self.is_possible(thread, act) {
            return false;
        }
        match act {
            Act::Create => self.create(thread, |process, area| process.create(area)),
            Act::CreateMasked => self.create_masked(thread),
            Act::Ensure => self.ensure(thread),
            Act::Read => {
                self.check_reads(thread);
                true
            }
            Act::Section => {
                // No kernel reads it here: any constant address will do.
                rseq_of(&self.areas[thread]).rseq_cs.store(4096, Relaxed);
                true
            }
            Act::Vfork => self.vfork(thread),
            Act::LoseLoan => self.lose_loan(thread),
            Act::RunAtExit => self.run_at_exit(thread),
            Act::CurrentThread => self.current_thread(thread),
            Act::Scope => self.scope(thread),
            Act::EndScope => self.end_scope(thread),
            Act::DropScope => self.drop_scope(thread),
            Act::Fork => self.fork(thread),
            Act::Migrate => {
                self.machine.migrate(thread);
                true
            }
            Act::Keep | Act::KeepMasked | Act::Release | Act::ReleaseMasked => {
                self.exit(thread, act)
            }
            Act::Reclaim => self.reclaim(thread),
            Act::Recycle => self.recycle(thread),
        }
    }

    /// The error that a hook must return before it does anything.
    pub fn refusal(&self, thread: usize) -> Option<Error> {
        match self.areas[thread].state() {
            _ if !self.initialized => Some(Error::NotInitialized),
            State::Exiting => Some(Error::Exiting),
            State::Lent => Some(Error::Lent),
            _ if !matches!(self.lives[thread], Life::Bare) => Some(Error::AlreadyCreated),
            _ => None,
        }
    }

    pub fn create(
        &mut self,
        thread: usize,
        hook: impl FnOnce(
            &'a Process<&'a Machine>,
            &'a rseq_rt::Area,
        ) -> Result<Thread<'a, &'a Machine>, Error>,
    ) -> bool {
        let (refusal, state) = (self.refusal(thread), self.areas[thread].state());
        let outcome = hook(self.process, &self.areas[thread]);
        assert_eq!(outcome.as_ref().err().copied(), refusal);
        match outcome {
            Ok(created) => {
                assert_ne!(created.state(), State::Unregistered);
                self.lives[thread] = Life::Live(created);
            }
            Err(_) => assert!(self.scenario.signals || self.areas[thread].state() == state),
        }
        true
    }

    fn create_masked(&mut self, thread: usize) -> bool {
        let Ok(mask) = SignalMask::block_all_on(&self.machine) else {
            return false;
        };
        self.create(thread, |process, area| process.create_masked(area, &mask));
        let _ = mask.restore_on(&self.machine);
        true
    }

    fn ensure(&mut self, thread: usize) -> bool {
        let area = &self.areas[thread];
        let before = area.state();
        match self.process.ensure(area) {
            Ok(state) => {
                assert_eq!(state, area.state());
                assert_ne!(state, State::Unregistered);
                if before != State::Unregistered {
                    assert_eq!(state, before, "a settled thread is not tried again");
                }
            }
            Err(error) => {
                assert_eq!(error, Error::NotInitialized);
                assert!(!self.initialized);
            }
        }
        true
    }

    /// A vfork child runs in the parent's memory, unregistered, on another CPU, and tries everything.
    fn vfork(&mut self, thread: usize) -> bool {
        let Life::Live(parent) = &self.lives[thread] else {
            unreachable!("World::is_possible");
        };
        let before = (parent.state(), parent.area().has_slice_extension());
        let lent = parent.lend();
        let mut child = self.machine.task(thread);
        child.registration = None;
        child.cpu = (child.cpu + 1) % crate::fake::machine::CPUS;
        self.machine.update(VFORK_CHILD, |task| *task = child);
        self.machine.handler.set_parent(thread);
        self.machine.switch_to(VFORK_CHILD);
        let (process, area) = (self.process, &self.areas[thread]);
        self.check_reads(thread);
        assert!(!area.has_slice_extension(), "a request would be a store");
        // SAFETY: no hook may do anything with a lent area, so that their conditions do not matter.
        unsafe {
            assert_eq!(process.ensure_registered(area), Ok(State::Lent));
            assert_eq!(process.on_thread_create(area).err(), Some(Error::Lent));
            assert_eq!(process.current_thread(area).err(), Some(Error::Lent));
        }
        self.machine.switch_to(thread);
        // The parent is moved while it waits, and returns before the loan ends.
        self.machine.migrate(thread);
        self.check_reads(thread);
        lent.end();
        assert_eq!((area.state(), area.has_slice_extension()), before);
        true
    }

    fn lose_loan(&mut self, thread: usize) -> bool {
        match &self.lives[thread] {
            Life::Live(holder) => forget(holder.lend()),
            Life::Scoped(scoped) => forget(scoped.thread().lend()),
            _ => unreachable!("World::is_possible"),
        }
        assert_eq!(self.areas[thread].state(), State::Lent);
        true
    }

    fn run_at_exit(&mut self, thread: usize) -> bool {
        let Life::Live(exiting) = &self.lives[thread] else {
            unreachable!("World::is_possible");
        };
        let reader = Reader {
            world: from_ref(self),
            thread,
        };
        let callbacks = AtExit::<1>::new();
        // SAFETY: Callback::new (1): the first is called below, while `reader` lives, on this thread; the others never.
        let callback =
            || unsafe { Callback::new(read_at_exit, from_ref(&reader).cast_mut().cast()) };
        assert_eq!(callbacks.push(callback()), Ok(()));
        assert_eq!(callbacks.push(callback()), Err(Error::CallbacksFull));
        exiting.run_at_exit(&callbacks);
        assert_eq!(callbacks.push(callback()), Err(Error::Exiting));
        true
    }

    fn current_thread(&mut self, thread: usize) -> bool {
        let area = &self.areas[thread];
        let outcome = self.process.thread_of(area);
        match outcome {
            Ok(again) => {
                assert_eq!(again.state(), area.state());
                self.lives[thread] = Life::Live(again);
            }
            Err(Error::NotCreated) => assert_eq!(area.state(), State::Unregistered),
            Err(error) => assert_eq!((error, area.state()), (Error::Lent, State::Lent)),
        }
        true
    }

    /// In the child the forking thread continues unchanged; only memory is left of the other one.
    fn fork(&mut self, thread: usize) -> bool {
        let other = 1 - thread;
        if let Life::Scoped(scoped) = replace(&mut self.lives[other], Life::Bare) {
            forget(scoped);
        }
        self.machine.exit_task(other);
        self.machine.handler.turn(false);
        // SAFETY: in_fork_child (1), recycle (1): the other thread was not copied.
        unsafe { Reclaimed::in_fork_child().recycle(&self.areas[other]) };
        self.renew(other);
        true
    }

    /// Creates a new task with the old one's memory.
    pub fn renew(&mut self, thread: usize) {
        self.lives[thread] = Life::Bare;
        self.renewed[thread] = true;
        self.machine.spawn(thread, self.scenario.mask);
        self.machine.handler.turn(self.scenario.signals);
        self.machine.mask_stuck.set(false);
    }
}
