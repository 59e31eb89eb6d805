//! Requests for a time slice. The area claims the extension, whatever the kernel has, and a handler grants.

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rseq_rt::abi::{SLICE_GRANTED, SLICE_REQUEST};
use rseq_rt::{Area, Kernel, Linux, SliceEnd};

use super::shared::{Fault, must};
use crate::errno::errno::ENXIO;
use crate::witness;

/// The bit of the area's word.
const EXTENSION: u32 = 1 << 30;

/// The area's control word, for operations that the crate does not offer.
pub fn word(area: &Area) -> &AtomicU32 {
    // SAFETY: in the area, and atomic there, too.
    unsafe {
        let word = ptr::from_ref(area).cast::<u8>().add(Area::STATE_OFFSET);
        &*word.cast::<AtomicU32>()
    }
}

fn control(area: &Area) -> &AtomicU32 {
    &witness::rseq_of(area).slice_ctrl
}

/// Makes the area claim the extension, if it is registered.
pub fn arm(area: &Area) {
    word(area).fetch_or(EXTENSION, Relaxed);
}

/// In a handler: a request and its end, which must not affect the interrupted one.
pub fn request_inside(area: &Area) -> Result<(), Fault> {
    let before = control(area).load(Relaxed);
    let end = area.yield_slice(area.request_slice());
    let expected = match before {
        _ if !area.has_slice_extension() => SliceEnd::Off,
        0 => SliceEnd::NotNeeded,
        _ => SliceEnd::Nested,
    };
    let is_cleared = control(area).load(Relaxed) == 0 && kernel_clears();
    must(
        end == expected || is_cleared,
        "a request in a handler: another end",
    )?;
    must(
        control(area).load(Relaxed) == before || is_cleared,
        "a request in a handler changed the one below",
    )
}

/// The fault of the broken end.
pub const LOST: Fault = "the end of a request does not tell whether it was granted";

static GRANTS: AtomicU32 = AtomicU32::new(0);

/// In place of the kernel returning to user mode.
pub fn grant(area: &Area) {
    let (asked, granted) = (SLICE_REQUEST, SLICE_GRANTED);
    let grant = control(area).compare_exchange(asked, granted, Relaxed, Relaxed);
    GRANTS.fetch_add(u32::from(grant.is_ok()), Relaxed);
}

/// The broken end of a request: a grant between the load and the store is lost.
pub fn broken_yield(area: &Area) -> SliceEnd {
    if control(area).load(Relaxed) == SLICE_REQUEST {
        control(area).store(0, Relaxed);
        return SliceEnd::NotNeeded;
    }
    SliceEnd::Revoked
}

/// A kernel with the extension clears the word whenever it writes the ids and before each handler, with a request in it
/// or not.
pub fn kernel_clears() -> bool {
    match Linux.set_slice_extension(false) {
        Ok(()) => true,
        // Not registered.
        Err(errno) => u32::from(errno.raw()) == ENXIO,
    }
}

/// The end of the whole request: a grant, and nothing else, is given back.
pub fn judge(end: SliceEnd, was_armed: bool) -> Result<(), Fault> {
    let was_granted = GRANTS.swap(0, Relaxed) != 0;
    must(
        match end {
            SliceEnd::Off => !was_armed,
            SliceEnd::Nested => false,
            SliceEnd::NotNeeded => was_armed && !was_granted,
            SliceEnd::Yielded => was_armed && was_granted,
            SliceEnd::Revoked => was_armed && (was_granted || kernel_clears()),
        },
        LOST,
    )
}
