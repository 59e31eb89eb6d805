//! Clocks, sleeping, timers.

use linux_raw_sys::general::{
    __NR_clock_gettime, __NR_nanosleep, __NR_timer_create, __NR_timer_delete, __NR_timer_settime,
    __kernel_itimerspec, __kernel_timespec, CLOCK_MONOTONIC, SIGEV_THREAD_ID, sigevent,
};

use super::raw::syscall;
use crate::errno::Errno;

/// A span of time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

const SECOND: u64 = 1_000_000_000;

impl Span {
    pub const fn secs(n: u64) -> Self {
        Self(n.saturating_mul(SECOND))
    }

    pub const fn millis(n: u64) -> Self {
        Self(n.saturating_mul(1_000_000))
    }

    pub const fn micros(n: u64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    pub const fn timespec(self) -> __kernel_timespec {
        __kernel_timespec {
            tv_sec: (self.0 / SECOND) as i64,
            tv_nsec: (self.0 % SECOND) as i64,
        }
    }
}

/// The monotonic clock.
pub fn now() -> Span {
    let mut now = Span(0).timespec();
    // The clock always exists.
    // SAFETY: writes `now`.
    let _ = unsafe { syscall!(__NR_clock_gettime, CLOCK_MONOTONIC, &raw mut now) };
    let seconds = (now.tv_sec as u64).wrapping_mul(SECOND);
    Span(seconds.wrapping_add(now.tv_nsec as u64))
}

/// nanosleep(2): ends early when a handler has run.
pub fn sleep(span: Span) -> Result<(), Errno> {
    let span = span.timespec();
    // SAFETY: reads the time.
    unsafe { syscall!(__NR_nanosleep, &raw const span, 0) }.map(drop)
}

/// timer_create(2) whose signal goes to the thread `tid` of this process.
pub fn timer_create(tid: u32, signal: i32) -> Result<i32, Errno> {
    // SAFETY: all zeroes is a valid value.
    let mut event: sigevent = unsafe { core::mem::zeroed() };
    event.sigev_signo = signal;
    event.sigev_notify = SIGEV_THREAD_ID as i32;
    event._sigev_un._tid = tid as i32;
    let (event, mut timer) = (&raw const event, 0i32);
    // SAFETY: reads the event, writes the timer's number.
    unsafe { syscall!(__NR_timer_create, CLOCK_MONOTONIC, event, &raw mut timer) }?;
    Ok(timer)
}

/// timer_settime(2): first after `span` and then every `span`; 0 stops it.
pub fn timer_every(timer: i32, span: Span) -> Result<(), Errno> {
    timer_settime(timer, span, span)
}

/// timer_settime(2): once, after `span`.
pub fn timer_once(timer: i32, span: Span) -> Result<(), Errno> {
    timer_settime(timer, span, Span(0))
}

fn timer_settime(timer: i32, first: Span, each: Span) -> Result<(), Errno> {
    let times = __kernel_itimerspec {
        it_interval: each.timespec(),
        it_value: first.timespec(),
    };
    // SAFETY: reads the times.
    unsafe { syscall!(__NR_timer_settime, timer, 0, &raw const times, 0) }.map(drop)
}

pub fn timer_delete(timer: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { syscall!(__NR_timer_delete, timer) }.map(drop)
}
