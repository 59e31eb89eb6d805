//! The structures and constants of the rseq(2) ABI, to Linux 7.x.
//!
//! Source: the kernel's `include/uapi/linux/rseq.h`. They are written out here
//! because `linux-raw-sys` carries the system call number only.

use core::mem::{align_of, offset_of, size_of};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

/// `struct rseq`: what the kernel and one thread share.
///
/// The kernel may write any field whenever the thread returns to user mode, so
/// every field is an atomic; `Relaxed` is enough, because the writer is this
/// very thread's kernel side. The type covers 64 bytes, which is what Linux
/// 7.x aligns to and more than any released kernel writes.
#[repr(C, align(32))]
#[derive(Debug)]
pub struct Rseq {
    /// Always a possible CPU once registered; 0 after unregistration, all ones on Linux 6.19.
    pub cpu_id_start: AtomicU32,
    /// The CPU, or [`CPU_ID_UNINITIALIZED`], or [`CPU_ID_REGISTRATION_FAILED`].
    pub cpu_id: AtomicI32,
    /// Address of the active [`RseqCs`], or 0. User space sets, the kernel clears.
    pub rseq_cs: AtomicU64,
    /// Zero from user space; from Linux 7.0 the kernel writes `FLAG_SLICE_*` at registration.
    pub flags: AtomicU32,
    /// NUMA node of the CPU (Linux 6.3).
    pub node_id: AtomicU32,
    /// Concurrency id: dense per process, below the number of its threads and CPUs (Linux 6.3).
    pub mm_cid: AtomicU32,
    /// Time-slice extension (Linux 7.0): [`SLICE_REQUEST`] and [`SLICE_GRANTED`]. `struct rseq_slice_ctrl` as the one
    /// word that its `all` is, so that both bits change together.
    pub slice_ctrl: AtomicU32,
    /// Byte 32 is reserved so that the feature size reads 33; the rest is for later kernels.
    pub future: [AtomicU64; 4],
}

/// `struct rseq_cs`: the descriptor of one critical section. Section `__rseq_cs`.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug)]
pub struct RseqCs {
    /// Zero.
    pub version: u32,
    /// Zero.
    pub flags: u32,
    /// Address of the first instruction.
    pub start_ip: u64,
    /// Bytes from `start_ip` to the first instruction after the committing store.
    pub post_commit_offset: u64,
    /// Where the kernel sends the thread instead; the word before it is the signature.
    pub abort_ip: u64,
}

/// `cpu_id` before registration and after unregistration.
pub const CPU_ID_UNINITIALIZED: i32 = -1;
/// `cpu_id` of an area whose registration was refused. A user-space convention.
pub const CPU_ID_REGISTRATION_FAILED: i32 = -2;

/// Registration flag: unregister.
pub const FLAG_UNREGISTER: u32 = 1 << 0;
/// Registration flag: register with the slice extension enabled (Linux 7.0).
pub const FLAG_SLICE_EXT_DEFAULT_ON: u32 = 1 << 1;

/// `Rseq::flags`: this kernel has the slice extension.
pub const CS_FLAG_SLICE_EXT_AVAILABLE: u32 = 1 << 4;
/// `Rseq::flags`: it is enabled for this thread.
pub const CS_FLAG_SLICE_EXT_ENABLED: u32 = 1 << 5;

/// `Rseq::slice_ctrl`: user space sets it to ask for an extension; either side clears it.
pub const SLICE_REQUEST: u32 = 1 << 0;
/// `Rseq::slice_ctrl`: the kernel sets it when it granted one, and clears it when that ends.
pub const SLICE_GRANTED: u32 = 1 << 8;

/// The length every kernel accepts, and the alignment it then demands.
pub const LEGACY_LENGTH: u32 = 32;
/// Feature size of a kernel that states none: the fields up to `flags`.
pub const LEGACY_FEATURE_SIZE: u32 = 20;
/// Feature size from which `node_id` is valid.
pub const FEATURE_SIZE_NODE_ID: u32 = 24;
/// Feature size from which `mm_cid` is valid.
pub const FEATURE_SIZE_MM_CID: u32 = 28;
/// Feature size from which `slice_ctrl` is valid; the first one above the legacy length.
pub const FEATURE_SIZE_SLICE_CTRL: u32 = 33;

/// prctl(2) of the slice extension (Linux 7.0), its two commands, and the argument that switches it on.
pub const PR_RSEQ_SLICE_EXTENSION: usize = 79;
/// See [`PR_RSEQ_SLICE_EXTENSION`].
pub const PR_RSEQ_SLICE_EXTENSION_GET: usize = 1;
/// See [`PR_RSEQ_SLICE_EXTENSION`].
pub const PR_RSEQ_SLICE_EXTENSION_SET: usize = 2;
/// See [`PR_RSEQ_SLICE_EXTENSION`].
pub const PR_RSEQ_SLICE_EXT_ENABLE: usize = 1;

/// `rseq_slice_yield(2)`, the same number on the three CPUs (Linux 7.0).
pub const NR_RSEQ_SLICE_YIELD: usize = 471;

/// The field at `offset`. No reference to the whole is made: an area of a libc may be shorter.
pub(crate) fn field<T>(rseq: NonNull<Rseq>, offset: usize) -> *mut T {
    rseq.as_ptr().cast::<u8>().wrapping_add(offset).cast()
}

const _: () = {
    assert!(size_of::<Rseq>() == 64 && align_of::<Rseq>() == 32);
    assert!(offset_of!(Rseq, cpu_id_start) == 0);
    assert!(offset_of!(Rseq, cpu_id) == 4);
    assert!(offset_of!(Rseq, rseq_cs) == 8);
    assert!(offset_of!(Rseq, flags) == 16);
    assert!(offset_of!(Rseq, node_id) == 20);
    assert!(offset_of!(Rseq, mm_cid) == 24);
    assert!(offset_of!(Rseq, slice_ctrl) == 28);
    assert!(offset_of!(Rseq, future) == 32);
    assert!(size_of::<RseqCs>() == 32 && align_of::<RseqCs>() == 32);
    assert!(offset_of!(RseqCs, start_ip) == 8);
    assert!(offset_of!(RseqCs, post_commit_offset) == 16);
    assert!(offset_of!(RseqCs, abort_ip) == 24);
};
