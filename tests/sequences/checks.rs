//! The invariants after every step.

use rseq_rt::{Error, Owner, Reason, State};

use super::world::World;
use crate::fake::machine::THREADS;
use crate::fake::task::{Registration, Task, is_blocked};
use crate::fake::{Call, Foreign};

/// The state compared across one step.
#[derive(Clone, Copy)]
pub struct Before {
    owner: Option<Owner>,
    length: u32,
    reason: Option<Reason>,
    masks: [u64; THREADS],
}

impl World<'_> {
    pub fn before(&self) -> Before {
        Before {
            owner: self.process.owner(),
            length: self.process.length(),
            reason: self.process.reason(),
            masks: std::array::from_fn(|thread| self.machine.task(thread).mask),
        }
    }

    /// `exited` is the thread whose exit hook was the step.
    pub fn check(&self, before: Before, exited: Option<usize>) {
        self.machine.check_ids();
        assert_eq!(self.machine.violation(), None);
        self.check_owner(before);
        for thread in 0..THREADS {
            self.check_state(thread);
            self.check_foreign(thread);
            if exited != Some(thread) && !self.renewed[thread] {
                self.check_mask(thread, before.masks[thread]);
            }
        }
    }

    /// C1: one permanent answer for everyone.
    fn check_owner(&self, before: Before) {
        if before.owner.is_some() {
            assert_eq!(self.process.owner(), before.owner, "the owner changed");
            assert_eq!(self.process.length(), before.length, "the length changed");
            assert_eq!(self.process.reason(), before.reason, "the reason changed");
        }
    }

    /// The state word agrees with the kernel.
    fn check_state(&self, thread: usize) {
        let task = self.machine.task(thread);
        let ours = self.registered_here(thread);
        match self.areas[thread].state() {
            State::Registered(Owner::Runtime) => {
                let registration = ours.expect("Registered(Runtime), and the kernel knows nothing");
                assert_eq!(registration.length, self.process.length());
                assert_eq!(registration.signature, rseq_rt::arch::SIGNATURE);
                assert_eq!(self.process.owner(), Some(Owner::Runtime));
            }
            State::Registered(owner) => {
                assert_eq!(owner, Owner::Libc);
                assert_eq!(ours, None, "Registered(Libc), and the kernel writes to us");
                assert!(self.libc_is_visible() || task.registration.is_none());
                assert_eq!(self.process.owner(), Some(Owner::Libc));
            }
            State::Unregistered | State::Unavailable(_) => {
                assert_eq!(ours, None, "the kernel writes to an area that denies it");
            }
            State::Exiting | State::Lent => {}
        }
        if matches!(self.lives[thread], super::world::Life::Gone(_)) {
            assert_eq!(ours, None, "Gone, and the kernel still writes");
        }
    }

    pub fn registered_here(&self, thread: usize) -> Option<Registration> {
        let area = self.areas[thread].as_rseq();
        let held: Task = self.machine.task(thread);
        held.registration.filter(|it| it.area == area)
    }

    fn libc_is_visible(&self) -> bool {
        matches!(
            self.scenario.answers.foreign,
            Foreign::Visible | Foreign::VisibleNotOnSecond
        )
    }

    /// C7: the libc's registration is unchanged for as long as its task lives.
    fn check_foreign(&self, thread: usize) {
        let has_one = match self.scenario.answers.foreign {
            Foreign::None | Foreign::Off => false,
            Foreign::Visible | Foreign::Hidden => true,
            Foreign::HiddenOnSecond => thread == 1,
            Foreign::VisibleNotOnSecond => thread == 0,
        };
        if has_one {
            let found = self.machine.task(thread).registration;
            assert_eq!(found, Some(self.machine.libc_registration(thread)));
        }
    }

    /// C3: the mask is unchanged. It stays blocked only if a filter forbids restoring it.
    fn check_mask(&self, thread: usize, before: u64) {
        let mask = self.machine.task(thread).mask;
        if self.machine.mask_stuck.get() {
            assert!(mask == before || is_blocked(mask));
        } else {
            assert_eq!(mask, before, "the mask of thread {thread} changed");
        }
    }

    /// C10: reads agree with the thread's CPU.
    pub fn check_reads(&self, thread: usize) {
        let (process, area) = (self.process, &self.areas[thread]);
        let task = self.machine.task(self.machine.current());
        let filtered = self.machine.is_filtered(Call::Getcpu);
        for (read, truth) in [
            (process.current_cpu(area), task.cpu),
            (process.current_node(area), task.node()),
        ] {
            match read {
                Ok(value) => assert_eq!(value, truth),
                Err(Error::Unavailable(_)) => assert!(filtered),
                Err(error) => panic!("{error}"),
            }
        }
        if let Some(mm_cid) = process.current_mm_cid(area) {
            let fields = self.scenario.generation.fills(u32::MAX);
            assert!(fields >= 28, "this kernel has no concurrency ids");
            assert_eq!(mm_cid as usize, self.machine.current());
        }
    }
}
