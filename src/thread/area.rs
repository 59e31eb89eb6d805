//! The storage of one thread: the structure that the kernel writes, and the crate's word beside it.

use core::mem::{align_of, size_of};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

use crate::process::config::ALIGN;
use crate::process::state::{REGISTERED, State};
use crate::sys::abi::{
    CPU_ID_REGISTRATION_FAILED, CPU_ID_UNINITIALIZED, CS_FLAG_SLICE_EXT_ENABLED, Rseq,
};
use crate::sys::error::{Errno, Error};
use crate::sys::kernel::Kernel;
use crate::thread::reclaim::{ClearTid, Reclaimed};
use crate::thread::word::Word;

/// One thread's rseq area and state: 128 bytes, aligned to 64, placed by the caller in its TCB.
///
/// All bytes zero is a valid, unregistered area, so freshly mapped memory is one.
///
/// ```text
///   0        32        64     68          72                       96       128
///   | legacy  | later   | word | clear-tid | mapping to be unmapped | unused |
///   +--- the kernel's --+------------------ this crate's --------------------+
/// ```
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Area {
    pub(crate) kernel: Rseq,
    pub(crate) word: Word,
    /// Where the thread's own memory could not be unmapped by itself: see [`Deferred`](crate::Deferred).
    pub(crate) clear_tid: ClearTid,
    pub(crate) mapping: Mapping,
}

const _: () = assert!(size_of::<Area>() == 128 && align_of::<Area>() == 64);

/// The entry of a thread in a [`Deferred`](crate::Deferred) list: what is to be unmapped, and the next entry.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) next: AtomicPtr<Area>,
    pub(crate) base: AtomicPtr<u8>,
    pub(crate) length: AtomicUsize,
}

impl Mapping {
    const fn new() -> Self {
        Self {
            next: AtomicPtr::new(null_mut()),
            base: AtomicPtr::new(null_mut()),
            length: AtomicUsize::new(0),
        }
    }
}

impl Default for Area {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(Area::ALIGN == ALIGN);

impl Area {
    /// Bytes of storage.
    pub const SIZE: usize = size_of::<Self>();
    /// Alignment in bytes.
    pub const ALIGN: usize = align_of::<Self>();
    /// Where the kernel's `cpu_id` is, in bytes: for loads by code in another language.
    pub const CPU_ID_OFFSET: usize = core::mem::offset_of!(Self, kernel.cpu_id);
    /// Where the 32-bit state word is. Its lower 16 bits equal [`Self::STATE_REGISTERED`] while this runtime's
    /// registration stands, the area is not lent and the thread is not exiting.
    pub const STATE_OFFSET: usize = core::mem::offset_of!(Self, word);
    /// See [`Self::STATE_OFFSET`].
    pub const STATE_REGISTERED: u16 = REGISTERED as u16;

    /// An unregistered area.
    pub const fn new() -> Self {
        Self {
            kernel: Rseq {
                cpu_id_start: AtomicU32::new(0),
                cpu_id: AtomicI32::new(CPU_ID_UNINITIALIZED),
                rseq_cs: AtomicU64::new(0),
                flags: AtomicU32::new(0),
                node_id: AtomicU32::new(0),
                mm_cid: AtomicU32::new(0),
                slice_ctrl: AtomicU32::new(0),
                future: [const { AtomicU64::new(0) }; 4],
            },
            word: Word::new(),
            clear_tid: ClearTid::new(),
            mapping: Mapping::new(),
        }
    }

    /// An area in memory that the caller does not vouch for: checked, and nothing written.
    ///
    /// For interfaces that are handed a bare address. The kernel is asked to
    /// touch the memory in our stead (two futex calls), so that a bad address
    /// is an error and not a SIGSEGV.
    ///
    /// # Errors
    /// `NullArea`, `MisalignedArea`, `AreaTooSmall`, `UnwritableArea`.
    ///
    /// # Safety
    /// 1. If the memory is writable, it is zero or an [`Area`], and stays one for `'a`.
    pub unsafe fn from_raw<'a, K: Kernel>(
        kernel: &K,
        address: *mut u8,
        size: usize,
    ) -> Result<&'a Self, Error> {
        let Some(area) = NonNull::new(address.cast::<Self>()) else {
            return Err(Error::NullArea);
        };
        if !area.is_aligned() {
            return Err(Error::MisalignedArea);
        }
        if size < Self::SIZE {
            return Err(Error::AreaTooSmall);
        }
        // An area may straddle two pages: one word in the kernel's half, one in ours. Neither word is an id
        // field, which nobody may store to while registered, not even the same value.
        for offset in [core::mem::offset_of!(Rseq, rseq_cs), size_of::<Rseq>()] {
            let word = address.wrapping_add(offset).cast_const().cast();
            kernel.probe_write(word).map_err(Error::UnwritableArea)?;
        }
        // SAFETY: not null, aligned, large enough, mapped and writable; zero or an Area, and for `'a`, by (1).
        Ok(unsafe { area.as_ref() })
    }

    /// The state of this thread. Callable from anywhere, a signal handler or another thread included.
    #[inline]
    pub fn state(&self) -> State {
        self.word.look().state()
    }

    /// The errno behind [`State::Unavailable`], or behind an exit hook's refusal, if the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        self.word.look().errno()
    }

    /// Whether another area of this thread, somebody else's, is known to be registered. Unlike the state, also under a loan
    /// and at the exit.
    pub fn is_taken(&self) -> bool {
        self.word.look().is_taken()
    }

    /// Whether the area is an entry of a [`Deferred`](crate::Deferred) list, so that nobody may use it yet.
    pub fn is_deferred(&self) -> bool {
        !self.mapping.base.load(Acquire).is_null()
    }

    /// The `cpu_id` field as it stands: a CPU, -1 or -2. One load.
    ///
    /// Only the thread itself learns anything from it, and only while
    /// [`Self::state`] says `Registered(Runtime)`: a vfork child sees its parent's.
    #[inline]
    pub fn cpu_id(&self) -> i32 {
        self.kernel.cpu_id.load(Relaxed)
    }

    /// The CPU by a load, `None` where this runtime has not registered the thread.
    ///
    /// For a libc, whose vDSO is a faster way out than getcpu(2). The same
    /// conditions as [`Self::cpu_id`], and a lent area is none.
    #[inline]
    pub fn registered_cpu(&self) -> Option<u32> {
        // The word first: a vfork child sees its parent's cpu_id, frozen.
        self.is_registered().then(|| self.cpu_id() as u32)
    }

    /// The structure that the kernel writes, for debuggers, tracers and critical sections of one's own.
    ///
    /// A pointer, and no reference: while registered, a store to `cpu_id` or `mm_cid` would send every section to another
    /// CPU's data, and one to `rseq_cs` the thread to any address. From Linux 7.0 the kernel kills for a store to an id.
    #[inline]
    pub const fn as_rseq(&self) -> *const Rseq {
        &raw const self.kernel
    }

    /// Whether the time-slice extension is on for this thread. Never while it is lent.
    #[inline]
    pub fn has_slice_extension(&self) -> bool {
        self.word.look().has_slice()
    }

    /// Registered by this runtime, and neither lent nor exiting.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.word.look().is_registered()
    }

    /// Lays out the fields as a registration wants them. `future` is left out: kernels that look there lay it out. Never on an
    /// area that the kernel may write to, but where it repairs that: before Linux 7.0.
    #[cold]
    #[inline(never)]
    pub(crate) fn clear(&self) {
        let area = &self.kernel;
        area.cpu_id.store(CPU_ID_UNINITIALIZED, Relaxed);
        area.cpu_id_start.store(0, Relaxed);
        area.rseq_cs.store(0, Relaxed);
        area.flags.store(0, Relaxed);
        area.node_id.store(0, Relaxed);
        area.mm_cid.store(0, Relaxed);
        area.slice_ctrl.store(0, Relaxed);
    }

    /// Marks the area of a thread whose registration was refused, for those who read `cpu_id` alone.
    ///
    /// Only where there is no CPU: a refusal may be a filter's, of an area that the kernel knows, and that one always
    /// shows a CPU. Zeroed memory does so, too, and stays as it is.
    pub(crate) fn mark_refused(&self) {
        let _ = self.kernel.cpu_id.compare_exchange(
            CPU_ID_UNINITIALIZED,
            CPU_ID_REGISTRATION_FAILED,
            Relaxed,
            Relaxed,
        );
    }

    /// After registration: did the kernel enable the slice extension?
    pub(crate) fn slice_is_enabled(&self) -> bool {
        self.kernel.flags.load(Relaxed) & CS_FLAG_SLICE_EXT_ENABLED != 0
    }

    /// Makes the area of a dead thread, or of one past its unregistration, a new one.
    pub(crate) fn reset(&self) {
        self.clear();
        for word in &self.kernel.future {
            word.store(0, Relaxed);
        }
        self.clear_tid.arm();
        // Last: who sees the new word may register.
        self.word.reset();
    }
}

impl Reclaimed {
    /// Makes the dead thread's area a new one.
    ///
    /// # Safety
    /// 1. `area` belonged to the thread whose end is proven, and was not given to another since.
    pub unsafe fn recycle(&self, area: &Area) {
        area.reset();
    }
}
