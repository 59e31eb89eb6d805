//! The runtime: the state shared by carriers and green threads, and the start of both.

mod schedule;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

use rustix::io::Errno;
use rustix::thread::futex;
use rustix_futex_sync::Mutex;

use crate::carrier::{self, Exit, Joinable, Schedule as _};
use crate::green::{self, Handle};
use crate::idle::Idle;
use crate::queue::RunQueue;
use crate::slots::{Count, Slots};
use crate::sys::exit_group;
use crate::timers::Timers;

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
    /// process, since detached carriers use it until they end.
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
    /// Those of mmap(2) and clone(2).
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

    /// Asks one carrier to leave, whichever comes first. Its green threads continue on the others.
    pub fn retire_carrier(&self) {
        self.to_leave.fetch_add(1, Relaxed);
        self.idle.wake_all();
    }

    /// The slots that have a carrier, with its kernel thread's id.
    pub fn tids(&self) -> impl Iterator<Item = (usize, u32)> {
        self.slots.carriers()
    }

    /// The number of carriers.
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
                live => _ = futex::wait(&self.live, futex::Flags::PRIVATE, live, None),
            }
        }
        self.reap();
        self.stopping.store(false, Release);
    }

    fn reap(&self) {
        let joinable = core::mem::take(&mut *self.joinable.lock());
        for carrier in joinable {
            if carrier.join().is_err() {
                exit_group(122);
            }
        }
    }

    /// The counts of all carriers.
    pub fn sum(&self, count: Count) -> u64 {
        self.slots.sum(count)
    }

    /// Starts a green thread, from another one or from the main thread.
    ///
    /// # Errors
    /// EAGAIN if there are as many as the runtime was made for; those of mmap(2).
    ///
    /// # Safety
    /// 1. `body` may be on another carrier after each switch: it keeps nothing across one that belongs to a kernel
    ///    thread.
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
        carrier::here(|carrier| unsafe { self.queue.push(carrier.area(), green) });
        self.idle.wake_one();
        Ok(handle)
    }
}
