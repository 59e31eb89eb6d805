//! Handlers, and the two storms: a timer for one thread, and a helper thread that keeps sending to many.

use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SA_RESTART, SA_SIGINFO, kernel_sigaction, siginfo_t};

use crate::errno::Errno;
use crate::sys::signal::{Mask, action, kill_thread, mask};
use crate::sys::time::{self, Span};
use crate::thread::{self, Joinable};

/// A handler; the last argument is the kernel's ucontext.
pub type Handler = unsafe extern "C" fn(i32, *mut siginfo_t, *mut u8);

/// `handler` is an address, or 0 for the default.
fn sigaction(handler: usize, flags: u32, blocked: u64) -> kernel_sigaction {
    // SAFETY: all zeroes is a valid value: no handler, no restorer.
    let mut action: kernel_sigaction = unsafe { mem::zeroed() };
    // SAFETY: both types are one word, and None is 0.
    action.sa_handler_kernel = unsafe { mem::transmute::<usize, Option<_>>(handler) };
    action.sa_flags = flags.into();
    action.sa_mask.sig = [blocked];
    // On other CPUs the kernel returns through its vDSO.
    #[cfg(target_arch = "x86_64")]
    {
        action.sa_flags |= u64::from(linux_raw_sys::general::SA_RESTORER);
        action.sa_restorer = Some(crate::arch::restorer);
    }
    action
}

/// Installs a handler with SA_RESTART, which runs with `blocked` blocked.
///
/// # Safety
/// 1. The handler may run at any point of any thread.
pub unsafe fn handle(signal: i32, handler: Handler, blocked: u64) -> Result<(), Errno> {
    let flags = SA_SIGINFO | SA_RESTART;
    let entry = crate::arch::handler_entry(signal, handler as usize);
    // SAFETY: 1.
    unsafe { action(signal, &sigaction(entry, flags, blocked)) }
}

pub fn default(signal: i32) -> Result<(), Errno> {
    // SAFETY: no handler, so no code of this program runs.
    unsafe { action(signal, &sigaction(0, 0, 0)) }
}

/// A periodic signal to one thread, until dropped.
pub struct Timer(i32);

impl Timer {
    /// `signal` to the thread `tid` every `span`.
    pub fn every(span: Span, tid: u32, signal: i32) -> Result<Self, Errno> {
        let timer = Self(time::timer_create(tid, signal)?);
        time::timer_every(timer.0, span)?;
        Ok(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The timer exists, so this cannot fail.
        let _ = time::timer_delete(self.0);
    }
}

/// Shared by a storm thread and its starter.
pub struct StormState<const N: usize> {
    /// The threads to hit; 0: none. A stale tid is harmless: tgkill(2) finds no such thread in this process, or one
    /// that is a valid target too.
    pub targets: &'static [AtomicU32; N],
    pub sent: AtomicU64,
    signal: i32,
    pause: Span,
    over: AtomicBool,
}

/// A thread that sends one signal to all targets until stopped.
#[must_use]
pub struct Storm<const N: usize>(Joinable<StormState<N>>);

impl<const N: usize> Storm<N> {
    /// Starts it, with a pause after each round (0: none). The thread itself blocks every signal.
    pub fn start(
        targets: &'static [AtomicU32; N],
        signal: i32,
        pause: Span,
    ) -> Result<Self, Errno> {
        let state = StormState {
            targets,
            sent: AtomicU64::new(0),
            signal,
            pause,
            over: AtomicBool::new(false),
        };
        // The child inherits the mask, so its signals are never open.
        let before = mask(Mask::Exactly(u64::MAX))?;
        let thread = thread::start(64 * 1024, state, Self::rounds);
        mask(Mask::Exactly(before))?;
        thread.map(Self)
    }

    fn rounds(state: &StormState<N>) {
        while !state.over.load(Relaxed) {
            let tids = state.targets.iter().map(|tid| tid.load(Relaxed));
            for tid in tids.filter(|&tid| tid != 0) {
                // ESRCH: just gone. EAGAIN: its queue is full.
                if kill_thread(tid, state.signal).is_ok() {
                    state.sent.fetch_add(1, Relaxed);
                }
            }
            if state.pause > Span(0) {
                let _ = time::sleep(state.pause);
            }
        }
    }

    /// Stops and joins it. Returns the number of signals sent.
    pub fn stop(self) -> Result<u64, Errno> {
        self.0.payload().over.store(true, Relaxed);
        self.0.wait();
        let sent = self.0.payload().sent.load(Relaxed);
        self.0.join().map(|()| sent)
    }
}
