//! From the lines of a section to its functions, for the sections of this crate and for those of its users: the same
//! macro, [`section!`](crate::section), on every CPU.
//!
//! A CPU's `sections.rs` brings what stands before and behind the lines: `__section_enter!`, `__section_leave!`,
//! `__section_missed!` and `__section_step!`. They are exported because a macro that is used elsewhere needs its parts
//! there; nobody names them.

use super::{Current, Index, Miss, Slots};
use crate::sys::abi::Rseq;

pub use super::slots::Shift;

/// The descriptor of a section, and the entries of the two arrays by which tools find it and its exits: see
/// [`crate::percpu`].
///
/// Nothing refers to an entry, so that a link with `--gc-sections` would drop both arrays. The descriptor, to which the
/// section itself refers, refers to its entries by relocations that change nothing.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_descriptor {
    ($($exit:expr),+) => {
        concat!(
            ".pushsection __rseq_cs_ptr_array, \"aw?\", @progbits\n",
            ".balign 8\n",
            "26: .quad 3f\n",
            ".popsection\n",
            ".pushsection __rseq_exit_point_array, \"aw?\", @progbits\n",
            ".balign 8\n",
            "27:\n",
            $(".quad 2f, ", $exit, "\n",)+
            ".popsection\n",
            ".pushsection __rseq_cs, \"aw?\", @progbits\n",
            ".balign 32\n",
            "3: .long 0, 0\n",
            ".quad 2f, 5f - 2f, 4f\n",
            ".reloc 3b, BFD_RELOC_NONE, 26b\n",
            ".reloc 3b, BFD_RELOC_NONE, 27b\n",
            ".popsection\n",
        )
    };
}

/// Passes on what only the feature `inject` has: a `cfg` in the expansion of `section!` would ask the user's crate.
#[cfg(feature = "inject")]
#[doc(hidden)]
#[macro_export]
macro_rules! __section_injected {
    ($($tokens:tt)*) => { $($tokens)* };
}

#[cfg(not(feature = "inject"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __section_injected {
    ($($tokens:tt)*) => {};
}

/// A critical section of one's own: a function from the lines between entering it and its commit.
///
#[doc = include_str!("../../docs/sections.md")]
#[macro_export]
macro_rules! section {
    (
        $(#[$attribute:meta])* $vis:vis unsafe fn $name:ident $operands:tt
            $(else $differs:ident)? $(with $($temporary:ident)*)? {
            $($line:literal,)* commit $commit:tt
        }
    ) => {
        $crate::section!(@functions [$(#[$attribute])* $vis] $name $operands ($($($temporary)*)?)
            (labels $($differs)?) ($crate::section!(@exits $($differs)?)) "{range}" ($($line,)*) $commit
            ($crate::__section_leave!()));
    };
    (
        $(#[$attribute:meta])* $vis:vis unsafe fn $name:ident $operands:tt
            result $result:ident else $none:ident $(with $($temporary:ident)*)? {
            $($line:literal,)* commit $commit:tt
        }
    ) => {
        $crate::section!(@functions [$(#[$attribute])* $vis] $name $operands ($($($temporary)*)?)
            (result $result $none) ($crate::__section_descriptor!("28f")) "28f" ($($line,)*) $commit
            (concat!(
                $crate::__section_leave!($crate::__section_missed!($result $none "{aborted}")),
                ".subsection 1\n28:\n",
                $crate::__section_missed!($result $none "{out_of_range}"),
                ".previous\n",
            )));
    };
    (@exits) => { $crate::__section_descriptor!("{range}") };
    (@exits $differs:ident) => { $crate::__section_descriptor!("{range}", concat!("{", stringify!($differs), "}")) };
    (@functions $head:tt $name:ident $operands:tt $temporaries:tt $ends:tt
        $descriptor:tt $range:literal $lines:tt { $relaxed:literal, $release:literal } $leave:tt
    ) => {
        $crate::section!(@fn $head $name $operands $temporaries $ends ()
            ($crate::section!(@text () $descriptor $range $lines $relaxed $leave))
            ($crate::section!(@text () $descriptor $range $lines $release $leave)));
        $crate::__section_injected! {
            $crate::section!(@injected $head $name $operands $temporaries $ends
                ($crate::section!(@text ($crate::__section_step!()) $descriptor $range $lines $relaxed $leave))
                ($crate::section!(@text ($crate::__section_step!()) $descriptor $range $lines $release $leave)));
        }
    };
    (@injected [$(#[$attribute:meta])* $vis:vis] $name:ident $operands:tt $temporaries:tt $ends:tt $relaxed:tt $release:tt
    ) => {
        /// The section of this name with a place to stop at before each line, for tests.
        $vis mod $name {
            $crate::section!(@fn [
                    /// One try, with a stop.
                    pub
                ] injected $operands $temporaries $ends (steps spin) $relaxed $release);
        }
    };
    (@text ($($step:expr)?) ($descriptor:expr) $range:literal $lines:tt $commit:literal ($leave:expr)) => {
        concat!($descriptor, $crate::__section_enter!($range $($step)?), $crate::section!(@lines ($($step)?) $lines),
            $commit, "\n", $leave)
    };
    (@lines () ($($line:literal,)*)) => { concat!($($line, "\n",)*) };
    (@lines ($step:expr) ($($line:literal,)*)) => { concat!($($line, "\n", $step,)*) };
    (@fn [$(#[$attribute:meta])* $vis:vis] $name:ident ($($operand:ident),*) ($($temporary:ident)*) $ends:tt
        ($($steps:ident $spin:ident)?) ($relaxed:expr) ($release:expr)
    ) => {
        $(#[$attribute])*
        ///
        /// # Errors
        /// [`Miss`]($crate::percpu::Miss): nothing was committed.
        ///
        /// # Safety
        /// 1. Each access of the section's lines, with these operands and in whichever slot, is one that the caller may
        ///    make, and what is stored is what the readers of those words may find.
        #[inline(always)]
        #[allow(clippy::too_many_arguments)] // One register each.
        $vis unsafe fn $name<I: $crate::percpu::Index, T>(
            current: $crate::percpu::Current<'_, I>,
            slots: $crate::percpu::Slots<'_, I, T>,
            commit: $crate::percpu::Commit,
            $($operand: usize,)*
            $($steps: *mut $crate::percpu::inject::Steps,)?
        ) -> ::core::result::Result<usize, $crate::percpu::Miss> {
            let (area, count, restarts) = $crate::percpu::template::parts(current, slots);
            match commit {
                $crate::percpu::Commit::Relaxed => $crate::section!(@asm $ends $relaxed, area, count, restarts,
                    ($($operand)* $($steps)?) ($($temporary)* $($spin)?)),
                $crate::percpu::Commit::Release => $crate::section!(@asm $ends $release, area, count, restarts,
                    ($($operand)* $($steps)?) ($($temporary)* $($spin)?)),
            }
        }
    };
    (@asm (labels $($differs:ident)?) $template:expr, $area:ident, $slots:ident, $restarts:ident,
        ($($operand:ident)*) ($($temporary:ident)*)
    ) => {{
        // SAFETY: by the caller's (1) every address that is formed may be accessed; the area is the thread's, by `Current`.
        unsafe {
            ::core::arch::asm!(
                $template,
                area = in(reg) $area,
                slots = in(reg) $slots,
                left = inout(reg) $restarts => _,
                $($operand = in(reg) $operand,)*
                t = out(reg) _,
                $($temporary = out(reg) _,)*
                id = const <I as $crate::percpu::Index>::OFFSET,
                shift = const $crate::percpu::template::Shift::<T>::OF,
                signature = const $crate::arch::SIGNATURE,
                range = label { return $crate::percpu::template::missed($crate::percpu::Miss::OutOfRange) },
                aborted = label { return $crate::percpu::template::missed($crate::percpu::Miss::Aborted) },
                $($differs = label { return $crate::percpu::template::missed($crate::percpu::Miss::Differs) },)?
                options(nostack),
            )
        }
        ::core::result::Result::Ok(0)
    }};
    (@asm (result $result:ident $none:ident) $template:expr, $area:ident, $slots:ident, $restarts:ident,
        ($($operand:ident)*) ($($temporary:ident)*)
    ) => {{
        let (result, code): (usize, usize);
        // SAFETY: as above.
        unsafe {
            ::core::arch::asm!(
                $template,
                area = in(reg) $area,
                slots = in(reg) $slots,
                left = inout(reg) $restarts => _,
                $($operand = in(reg) $operand,)*
                $result = out(reg) result,
                t = out(reg) code,
                $($temporary = out(reg) _,)*
                id = const <I as $crate::percpu::Index>::OFFSET,
                shift = const $crate::percpu::template::Shift::<T>::OF,
                signature = const $crate::arch::SIGNATURE,
                aborted = const $crate::percpu::template::ABORTED,
                out_of_range = const $crate::percpu::template::OUT_OF_RANGE,
                options(nostack),
            )
        }
        $crate::percpu::template::result_of(result, $none, code)
    }};
}

/// The value of `t` behind an aborted section with a result: no multiple of eight, as an offset is.
pub const ABORTED: usize = 1;
/// As [`ABORTED`].
pub const OUT_OF_RANGE: usize = 2;

/// The area, the number of slots, and the bound of the restarts.
#[inline(always)]
pub fn parts<I: Index, T>(
    current: Current<'_, I>,
    slots: Slots<'_, I, T>,
) -> (*const Rseq, usize, usize) {
    current.assert_thread();
    (current.as_rseq(), slots.limit(), current.bound())
}

/// Marks the path on which it is called as one that code is not laid out for.
///
/// `core::hint::cold_path` does that from Rust 1.95 on.
#[cold]
#[inline(always)]
fn cold_path() {}

/// The end of a section at a label: not what code is laid out for.
#[inline(always)]
pub fn missed(miss: Miss) -> Result<usize, Miss> {
    cold_path();
    Err(miss)
}

/// From the two registers of a section with a result.
#[inline(always)]
pub fn result_of(result: usize, none: usize, code: usize) -> Result<usize, Miss> {
    // The section compared the two, so that a result is not `none` and `code` need not be looked at.
    if result != none {
        return Ok(result);
    }
    missed(match code {
        ABORTED => Miss::Aborted,
        OUT_OF_RANGE => Miss::OutOfRange,
        _ => Miss::Differs,
    })
}
