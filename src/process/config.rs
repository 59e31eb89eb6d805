//! The configuration: what the kernel states about rseq in auxv, and what the runtime asks for.

use core::mem::size_of;

use linux_raw_sys::auxvec::{AT_NULL, AT_RSEQ_ALIGN, AT_RSEQ_FEATURE_SIZE};

use crate::sys::abi::{LEGACY_FEATURE_SIZE, LEGACY_LENGTH, Rseq};
use crate::sys::file;

/// The alignment of an area: of the next larger `struct rseq` as well.
pub(crate) const ALIGN: usize = 64;

/// The runtime's statement about who owns rseq in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Claim {
    /// Nothing: look for the libc's `__rseq_*`, then let the first registration decide.
    #[default]
    Detect,
    /// This runtime is the libc, or runs without one: do not look for `__rseq_*`, which may be its own.
    Runtime,
    /// The libc owns it, whether or not it exports `__rseq_*`.
    Libc,
    /// Nobody is to own it: every thread stays unregistered.
    Disabled,
}

/// How to register: the same for every thread of the process.
///
/// No value is refused. What does not make sense, or does not fit an
/// [`Area`](crate::Area), falls back to length 32, which every kernel accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Config {
    pub(crate) feature_size: u32,
    pub(crate) length: u32,
    pub(crate) claim: Claim,
    pub(crate) slice_extension: bool,
}

impl Config {
    /// From the values of `AT_RSEQ_FEATURE_SIZE` and `AT_RSEQ_ALIGN`, in bytes; `None` where auxv lacks one.
    pub const fn new(feature_size: Option<usize>, align: Option<usize>) -> Self {
        let feature_size = match feature_size {
            // The largest feature size that a later kernel could mean and u32 can say.
            Some(size) if size >= LEGACY_FEATURE_SIZE as usize && size <= u16::MAX as usize => size,
            _ => LEGACY_FEATURE_SIZE as usize,
        };
        let align = match align {
            Some(align) if align.is_power_of_two() => align,
            Some(_) => usize::MAX,
            None => LEGACY_LENGTH as usize,
        };
        let fits = feature_size <= size_of::<Rseq>() && align <= ALIGN;
        let length = if feature_size > LEGACY_LENGTH as usize && fits {
            feature_size as u32
        } else {
            LEGACY_LENGTH
        };
        Self {
            feature_size: feature_size as u32,
            length,
            claim: Claim::Detect,
            slice_extension: false,
        }
    }

    /// From auxv entries, `(type, value)` each, up to `AT_NULL` or the end. The last of a type counts.
    pub fn from_entries(entries: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let (mut feature_size, mut align) = (None, None);
        for (kind, value) in entries {
            match u32::try_from(kind) {
                Ok(AT_NULL) => break,
                Ok(AT_RSEQ_FEATURE_SIZE) => feature_size = Some(value),
                Ok(AT_RSEQ_ALIGN) => align = Some(value),
                _ => {}
            }
        }
        Self::new(feature_size, align)
    }

    /// From the auxiliary vector that the kernel lays above the environment (getauxval(3)).
    ///
    /// # Safety
    /// 1. `auxv` points to pairs of words, the last of them of type `AT_NULL`.
    pub unsafe fn from_auxv(auxv: *const [usize; 2]) -> Self {
        let mut next = auxv;
        Self::from_entries(core::iter::from_fn(|| {
            // SAFETY: (1): `next` is at or before the AT_NULL pair, after which from_entries asks no more.
            let [kind, value] = unsafe { next.read() };
            next = next.wrapping_add(1);
            Some((kind, value))
        }))
    }

    /// From the kernel, for a runtime to which nobody has handed auxv: prctl(2) tells it from Linux 6.4 on, before that
    /// `/proc/self/auxv`. Where neither does, the same as from an empty vector. System calls: 1, or 4.
    pub fn from_kernel() -> Self {
        let mut buffer = file::BUFFER;
        let vector = match file::auxv(&mut buffer) {
            Ok(vector) => vector,
            Err(_) => file::read(c"/proc/self/auxv", &mut buffer).unwrap_or_default(),
        };
        Self::from_bytes(vector)
    }

    fn from_bytes(vector: &[u8]) -> Self {
        let (words, _) = vector.as_chunks();
        let (pairs, _) = words.as_chunks();
        let word = |bytes: &[u8; size_of::<usize>()]| usize::from_ne_bytes(*bytes);
        Self::from_entries(pairs.iter().map(|[kind, value]| (word(kind), word(value))))
    }

    /// Registers 32 bytes even where the kernel offers more.
    ///
    /// From Linux 7.0 this is also the choice between two behaviours: with
    /// length 32 the kernel writes the ids at every switch and repairs stray
    /// user stores (but in its debug mode, `rseq_debug=1`); with more it writes on change only, and kills for them.
    pub const fn legacy_length(mut self) -> Self {
        self.length = LEGACY_LENGTH;
        self
    }

    /// States who owns rseq. See [`Claim`].
    pub const fn claim(mut self, claim: Claim) -> Self {
        self.claim = claim;
        self
    }

    /// Registers nobody. The same as `claim(Claim::Disabled)`.
    pub const fn disabled(self) -> Self {
        self.claim(Claim::Disabled)
    }

    /// Asks for the time-slice extension (Linux 7.0) at each registration. Nothing happens where it is lacking.
    pub const fn slice_extension(mut self) -> Self {
        self.slice_extension = true;
        self
    }

    /// Bytes that each registration will state.
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// Bytes of the area that hold valid fields once registered.
    pub const fn feature_size(&self) -> u32 {
        if self.feature_size < self.length {
            self.feature_size
        } else {
            self.length
        }
    }

    /// Whatever the length is: a feature size above the legacy one tells of Linux 7.0.
    pub(crate) const fn kernel_lays_out(&self) -> bool {
        self.feature_size > LEGACY_LENGTH
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::sys::file;

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn the_kernel_tells_the_same_in_each_way() {
        // SAFETY: getauxval(3) reads only; 0 for an absent type.
        let value = |kind| match unsafe { libc::getauxval(kind) } {
            0 => None,
            value => usize::try_from(value).ok(),
        };
        let expected = Config::new(value(27), value(28));
        assert_eq!(Config::from_kernel(), expected);
        let mut buffer = file::BUFFER;
        let told = file::read(c"/proc/self/auxv", &mut buffer).map(Config::from_bytes);
        assert_eq!(told, Ok(expected));
        let mut buffer = file::BUFFER;
        if let Ok(vector) = file::auxv(&mut buffer) {
            assert_eq!(Config::from_bytes(vector), expected);
        }
    }

    #[test]
    fn no_vector_is_a_kernel_that_says_nothing() {
        assert_eq!(Config::from_bytes(&[]), Config::new(None, None));
        assert_eq!(Config::from_bytes(&[27; 23]), Config::new(None, None));
    }
}
