//! The storage of one thread: the structure that the kernel writes, and the flag beside it.

use core::mem::{align_of, size_of};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use crate::abi::{
    CPU_ID_REGISTRATION_FAILED, CPU_ID_UNINITIALIZED, CS_FLAG_SLICE_EXT_ENABLED, Rseq, SliceCtrl,
};
use crate::error::{Errno, Error};
use crate::kernel::Kernel;
use crate::state::{Reason, State};

/// One thread's rseq area and state: 128 bytes, aligned to 64, placed by the caller in its TCB.
///
/// All bytes zero is a valid, unregistered area, so freshly mapped memory is one.
///
/// ```text
///   0        32        64      65      66      68        69       128
///   | legacy  | later   | state | slice | errno | created | unused |
///   +--- the kernel's --+------------ this crate's ----------------+
/// ```
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Area {
    pub(crate) kernel: Rseq,
    state: AtomicU8,
    slice: AtomicU8,
    errno: AtomicU16,
    created: AtomicU8,
}

const _: () = assert!(size_of::<Area>() == 128 && align_of::<Area>() == 64);

impl Default for Area {
    fn default() -> Self {
        Self::new()
    }
}

impl Area {
    /// Bytes of storage.
    pub const SIZE: usize = size_of::<Self>();
    /// Alignment in bytes.
    pub const ALIGN: usize = align_of::<Self>();
    /// Where the kernel's `cpu_id` is, in bytes: for loads by code in another language.
    pub const CPU_ID_OFFSET: usize = core::mem::offset_of!(Self, kernel.cpu_id);
    /// Where the state byte is: [`Self::STATE_REGISTERED`] while this runtime's registration stands, and the area is not lent.
    pub const STATE_OFFSET: usize = core::mem::offset_of!(Self, state);
    /// See [`Self::STATE_OFFSET`].
    pub const STATE_REGISTERED: u8 = State::REGISTERED;

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
                slice_ctrl: SliceCtrl {
                    request: AtomicU8::new(0),
                    granted: AtomicU8::new(0),
                    reserved: AtomicU16::new(0),
                },
                future: [const { AtomicU64::new(0) }; 4],
            },
            state: AtomicU8::new(State::UNREGISTERED),
            slice: AtomicU8::new(0),
            errno: AtomicU16::new(0),
            created: AtomicU8::new(0),
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
        // field, which nobody may store to while registered, be it the same value.
        for offset in [core::mem::offset_of!(Rseq, rseq_cs), size_of::<Rseq>()] {
            let word = address.wrapping_add(offset).cast_const().cast();
            kernel.probe_write(word).map_err(Error::UnwritableArea)?;
        }
        // SAFETY: not null, aligned, large enough, mapped and writable; zero or an Area, and for `'a`, by (1).
        Ok(unsafe { area.as_ref() })
    }

    /// What is true of this thread. Callable from anywhere, a signal handler or another thread included.
    #[inline]
    pub fn state(&self) -> State {
        State::decode(self.state.load(Relaxed))
    }

    /// The errno behind [`State::Unavailable`], if the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        Errno::from_raw(self.errno.load(Relaxed))
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
        // The state first: a vfork child sees its parent's cpu_id, frozen.
        (self.state_byte() == State::REGISTERED).then(|| self.cpu_id() as u32)
    }

    /// The structure that the kernel writes, for debuggers, tracers and critical sections of one's own.
    ///
    /// A pointer, and no reference: while registered, a store to `cpu_id` or `mm_cid` would send every section to another
    /// CPU's data, and one to `rseq_cs` the thread to any address. From Linux 7.0 the kernel kills for a store to an id.
    #[inline]
    pub const fn as_rseq(&self) -> *const Rseq {
        &raw const self.kernel
    }

    /// Is the time-slice extension on for this thread?
    #[inline]
    pub fn has_slice_extension(&self) -> bool {
        self.slice.load(Relaxed) != 0
    }

    pub(crate) fn set_slice_extension(&self, enabled: bool) {
        self.slice.store(u8::from(enabled), Relaxed);
    }

    #[inline]
    pub(crate) fn state_byte(&self) -> u8 {
        self.state.load(Relaxed)
    }

    pub(crate) fn set_state(&self, state: State) {
        self.set_state_byte(state.encode());
    }

    pub(crate) fn set_state_byte(&self, byte: u8) {
        self.state.store(byte, Relaxed);
    }

    /// Does the kernel write here for this thread? Unlike the state, true under a loan as well.
    pub(crate) fn is_written_by_kernel(&self) -> bool {
        self.state_byte() & !State::LENT == State::REGISTERED
    }

    pub(crate) fn set_unavailable(&self, state: State, errno: Option<Errno>) {
        self.errno.store(errno.map_or(0, Errno::raw), Relaxed);
        self.set_state(state);
    }

    /// With signals open: gives up, unless a handler got further in the meantime.
    pub(crate) fn give_up(&self, reason: Reason, errno: Option<Errno>) {
        let given_up = State::Unavailable(reason).encode();
        // One instruction, or a handler could register between the look and the store, and be forgotten.
        let outcome = self
            .state
            .compare_exchange(State::UNREGISTERED, given_up, Relaxed, Relaxed);
        if outcome.is_ok() {
            // Nothing registers from here on, so that the ids are ours to write.
            self.errno.store(errno.map_or(0, Errno::raw), Relaxed);
            self.mark_refused();
        }
    }

    /// Lays out the fields as the kernel wants to find them. Never on a registered area.
    pub(crate) fn prepare(&self) {
        let area = &self.kernel;
        // A stale rseq_cs is fatal at registration before Linux 6.17, and CONFIG_DEBUG_RSEQ (6.14 to 6.18)
        // compares all the rest with zero.
        area.cpu_id.store(CPU_ID_UNINITIALIZED, Relaxed);
        area.cpu_id_start.store(0, Relaxed);
        area.rseq_cs.store(0, Relaxed);
        area.flags.store(0, Relaxed);
        area.node_id.store(0, Relaxed);
        area.mm_cid.store(0, Relaxed);
        area.slice_ctrl.request.store(0, Relaxed);
        area.slice_ctrl.granted.store(0, Relaxed);
        area.slice_ctrl.reserved.store(0, Relaxed);
        for word in &area.future {
            word.store(0, Relaxed);
        }
        self.slice.store(0, Relaxed);
        self.errno.store(0, Relaxed);
    }

    /// Marks the area of a thread whose registration was refused. Never on a registered area.
    pub(crate) fn mark_refused(&self) {
        self.kernel
            .cpu_id
            .store(CPU_ID_REGISTRATION_FAILED, Relaxed);
    }

    /// After registration: did the kernel write a CPU, and did it enable the slice extension?
    pub(crate) fn confirm(&self) -> bool {
        let enabled = self.kernel.flags.load(Relaxed) & CS_FLAG_SLICE_EXT_ENABLED != 0;
        self.set_slice_extension(enabled);
        self.cpu_id() >= 0
    }

    /// Has the create hook run on this area?
    pub(crate) fn is_created(&self) -> bool {
        self.created.load(Relaxed) != 0
    }

    pub(crate) fn set_created(&self, created: bool) {
        self.created.store(u8::from(created), Relaxed);
    }

    /// Makes the area of a dead thread, or of one past its unregistration, a new one.
    pub(crate) fn reset(&self) {
        self.prepare();
        self.set_created(false);
        self.set_state(State::Unregistered);
    }
}

/// One load of a `cpu_id` field that the kernel changes under us.
///
/// # Safety
/// 1. `field` is the `cpu_id` of a mapped area.
#[inline]
pub(crate) unsafe fn load_cpu_id(field: *const i32) -> i32 {
    // SAFETY: (1).
    unsafe { field.read_volatile() }
}
