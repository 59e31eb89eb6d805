//! The library's values of the numbers that header and library share.

use core::ffi::{c_int, c_uint};

use rseq_rt::Area;

use crate::{at_exit, exit, process, state};

/// The numbers, in the order of `RSEQ_RT_LAYOUT` in `rseq_rt.h`.
const LAYOUT: [c_uint; 25] = [
    Area::SIZE as c_uint,
    Area::ALIGN as c_uint,
    Area::CPU_ID_OFFSET as c_uint,
    Area::STATE_OFFSET as c_uint,
    at_exit::SIZE as c_uint,
    at_exit::ALIGN as c_uint,
    at_exit::CAPACITY as c_uint,
    process::OWNER_UNDECIDED as c_uint,
    process::OWNER_NOBODY as c_uint,
    process::OWNER_LIBC as c_uint,
    process::OWNER_RUNTIME as c_uint,
    state::UNREGISTERED as c_uint,
    state::REGISTERED as c_uint,
    state::REGISTERED_BY_LIBC as c_uint,
    state::UNAVAILABLE as c_uint,
    state::LENT as c_uint,
    state::EXITING as c_uint,
    exit::KEEP,
    exit::RELEASE,
    exit::RELEASED as c_uint,
    exit::KEPT as c_uint,
    process::CLAIM_RUNTIME,
    process::DISABLED,
    process::LEGACY_LENGTH,
    process::SLICE_EXTENSION,
];

// The half-word that `rseq_rt_cpu_by_load` compares with.
const _: () = assert!(Area::STATE_REGISTERED as c_int == state::REGISTERED);

/// See `rseq_rt.h`.
#[unsafe(no_mangle)]
pub static rseq_rt_layout: [c_uint; LAYOUT.len()] = LAYOUT;
