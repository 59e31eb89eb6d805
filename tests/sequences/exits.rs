//! The exits, and the fate of the memory.

use std::mem::replace;

use rseq_rt::{Error, Exit, ExitMode, Process, Reason, SignalMask, State};

use super::step::Act;
use super::world::{Life, World};
use crate::fake::task::ALL_BUT_SIGSYS;
use crate::fake::{Call, Hooks as _, Machine};

impl<'a> World<'a> {
    /// The exit hooks. Each leaves the mask blocked, except where nothing of this runtime is concerned.
    pub fn exit(&mut self, thread: usize, act: Act) -> bool {
        let Life::Live(exiting) = replace(&mut self.lives[thread], Life::Bare) else {
            unreachable!("World::is_possible");
        };
        let unguarded = act == Act::Keep && self.process.owner() == Some(rseq_rt::Owner::Libc);
        let was_ours = self.registered_here(thread);
        let mask_before = self.machine.task(thread).mask;
        let state = self.areas[thread].state();
        let masked_by_hook = matches!(act, Act::Keep | Act::Release);
        let blocked = if masked_by_hook {
            None
        } else {
            match SignalMask::block_all_on(&self.machine) {
                Ok(mask) => Some(mask),
                Err(_) => {
                    self.lives[thread] = Life::Live(exiting);
                    return false;
                }
            }
        };
        let outcome = match (act, &blocked) {
            (Act::Keep, _) => exiting.on_exit(ExitMode::Keep),
            (Act::KeepMasked, Some(mask)) => exiting.on_exit_masked(ExitMode::Keep, mask),
            (Act::Release, _) => exiting.on_exit(ExitMode::Release),
            (Act::ReleaseMasked, Some(mask)) => exiting.on_exit_masked(ExitMode::Release, mask),
            _ => unreachable!("the four exits"),
        };
        assert_eq!(self.areas[thread].state(), State::Exiting);
        self.lives[thread] = match outcome {
            Exit::Released(gone) => Life::Gone(gone),
            Exit::Kept(kept) => {
                let asked = matches!(act, Act::Keep | Act::KeepMasked);
                assert_eq!(kept.why().is_none(), asked);
                if let Some(why) = kept.why() {
                    self.check_refusal(why, state);
                }
                Life::Kept
            }
        };
        if matches!(act, Act::Keep | Act::KeepMasked) {
            assert_eq!(
                self.registered_here(thread),
                was_ours,
                "keep is not release"
            );
        }
        let mask = self.machine.task(thread).mask;
        let refused = masked_by_hook && self.machine.is_filtered(Call::Mask);
        if unguarded || refused && !matches!(self.lives[thread], Life::Gone(_)) {
            assert!(mask == mask_before || mask == ALL_BUT_SIGSYS);
        } else {
            assert_eq!(mask, ALL_BUT_SIGSYS, "an exiting thread takes no signals");
        }
        true
    }

    /// A release fails only because of a filter or a foreign area, and the error says which.
    fn check_refusal(&self, why: Error, state: State) {
        match why {
            Error::NotMasked(_) => assert!(self.machine.is_filtered(Call::Mask)),
            Error::StillRegistered(_) => assert!(self.machine.is_filtered(Call::Rseq)),
            // A lost loan hides the state, but nothing else.
            Error::Taken => assert!(matches!(
                state,
                State::Unavailable(Reason::Taken) | State::Lent
            )),
            error => panic!("{error}"),
        }
    }

    pub fn scope(&mut self, thread: usize) -> bool {
        let refusal = self.refusal(thread);
        let (process, area): (&'a Process<&'a Machine>, _) = (self.process, &self.areas[thread]);
        // SAFETY: Process::scoped (1, 2, 3): the area of the current task, which outlives it.
        match unsafe { process.scoped(area) } {
            Ok(scoped) => self.lives[thread] = Life::Scoped(scoped),
            Err(error) => assert_eq!(Some(error), refusal),
        }
        true
    }

    /// After a successful end the memory is free.
    pub fn end_scope(&mut self, thread: usize) -> bool {
        let Life::Scoped(scoped) = replace(&mut self.lives[thread], Life::Bare) else {
            unreachable!("World::is_possible");
        };
        // Process::scoped: handlers stop using the area before the end.
        self.machine.handler.turn(false);
        let before = self.areas[thread].state();
        match scoped.end() {
            Ok(()) => {
                assert_eq!(self.registered_here(thread), None);
                assert_eq!(self.areas[thread].state(), State::Unregistered);
            }
            Err(Error::StillRegistered(_)) => {
                assert!(self.machine.is_filtered(Call::Rseq));
                assert_eq!(self.areas[thread].state(), before);
                self.is_stranded(thread);
            }
            Err(Error::Taken) => {
                assert!(matches!(
                    before,
                    State::Unavailable(Reason::Taken) | State::Lent
                ));
                assert_eq!(self.areas[thread].state(), State::Unregistered);
            }
            Err(Error::NotMasked(_)) => {
                assert!(self.machine.is_filtered(Call::Mask));
                self.is_stranded(thread);
            }
            Err(error) => panic!("{error}"),
        }
        self.machine.handler.turn(self.scenario.signals);
        true
    }

    pub fn drop_scope(&mut self, thread: usize) -> bool {
        // No lazy registration in between: it would look like a scope that could not end.
        self.machine.handler.turn(false);
        drop(replace(&mut self.lives[thread], Life::Bare));
        self.is_stranded(thread);
        self.machine.handler.turn(self.scenario.signals);
        true
    }

    /// A thread whose scope could not end still lives, and can exit like any other.
    fn is_stranded(&mut self, thread: usize) {
        if self.registered_here(thread).is_none() {
            return;
        }
        if let Ok(still) = self.process.thread_of(&self.areas[thread]) {
            self.lives[thread] = Life::Live(still);
        }
    }

    /// The joiner: no proof before the task has ended, and one after, whatever futex(2) returns in between.
    pub fn reclaim(&mut self, thread: usize) -> bool {
        let clear_tid = &self.clear_tids[thread];
        assert!(clear_tid.try_reclaim().is_none());
        // The task ends while the joiner waits; its handler cannot run any more.
        self.machine.switch_to(1 - thread);
        self.machine.handler.turn(false);
        self.machine.futex_noise.set(2);
        self.machine.dying.set(Some(thread));
        match clear_tid.wait_on(&self.machine) {
            Ok(proof) => {
                assert_eq!(self.machine.task(thread).registration, None);
                // SAFETY: recycle (1): the area of the thread that ended.
                unsafe { proof.recycle(&self.areas[thread]) };
                clear_tid.rearm(&proof);
                assert!(clear_tid.try_reclaim().is_none());
                self.renew(thread);
            }
            Err(error) => panic!("{error}"),
        }
        true
    }

    /// A released area passes to another thread at once.
    pub fn recycle(&mut self, thread: usize) -> bool {
        let Life::Gone(gone) = replace(&mut self.lives[thread], Life::Bare) else {
            unreachable!("World::is_possible");
        };
        assert_eq!(self.registered_here(thread), None);
        // SAFETY: recycle_area (1): the handler of this thread has run for the last time.
        unsafe { gone.recycle_area() };
        self.machine.exit_task(thread);
        self.renew(thread);
        true
    }
}
