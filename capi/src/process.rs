//! The process-wide state, and its configuration.

use core::ffi::{c_int, c_uint};

use rseq_rt::{Claim, Config, Error, Owner, Process};

use crate::given::done;

/// The process-wide state. A libc may make its memory read-only once the first thread was created.
pub static PROCESS: Process = Process::new();

pub const CLAIM_RUNTIME: c_uint = 1;
pub const DISABLED: c_uint = 2;
pub const LEGACY_LENGTH: c_uint = 4;
pub const SLICE_EXTENSION: c_uint = 8;

pub const OWNER_UNDECIDED: c_int = 0;
pub const OWNER_NOBODY: c_int = 1;
pub const OWNER_LIBC: c_int = 2;
pub const OWNER_RUNTIME: c_int = 3;

/// Flags that are always set: the trio would otherwise be found, and taken for another owner's.
const ALWAYS: c_uint = if cfg!(feature = "trio") {
    CLAIM_RUNTIME
} else {
    0
};

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `auxv` is null, or points to pairs of words, the last of them of type `AT_NULL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_init(auxv: *const [usize; 2]) -> c_int {
    // SAFETY: rseq_rt_init_flags (1) is this function's.
    unsafe { rseq_rt_init_flags(auxv, 0) }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. As for [`rseq_rt_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_init_flags(auxv: *const [usize; 2], flags: c_uint) -> c_int {
    let flags = flags | ALWAYS;
    let known = CLAIM_RUNTIME | DISABLED | LEGACY_LENGTH | SLICE_EXTENSION;
    if flags & !known != 0 || !auxv.is_aligned() {
        return done::<()>(Err(Error::MisalignedArea));
    }
    let mut config = if auxv.is_null() {
        Config::new(None, None)
    } else {
        // SAFETY: Config::from_auxv (1) is (1), not null and aligned.
        unsafe { Config::from_auxv(auxv) }
    };
    if flags & LEGACY_LENGTH != 0 {
        config = config.legacy_length();
    }
    if flags & SLICE_EXTENSION != 0 {
        config = config.slice_extension();
    }
    if flags & DISABLED != 0 {
        config = config.disabled();
    } else if flags & CLAIM_RUNTIME != 0 {
        config = config.claim(Claim::Runtime);
    }
    done(PROCESS.init(config))
}

/// See `rseq_rt.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_owner() -> c_int {
    match PROCESS.owner() {
        None => OWNER_UNDECIDED,
        Some(Owner::Nobody) => OWNER_NOBODY,
        Some(Owner::Libc) => OWNER_LIBC,
        Some(Owner::Runtime) => OWNER_RUNTIME,
    }
}

/// See `rseq_rt.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_feature_size() -> c_uint {
    PROCESS.feature_size()
}

/// See `rseq_rt.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_length() -> c_uint {
    PROCESS.length()
}
