//! What a green thread asks of its carrier. After each of these it may be on another one.

use guests::sys::process;
use guests::sys::time::{self, Span};

use crate::carrier;
use crate::green::{Green, Request, suspend};

/// Lets others run. Nothing happens on a thread that is not green.
#[inline]
pub fn yield_now() {
    switch(Request::Yield, 0);
}

/// Sleeps for `span` at least, and lets others run.
pub fn sleep(span: Span) {
    let until = time::now().0.saturating_add(span.0);
    if !switch(Request::Sleep, until as usize) {
        let _ = time::sleep(span);
    }
}

/// Goes on on the carrier in `slot`, if there is one.
pub fn move_to(slot: usize) {
    switch(Request::Move, slot);
}

/// Waits for the end of `target`, whose handle the caller holds.
pub(crate) fn until_end_of(target: *mut Green) {
    switch(Request::Join, target.expose_provenance());
}

/// False on a thread that is not green.
#[inline]
fn switch(request: Request, operand: usize) -> bool {
    let carrier = carrier::here_unguarded();
    // SAFETY: the calling thread's own carrier; it is not used after the switch.
    let Some(carrier) = (unsafe { carrier.as_ref() }) else {
        return false;
    };
    if carrier.is_lent() {
        // Whoever lent the carrier to a closure that switches would find another one when that returns.
        process::exit_group(121);
    }
    let green = carrier.current();
    if green.is_null() {
        return false;
    }
    // SAFETY: (1) `current` of the calling carrier.
    unsafe { suspend(green, request, operand) };
    true
}
