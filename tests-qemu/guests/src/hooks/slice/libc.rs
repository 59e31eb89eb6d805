//! The extension in a libc's area: enabled by the thread, by prctl(2), and used there.

use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::abi::{CS_FLAG_SLICE_EXT_AVAILABLE, LEGACY_LENGTH, SLICE_REQUEST};
use rseq_rt::arch::SIGNATURE;
use rseq_rt::{Area, Claim, Errno, Error, Owner, Process, Slice, SliceEnd, State};

use super::{control, enabled};
use crate::harness::{Ctx, passed, skip};
use crate::hooked;
use crate::hooks::common::{Hooks as _, at};
use crate::hooks::foreign::libc::{Libc, export_sized};
use crate::sys::rseq::rseq;
use crate::witness::rseq_of;

static PROCESS: Process<Libc> = Process::with_kernel(Libc);
static LIBCS: Area = Area::new();
static OURS: Area = Area::new();

/// The main thread of a libc that registers `length` bytes.
fn begin(ctx: &Ctx<'_>, length: u32) {
    // SAFETY: rseq (1) static memory, for ever; (2) nobody else registers in this process.
    unsafe { rseq(at(&LIBCS), length, 0, SIGNATURE) }.unwrap();
    export_sized(core::ptr::from_ref(&rseq_of(&LIBCS).cpu_id).cast(), length);
    PROCESS
        .init(hooked::config(ctx.env).claim(Claim::Detect))
        .unwrap();
    let state = PROCESS.ensure(&OURS);
    assert_eq!(state, Ok(State::Registered(Owner::Libc)));
}

fn set(on: bool) -> Result<(), Error> {
    // SAFETY: set_slice_extension (1) the one thread's.
    unsafe { PROCESS.set_slice_extension(&OURS, on) }
}

fn get() -> Result<bool, Error> {
    // SAFETY: slice_extension (1) the one thread's.
    unsafe { PROCESS.slice_extension(&OURS) }
}

fn slice() -> Option<Slice<'static>> {
    // SAFETY: Process::slice (1) the one thread's; (2) it is neither lent nor ended.
    unsafe { PROCESS.slice(&OURS) }
}

const NOT_HERE: Error = Error::Unavailable(Errno::NOSYS);

#[track_caller]
fn assert_refused() {
    let before = rseq_of(&LIBCS).flags.load(Relaxed);
    assert_eq!(set(true), Err(NOT_HERE));
    assert!(slice().is_none());
    assert_eq!(rseq_of(&LIBCS).flags.load(Relaxed), before);
    assert_eq!(control(&LIBCS), 0);
}

pub fn switched_on(ctx: &Ctx<'_>) {
    begin(ctx, hooked::config(ctx.env).length());
    if rseq_of(&LIBCS).flags.load(Relaxed) & CS_FLAG_SLICE_EXT_AVAILABLE == 0 {
        assert_refused();
        // Ok where the kernel knows the question and has the extension switched off.
        assert!(matches!(get(), Err(NOT_HERE) | Ok(false)));
        skip!("this kernel has no slice extension, or it is switched off");
    }
    assert!(slice().is_none());
    for _ in 0..3 {
        assert_eq!((get(), set(true), get()), (Ok(false), Ok(()), Ok(true)));
        assert_eq!(enabled(), Ok(1));
        assert!(!OURS.has_slice_extension(), "this runtime's area has it");
        let slice = slice().expect("it is on");
        let outer = slice.request();
        let inner = slice.request();
        assert_ne!(slice.end(inner), SliceEnd::Off);
        assert_ne!(slice.end(outer), SliceEnd::Nested);
        assert_eq!(control(&LIBCS) & SLICE_REQUEST, 0, "a request stands");
        assert_eq!((set(false), get()), (Ok(()), Ok(false)));
        assert!(self::slice().is_none());
        assert_eq!(enabled(), Ok(0));
    }
}

/// No room for the word: the kernel is not called, and nothing behind the size is accessed.
pub fn refused(ctx: &Ctx<'_>) {
    begin(ctx, LEGACY_LENGTH);
    assert_refused();
    assert_eq!(get(), Err(NOT_HERE));
    passed!("feature size {}", PROCESS.feature_size());
}
