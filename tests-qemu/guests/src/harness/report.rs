//! The report of a test, in a page shared by all its processes. The first failure counts: later ones are mostly its
//! consequence.

use core::cell::UnsafeCell;
use core::fmt::{Arguments, Write as _};
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::errno::Errno;
use crate::sys::time::{self, Span};
use crate::sys::{mm, process};
use crate::text::Text;

/// The outcome, in ascending precedence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Passed,
    Skipped,
    Failed,
}

/// One text, written by the first claimant.
struct Slot {
    claimed: AtomicBool,
    complete: AtomicBool,
    text: UnsafeCell<Text>,
}

/// One slot for each kind, so that a failure never meets a half-written success.
#[repr(C)]
pub(super) struct Report {
    passed: Slot,
    skipped: Slot,
    failed: Slot,
}

// SAFETY: only the thread that sets `claimed` writes the text, and readers check `complete`.
unsafe impl Sync for Slot {}

static REPORT: AtomicPtr<Report> = AtomicPtr::new(ptr::null_mut());

pub(super) fn current() -> *mut Report {
    REPORT.load(Acquire)
}

pub(super) fn set(report: *mut Report) {
    REPORT.store(report, Release);
}

/// Maps the page to be shared with children; outcomes go there from now on.
pub(super) fn share() -> Result<&'static Report, Errno> {
    let page = mm::map_shared(mm::whole_pages(size_of::<Report>()))?.cast();
    REPORT.store(page, Release);
    // SAFETY: zeroed shared memory that is never unmapped; all zeroes is a Report.
    Ok(unsafe { &*page })
}

impl Slot {
    fn say(&self, text: Arguments<'_>) {
        if !self.claimed.swap(true, Acquire) {
            // SAFETY: this thread set `claimed`.
            let to = unsafe { &mut *self.text.get() };
            to.clear();
            let _ = to.write_fmt(text);
            self.complete.store(true, Release);
        }
    }

    /// The text, for a test whose processes are all gone.
    fn said(&self) -> Option<&Text> {
        // A thread killed while writing leaves a partial text.
        // SAFETY: nobody writes it any more.
        self.claimed
            .load(Acquire)
            .then(|| unsafe { &*self.text.get() })
    }
}

impl Report {
    const fn slots(&self) -> [(Kind, &Slot); 3] {
        use Kind::{Failed, Passed, Skipped};
        [
            (Failed, &self.failed),
            (Skipped, &self.skipped),
            (Passed, &self.passed),
        ]
    }

    /// Resets it for the next test; the processes of the previous one are gone.
    pub(super) fn clear(&self) {
        for (_, slot) in self.slots() {
            slot.complete.store(false, Relaxed);
            slot.claimed.store(false, Release);
        }
    }

    /// The text of the highest precedence.
    pub(super) fn said(&self) -> Option<(Kind, &Text)> {
        self.slots()
            .into_iter()
            .find_map(|(kind, slot)| Some((kind, slot.said()?)))
    }

    fn slot(&self, kind: Kind) -> &Slot {
        match kind {
            Kind::Passed => &self.passed,
            Kind::Skipped => &self.skipped,
            Kind::Failed => &self.failed,
        }
    }
}

pub(super) fn say(kind: Kind, text: Arguments<'_>) {
    let report = REPORT.load(Acquire);
    // SAFETY: null before the first test, then never unmapped.
    match unsafe { report.as_ref() } {
        Some(report) => report.slot(kind).say(text),
        None => crate::console::print_line(text),
    }
}

/// The exit code of a process that panicked.
pub const PANICKED: i32 = 101;

/// A panic in any process or thread of a test: a failure, and the end of the process.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let message = info.message();
    match info.location() {
        Some(place) => {
            let (file, line) = (place.file(), place.line());
            say(Kind::Failed, format_args!("{message} ({file}:{line})"));
        }
        None => say(Kind::Failed, format_args!("{message}")),
    }
    // Another panicking thread may not have finished its text.
    // SAFETY: null before the first test, then never unmapped.
    if let Some(report) = unsafe { current().as_ref() } {
        let complete = || report.failed.complete.load(Acquire);
        let _ = (0..100).any(|_| complete() || time::sleep(Span::millis(1)).is_err());
    }
    process::exit_group(PANICKED)
}

/// Implements [`passed!`](super::passed!).
pub fn note_passed(text: Arguments<'_>) {
    say(Kind::Passed, text);
}

/// Implements [`skip!`](super::skip!).
pub fn skip_now(text: Arguments<'_>) -> ! {
    say(Kind::Skipped, text);
    process::exit_group(0)
}
