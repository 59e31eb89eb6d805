//! The scheduler: what a carrier does all day.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

use guests::errno::Errno;
use guests::sys::time::{self, Span};
use guests::sys::{futex, process};
use rseq_rt::{Area, Thread};
use rustix_futex_sync::Mutex;

use crate::carrier::{self, Carrier, Exit, Joinable, Schedule};
use crate::green::{self, Handle, Ready, Request};
use crate::idle::Idle;
use crate::queue::RunQueue;
use crate::slots::{Count, Slot, Slots};
use crate::timers::{NEVER, Timers};

/// A carrier with enough to do looks at the clock once in so many rounds.
const ROUNDS_PER_LOOK: u32 = 64;

/// Carriers, green threads, and a run queue between them.
pub struct Runtime<Q> {
    queue: Q,
    idle: Idle,
    timers: Timers,
    slots: Slots,
    capacity: usize,
    greens: AtomicUsize,
    to_leave: AtomicU32,
    stopping: AtomicBool,
    live: AtomicU32,
    joinable: Mutex<Vec<Joinable>>,
}

impl<Q: RunQueue> Runtime<Q> {
    /// A runtime for `capacity` green threads at a time, without a carrier. It lives as long as the
    /// process: detached carriers ask nobody how long they may use it.
    pub fn leak(capacity: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            queue: Q::new(capacity),
            idle: Idle::new(),
            timers: Timers::new(),
            slots: Slots::new(),
            capacity,
            greens: AtomicUsize::new(0),
            to_leave: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
            live: AtomicU32::new(0),
            joinable: Mutex::new(Vec::new()),
        }))
    }

    /// Starts a carrier.
    ///
    /// # Errors
    /// What mmap(2) and clone(2) say.
    pub fn start_carrier(&'static self, exit: Exit) -> Result<(), Errno> {
        self.live.fetch_add(1, Relaxed);
        match carrier::start(self, exit) {
            Ok(joinable) => {
                self.joinable.lock().extend(joinable);
                Ok(())
            }
            Err(errno) => {
                self.left();
                Err(errno)
            }
        }
    }

    /// Asks one carrier to leave, whichever comes first. The green threads go on on the others.
    pub fn retire_carrier(&self) {
        self.to_leave.fetch_add(1, Relaxed);
        self.idle.wake_all();
    }

    /// The slots that have a carrier, with its kernel thread's id.
    pub fn tids(&self) -> impl Iterator<Item = (usize, u32)> {
        self.slots.carriers()
    }

    /// How many carriers there are.
    pub fn carriers(&self) -> u32 {
        self.slots.occupied()
    }

    /// Waits until the carriers have left: all, after a stop.
    pub fn stop(&'static self) {
        self.stopping.store(true, Release);
        self.idle.wake_all();
        loop {
            match self.live.load(Acquire) {
                0 => break,
                live => _ = futex::wait(&self.live, live, None),
            }
        }
        self.reap();
        self.stopping.store(false, Release);
    }

    fn reap(&self) {
        let joinable = core::mem::take(&mut *self.joinable.lock());
        for carrier in joinable {
            if carrier.join().is_err() {
                process::exit_group(122);
            }
        }
    }

    /// What the carriers have counted.
    pub fn sum(&self, count: Count) -> u64 {
        self.slots.sum(count)
    }

    /// Starts a green thread, from any thread that has a carrier's block.
    ///
    /// # Errors
    /// EAGAIN if there are as many as the runtime was made for; what mmap(2) says.
    ///
    /// # Safety
    /// 1. Between two switches `body` is on one carrier, and after each perhaps on another: what it keeps across one
    ///    belongs to no kernel thread.
    pub unsafe fn spawn(&self, body: impl FnOnce() + Send + 'static) -> Result<Handle, Errno> {
        if self.greens.fetch_add(1, Relaxed) >= self.capacity {
            self.greens.fetch_sub(1, Relaxed);
            return Err(Errno::AGAIN);
        }
        // SAFETY: make (1) is (1).
        let made = unsafe { green::make(body) };
        let Ok((green, handle)) = made else {
            self.greens.fetch_sub(1, Relaxed);
            return made.map(|(_, handle)| handle);
        };
        // SAFETY: push (1) the calling thread's own area, and the closure does not switch.
        let pushed = carrier::here(|carrier| unsafe { self.queue.push(carrier.area(), green) });
        if pushed.is_none() {
            // It was neither run nor queued: a green thread without a way to a carrier.
            process::exit_group(123);
        }
        self.idle.wake_one();
        Ok(handle)
    }

    /// Makes one ready that was not, and has a sleeper come for it.
    ///
    /// # Safety
    /// 1. `area` is the calling carrier's.
    unsafe fn make_ready(&self, area: &Area, green: Ready) {
        // SAFETY: push (1) is (1).
        unsafe { self.queue.push(area, green) };
        self.idle.wake_one();
    }

    /// The next one to run: what was handed to this carrier by name takes turns with the queue.
    ///
    /// # Safety
    /// 1. `area` is the calling carrier's, and `slot` the one it entered.
    #[inline]
    unsafe fn next(&self, area: &Area, slot: &Slot, round: u32) -> Option<Ready> {
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

    /// Runs `green` until it stops, and does what it asks for.
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
        carrier.set_current(core::ptr::null_mut());
        let area = carrier.area();
        // SAFETY: push, make_ready (1) is (1).
        unsafe {
            match request {
                // No wake: this carrier comes for it itself.
                Some(Request::Yield) => self.queue.push(area, green),
                Some(Request::Join) => {
                    let target = core::ptr::with_exposed_provenance(green.operand());
                    if let Some(green) = green.await_end(target) {
                        self.queue.push(area, green);
                    }
                }
                Some(Request::Sleep) => {
                    let until = green.operand() as u64;
                    if self.timers.insert(until, green) {
                        // Whoever sleeps, sleeps too long now.
                        self.idle.wake_one();
                    }
                }
                Some(Request::Move) => {
                    let number = green.operand();
                    self.slots
                        .hand(number, green, |green| self.queue.push(area, green));
                    // One wake may reach the wrong sleeper.
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

    /// Wakes whom the clock says.
    ///
    /// # Safety
    /// 1. `area` is the calling carrier's.
    #[cold]
    unsafe fn look_at_clock(&self, area: &Area) {
        let now = time::now().0;
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
        let epoch = self.idle.announce();
        let work = !self.queue.is_empty()
            || slot.has_mail()
            || self.to_leave.load(Relaxed) != 0
            || self.stopping.load(Acquire);
        let limit = match self.timers.first() {
            NEVER => None,
            first => Some(Span(first.saturating_sub(time::now().0))),
        };
        if work || limit == Some(Span(0)) {
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
                    // More than one: somebody who sleeps could have the others.
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
        // What is queued is left to the others, and they may all be asleep.
        self.idle.wake_all();
    }

    fn left(&self) {
        // Here `self` is used for the last time; who waits goes by the number, not by the wake.
        if self.live.fetch_sub(1, Release) == 1 {
            let _ = futex::wake(&self.live, u32::MAX >> 1);
        }
    }
}
