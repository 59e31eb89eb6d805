//! A signal handler that uses rseq itself, run wherever the mask allows it; and another thread that runs in between.

use std::cell::Cell;
use std::ptr::null;

use rseq_rt::{Area, Error, Process, State};

use super::answers::Call;
use super::machine::{Machine, THREADS, VFORK_CHILD};
use super::task::is_blocked;

/// The area used by the handler of each thread. Null: the handler leaves rseq alone.
pub struct Handler {
    process: Cell<*const ()>,
    areas: [Cell<*const Area>; THREADS],
    on: Cell<bool>,
    running: Cell<bool>,
    /// The parent of the child that runs as `VFORK_CHILD`.
    parent: Cell<usize>,
    /// After this many further calls of rseq(2), the other thread runs its whole create hook.
    pub cuts_in_after: Cell<Option<u32>>,
}

impl Handler {
    pub fn new() -> Self {
        Self {
            process: Cell::new(null()),
            areas: [const { Cell::new(null()) }; THREADS],
            on: Cell::new(false),
            running: Cell::new(false),
            parent: Cell::new(0),
            cuts_in_after: Cell::new(None),
        }
    }

    /// # Safety
    /// 1. `process` and `areas` outlive every use of the machine.
    pub unsafe fn attach(&self, process: &Process<&Machine>, areas: &[Area; THREADS]) {
        self.process.set((&raw const *process).cast());
        for (cell, area) in self.areas.iter().zip(areas) {
            cell.set(area);
        }
    }

    pub fn turn(&self, on: bool) {
        self.on.set(on);
    }

    pub fn is_running(&self) -> bool {
        self.running.get()
    }

    pub fn set_parent(&self, thread: usize) {
        self.parent.set(thread);
    }

    pub fn is_exiting(&self, thread: usize) -> bool {
        let area = self.areas[self.owner_of(thread)].get();
        // SAFETY: attach (1).
        !area.is_null() && unsafe { &*area }.state() == State::Exiting
    }

    /// The owner of the area: for a vfork child, its parent.
    fn owner_of(&self, thread: usize) -> usize {
        match thread {
            VFORK_CHILD => self.parent.get(),
            thread => thread,
        }
    }
}

impl Machine {
    fn process(&self) -> &Process<&Machine> {
        // SAFETY: Handler::attach (1); only called where an area is attached.
        unsafe { &*self.handler.process.get().cast() }
    }

    /// Runs the handler if the current task has a signal open; SIGSYS counts only in a call that a filter may trap.
    pub fn deliver_signal(&self, call: Option<Call>) {
        let handler = &self.handler;
        let me = self.current();
        let mask = self.task(me).mask;
        let area = handler.areas[handler.owner_of(me)].get();
        let open = if call == Some(Call::Rseq) {
            mask != u64::MAX
        } else {
            !is_blocked(mask)
        };
        if !handler.on.get() || handler.running.get() || !open || area.is_null() {
            return;
        }
        handler.running.set(true);
        // SAFETY: Handler::attach (1).
        let area = unsafe { &*area };
        // SAFETY: ensure_registered (1, 2): the area of the current task, which outlives it.
        let ensured = unsafe { self.process().ensure_registered(area) };
        if ensured.is_err() && ensured != Err(Error::NotInitialized) {
            self.break_rule("ensure_registered failed in a handler");
        }
        match self.process().current_cpu(area) {
            Ok(cpu) if cpu == self.task(me).cpu => {}
            Ok(_) => self.break_rule("the handler read a CPU that it does not run on"),
            Err(_) if self.is_filtered(Call::Getcpu) => {}
            Err(_) => self.break_rule("the handler read no CPU"),
        }
        // rt_sigreturn(2) restores the mask, whatever a filter did to rt_sigprocmask(2) in between.
        self.update(me, |task| task.mask = mask);
        self.mask_stuck.set(false);
        handler.running.set(false);
    }

    /// Another thread of the process runs up to its create hook while this one is in a call.
    pub fn interlude(&self) {
        let handler = &self.handler;
        match handler.cuts_in_after.get() {
            None => return,
            Some(0) => handler.cuts_in_after.set(None),
            Some(left) => return handler.cuts_in_after.set(Some(left - 1)),
        }
        let me = self.current();
        let other = 1 - me;
        self.switch_to(other);
        // SAFETY: Handler::attach (1); on_thread_create (1, 2, 3): the area of the current task, which outlives it.
        let created = unsafe {
            self.process()
                .on_thread_create(&*handler.areas[other].get())
        };
        drop(created);
        self.switch_to(me);
    }

    pub fn is_filtered(&self, call: Call) -> bool {
        self.answers
            .filter
            .is_some_and(|filter| filter.call == call)
    }
}
