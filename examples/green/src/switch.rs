//! The requests of a green thread to its carrier. After each of them it may be on another carrier.

use core::time::Duration;

use crate::carrier;
use crate::green::{Green, Request, suspend};
use crate::sys;

/// Lets others run. A no-op on a thread that is not green.
#[inline]
pub fn yield_now() {
    switch(Request::Yield, 0);
}

/// Sleeps for `span` at least, and lets others run.
pub fn sleep(span: Duration) {
    let until = sys::now().saturating_add(span.as_nanos() as u64);
    if !switch(Request::Sleep, until as usize) {
        let _ = sys::sleep(span);
    }
}

/// Continues on the carrier in `slot`, if there is one.
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
    // SAFETY: the calling thread's own carrier; it is not used after the switch.
    let carrier = unsafe { &*carrier::here_unguarded() };
    if carrier.is_lent() {
        // After a switch in a closure of `here`, the borrowed carrier would be the wrong one.
        sys::exit_group(121);
    }
    let green = carrier.current();
    if green.is_null() {
        return false;
    }
    // SAFETY: (1) `current` of the calling carrier.
    unsafe { suspend(green, request, operand) };
    true
}
