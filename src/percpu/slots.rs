//! Where the data lies: one slot for each CPU, or for each concurrency id.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{align_of, offset_of, size_of};
use core::ptr::NonNull;

use linux_raw_sys::errno;

use crate::sys::abi::{FEATURE_SIZE_MM_CID, LEGACY_FEATURE_SIZE, Rseq};

/// The numbering of the slots: a field of the rseq area.
pub trait Index: sealed::Sealed + 'static {
    /// Offset of the field in `struct rseq`.
    const OFFSET: usize;
    /// Feature size from which the kernel fills it.
    const FEATURE_SIZE: u32;
}

/// By CPU number. A slot for each *possible* CPU: `/sys/devices/system/cpu/possible`, whose numbers may have holes.
#[derive(Clone, Copy, Debug)]
pub enum CpuId {}

/// By concurrency id (Linux 6.3): fewer slots than CPUs where a process has few threads or few CPUs.
///
/// Ids are below the number of possible CPUs, whatever the number of threads.
#[derive(Clone, Copy, Debug)]
pub enum MmCid {}

impl Index for CpuId {
    const OFFSET: usize = offset_of!(Rseq, cpu_id);
    const FEATURE_SIZE: u32 = LEGACY_FEATURE_SIZE;
}

impl Index for MmCid {
    const OFFSET: usize = offset_of!(Rseq, mm_cid);
    const FEATURE_SIZE: u32 = FEATURE_SIZE_MM_CID;
}

/// Are slots numbered by CPU?
pub(crate) const fn is_cpu<I: Index>() -> bool {
    I::OFFSET == CpuId::OFFSET
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::CpuId {}
    impl Sealed for super::MmCid {}
}

/// The stride of slots of type `T` as a shift, for the sections.
pub struct Shift<T>(PhantomData<T>);

impl<T> Shift<T> {
    /// log2 of the size.
    pub const OF: u32 = size_of::<T>().trailing_zeros();
}

/// Why storage cannot be used. Nothing was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The address is null.
    Null,
    /// The address, or the type of a slot, is not aligned to 8 bytes, or to the type.
    Misaligned,
    /// The size of a slot is not a power of two of at least 8 bytes, or not the stride that was stated.
    WrongStride,
    /// No slot at all.
    NoSlots,
    /// More slots than a CPU number can count, or than memory can hold.
    TooManySlots,
}

impl StorageError {
    /// The errno that a C interface would return, positive.
    pub const fn raw_os_error(self) -> u16 {
        match self {
            Self::Null => errno::EFAULT as u16,
            Self::Misaligned | Self::WrongStride | Self::NoSlots => errno::EINVAL as u16,
            Self::TooManySlots => errno::EOVERFLOW as u16,
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "the address of the slots is null",
            Self::Misaligned => "the slots are misaligned",
            Self::WrongStride => "the size of a slot is wrong",
            Self::NoSlots => "there is no slot",
            Self::TooManySlots => "there are too many slots",
        })
    }
}

impl core::error::Error for StorageError {}

/// Slots of type `T`, numbered by `I`. The storage is the caller's.
///
/// `T` is as large as the stride: a power of two, best 128 bytes, so that no two CPUs share a pair of cache
/// lines. Its words are atomics (`AtomicUsize`, `AtomicPtr`), since others may read them.
#[derive(Debug)]
pub struct Slots<'a, I: Index, T> {
    base: NonNull<T>,
    count: usize,
    storage: PhantomData<(&'a T, I)>,
}

impl<I: Index, T> Copy for Slots<'_, I, T> {}

impl<I: Index, T> Clone for Slots<'_, I, T> {
    fn clone(&self) -> Self {
        *self
    }
}

// SAFETY: it is a `&'a [T]`.
unsafe impl<I: Index, T: Sync> Send for Slots<'_, I, T> {}
// SAFETY: as above.
unsafe impl<I: Index, T: Sync> Sync for Slots<'_, I, T> {}

/// The address of the first slot.
const fn start_of<T>(storage: &[T]) -> NonNull<T> {
    // SAFETY: a slice is not null. `NonNull::from_ref` is not const before Rust 1.89.
    unsafe { NonNull::new_unchecked(storage.as_ptr().cast_mut()) }
}

impl<'a, I: Index, T: Sync> Slots<'a, I, T> {
    /// A slice as slots: slot *n* is for the id *n*. An id beyond has none, and its operations miss.
    ///
    /// # Errors
    /// [`StorageError`], but `Null`.
    pub const fn new(storage: &'a [T]) -> Result<Self, StorageError> {
        Self::checked(start_of(storage), size_of::<T>(), storage.len())
    }

    /// As [`Self::new`], for an array: what would be an error there is a compile error here.
    pub const fn of<const N: usize>(storage: &'a [T; N]) -> Self {
        const {
            assert!(
                size_of::<T>().is_power_of_two(),
                "the size of a slot is no power of two"
            );
            assert!(size_of::<T>() >= size_of::<usize>(), "a slot has no word");
            assert!(
                align_of::<T>() >= align_of::<usize>(),
                "a slot is misaligned"
            );
            assert!(N > 0 && N <= i32::MAX as usize, "no slot, or too many");
        }
        Self {
            base: start_of(storage),
            count: N,
            storage: PhantomData,
        }
    }

    /// `count` slots from `base`, `stride` bytes from each to the next, for callers that hold an address.
    ///
    /// # Errors
    /// [`StorageError`].
    ///
    /// # Safety
    /// 1. If `base` is neither null nor misaligned and `stride` is the size of a `T`, there are `count` initialized `T`
    ///    from there, for `'a`.
    pub unsafe fn from_raw(
        base: *const T,
        stride: usize,
        count: usize,
    ) -> Result<Self, StorageError> {
        match NonNull::new(base.cast_mut()) {
            None => Err(StorageError::Null),
            Some(base) if !base.is_aligned() => Err(StorageError::Misaligned),
            Some(base) => Self::checked(base, stride, count),
        }
    }

    const fn checked(base: NonNull<T>, stride: usize, count: usize) -> Result<Self, StorageError> {
        let size = size_of::<T>();
        if stride != size || !size.is_power_of_two() || size < size_of::<usize>() {
            return Err(StorageError::WrongStride);
        }
        if align_of::<T>() < align_of::<usize>() {
            return Err(StorageError::Misaligned);
        }
        if count == 0 {
            return Err(StorageError::NoSlots);
        }
        // As many as the sections can compare in 32 bits, so that -1 and -2 are beyond.
        if count > i32::MAX as usize || count > isize::MAX as usize / size {
            return Err(StorageError::TooManySlots);
        }
        Ok(Self {
            base,
            count,
            storage: PhantomData,
        })
    }

    /// The number of slots.
    #[inline]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The slot of one id, to be read; `None` beyond the last one.
    #[inline]
    pub const fn get(&self, id: usize) -> Option<&'a T> {
        if id < self.count {
            // SAFETY: below the count; a slice, or from_raw (1).
            Some(unsafe { self.base.add(id).as_ref() })
        } else {
            None
        }
    }

    /// All slots, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &'a T> + use<'a, I, T> {
        let slots = *self;
        (0..slots.count).filter_map(move |id| slots.get(id))
    }
}

impl<I: Index, T> Slots<'_, I, T> {
    /// The address of the byte at `offset` of slot 0, to which a section adds the offset of its own slot: an operand of a
    /// [`section!`](crate::section).
    #[inline(always)]
    pub fn address(&self, offset: usize) -> usize {
        self.base.as_ptr().expose_provenance().wrapping_add(offset)
    }

    #[inline(always)]
    pub(crate) const fn limit(&self) -> usize {
        self.count
    }
}
