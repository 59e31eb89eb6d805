//! The scheduler: the loop of a carrier.

use core::ptr;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::time::Duration;

use rseq_rt::{Area, Thread};
use rustix::thread::futex;

use super::Runtime;
use crate::carrier::{Carrier, Schedule};
use crate::green::{Ready, Request};
use crate::queue::RunQueue;
use crate::slots::{Count, Slot};
use crate::sys::now;
use crate::timers::NEVER;

/// A busy carrier looks once in so many rounds at the clock,
const ROUNDS_PER_LOOK: u32 = 64;
/// and for work that others have left behind.
const ROUNDS_PER_RESCUE: u32 = 256;

impl<Q: RunQueue> Runtime<Q> {
    /// Queues a green thread that has become ready, and wakes a sleeper for it.
    ///
    /// # Safety
    /// 1. `area` is the calling carrier's.
    unsafe fn make_ready(&self, area: &Area, green: Ready) {
        // SAFETY: push (1) is (1).
        unsafe { self.queue.push(area, green) };
        self.idle.wake_one();
    }

    /// The next green thread to run: those handed to this carrier by name take turns with the queue.
    ///
    /// # Safety
    /// 1. `area` is the calling carrier's, and `slot` the one it entered.
    #[inline]
    unsafe fn next(&self, area: &Area, slot: &Slot, round: u32) -> Option<Ready> {
        if round.is_multiple_of(ROUNDS_PER_RESCUE) {
            // SAFETY: rescue (1) is (1).
            let rescued = unsafe { self.queue.rescue(area, round / ROUNDS_PER_RESCUE) };
            if rescued.is_some() {
                slot.count(Count::Steals);
                return rescued;
            }
        }
        if slot.has_mail()
            && round.is_multiple_of(2)
            && let Some(green) = slot.pop_mail()
        {
            return Some(green);
        }
        // SAFETY: pop (1) is (1).
        if let Some(green) = unsafe { self.queue.pop(area) } {
            return Some(green);
        }
        if slot.has_mail() {
            return slot.pop_mail();
        }
        // SAFETY: steal (1) is (1).
        let stolen = unsafe { self.queue.steal(area) };
        if stolen.is_some() {
            slot.count(Count::Steals);
        }
        stolen
    }

    /// Runs `green` until it stops, and serves its request.
    ///
    /// # Safety
    /// 1. `carrier` is the calling thread's.
    #[inline]
    unsafe fn run_one(&self, carrier: &Carrier, green: Ready) {
        let raw = green.into_raw();
        carrier.set_current(raw);
        // SAFETY: from_raw (1) it was taken apart for its address only.
        let Some(green) = (unsafe { Ready::from_raw(raw) }) else {
            return;
        };
        let request = green.resume();
        carrier.set_current(ptr::null_mut());
        let area = carrier.area();
        // SAFETY: push, make_ready (1) is (1).
        unsafe {
            match request {
                // No wake: this carrier takes it itself.
                Some(Request::Yield) => self.queue.push(area, green),
                Some(Request::Join) => {
                    let target = ptr::with_exposed_provenance(green.operand());
                    if let Some(green) = green.await_end(target) {
                        self.queue.push(area, green);
                    }
                }
                Some(Request::Sleep) => {
                    let until = green.operand() as u64;
                    if self.timers.insert(until, green) {
                        // The sleepers' limit is too long now.
                        self.idle.wake_one();
                    }
                }
                Some(Request::Move) => {
                    let number = green.operand();
                    self.slots
                        .hand(number, green, |green| self.queue.push(area, green));
                    // A single wake may reach the wrong sleeper.
                    self.idle.wake_all();
                }
                None => {
                    self.greens.fetch_sub(1, Relaxed);
                    if let Some(waiting) = green.finish() {
                        self.make_ready(area, waiting);
                    }
                }
            }
        }
    }

    /// Makes the green threads ready whose time has come.
    ///
    /// # Safety
    /// 1. `area` is the calling carrier's.
    #[cold]
    unsafe fn look_at_clock(&self, area: &Area) {
        let now = now();
        while self.timers.first() <= now {
            let Some(due) = self.timers.take_due(now) else {
                return;
            };
            // SAFETY: make_ready (1) is (1).
            unsafe { self.make_ready(area, due) };
        }
    }

    /// Sleeps until there is work, or something else to do.
    fn rest(&self, slot: &Slot) {
        slot.count(Count::Rests);
        let Some(epoch) = self.idle.announce() else {
            return;
        };
        let work = !self.queue.is_empty()
            || slot.has_mail()
            || self.to_leave.load(Relaxed) != 0
            || self.stopping.load(Acquire);
        let limit = match self.timers.first() {
            NEVER => None,
            first => Some(Duration::from_nanos(first.saturating_sub(now()))),
        };
        if work || limit == Some(Duration::ZERO) {
            self.idle.stay();
        } else {
            self.idle.sleep(epoch, limit);
        }
    }

    fn is_to_leave(&self) -> bool {
        if self.stopping.load(Relaxed) {
            return true;
        }
        let less = |count: u32| count.checked_sub(1);
        self.to_leave.load(Relaxed) != 0
            && self.to_leave.fetch_update(AcqRel, Relaxed, less).is_ok()
    }
}

impl<Q: RunQueue> Schedule for Runtime<Q> {
    fn run(&self, carrier: &Carrier, thread: &Thread<'_>) {
        let area = thread.area();
        let Some(slot) = self.slots.enter(carrier.tid()) else {
            return;
        };
        let mut round = 0u32;
        while !self.is_to_leave() {
            round = round.wrapping_add(1);
            if self.timers.first() != NEVER && round.is_multiple_of(ROUNDS_PER_LOOK) {
                // SAFETY: look_at_clock (1) this carrier's.
                unsafe { self.look_at_clock(area) };
            }
            // SAFETY: next (1) this carrier's; run_one (1) likewise.
            match unsafe { self.next(area, slot, round) } {
                Some(green) => {
                    slot.count(Count::Switches);
                    // More than one: a sleeper could take the others. In every round: while this carrier had a ring or
                    // the overflow slot in hand it looked empty, and a carrier that went to sleep over that waits for
                    // this check; `green` may run for long.
                    if self.idle.is_anyone_asleep() && !self.queue.is_empty() {
                        self.idle.wake_one();
                    }
                    // SAFETY: as above.
                    unsafe { self.run_one(carrier, green) };
                }
                None => {
                    self.rest(slot);
                    // SAFETY: look_at_clock (1) this carrier's.
                    unsafe { self.look_at_clock(area) };
                }
            }
        }
        // SAFETY: push (1) this carrier's.
        self.slots
            .leave(slot, |green| unsafe { self.queue.push(area, green) });
        // Queued work is left to the others, and they may all be asleep.
        self.idle.wake_all();
    }

    fn left(&self) {
        // The last use of `self`: a waiter checks the number, and does not rely on the wake.
        if self.live.fetch_sub(1, Release) == 1 {
            let _ = futex::wake(&self.live, futex::Flags::PRIVATE, u32::MAX >> 1);
        }
    }
}
