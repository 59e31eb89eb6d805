//! From the lines of an operation to its functions: the same for every CPU.
//!
//! A CPU's `sections.rs` brings `enter!`, `leave!` and `step!`, and the lines of each operation. A line is a step:
//! no flag lives from one line to the next.

use super::Miss;

/// The descriptor of a section, and the entries of the two arrays by which tools find it and its exits: see
/// [`crate::percpu`].
///
/// Nothing refers to an entry, so that a link with `--gc-sections` would drop both arrays. The descriptor, to which the
/// section itself refers, refers to its entries by relocations that change nothing.
macro_rules! descriptor {
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

/// The functions of one operation.
///
/// `fn NAME(OPERANDS) else differs with TEMPORARIES { LINES commit { RELAXED, RELEASE } }`. The committing store
/// is the last instruction of the section. With the feature `inject` there is `NAME::injected` too, which has a place
/// to stop at before each line.
///
/// With a result: `fn NAME(OPERANDS) result HEAD else EMPTY with ...`, and the lines of the ends `range` and `abort`. An asm
/// block with outputs has no labels, so every end but the commit leaves `EMPTY` in `HEAD`, which a popped head is not,
/// and they tell themselves apart in `t`: the offset of a slot is a multiple of eight.
macro_rules! section {
    (
        fn $name:ident $operands:tt $(else $differs:ident)? $(with $($temporary:ident)*)? {
            $($line:literal,)* commit $commit:tt
        }
    ) => {
        section!(@functions $name $operands ($($($temporary)*)?) (labels $($differs)?)
            (section!(@exits $($differs)?)) "{range}" ($($line,)*) $commit (leave!()));
    };
    (
        fn $name:ident $operands:tt result $head:ident else $empty:ident $(with $($temporary:ident)*)? {
            $($line:literal,)* commit $commit:tt
            range { $($range:literal),* } abort { $($abort:literal),* }
        }
    ) => {
        section!(@functions $name $operands ($($($temporary)*)?) (result $head $empty)
            (descriptor!("6f")) "6f" ($($line,)*) $commit
            (concat!(leave!($($abort),*), ".subsection 1\n6:\n", $($range, "\n",)* ".previous\n")));
    };
    (@exits) => { descriptor!("{range}") };
    (@exits $differs:ident) => { descriptor!("{range}", "{differs}") };
    (@functions $name:ident $operands:tt $temporaries:tt $ends:tt
        $descriptor:tt $range:literal $lines:tt { $relaxed:literal, $release:literal } $leave:tt
    ) => {
        section!(@fn $name $operands $temporaries $ends ()
            (section!(@text () $descriptor $range $lines $relaxed $leave))
            (section!(@text () $descriptor $range $lines $release $leave)));
        #[cfg(feature = "inject")]
        pub(crate) mod $name {
            use super::*;
            section!(@fn injected $operands $temporaries $ends (steps spin)
                (section!(@text (step!()) $descriptor $range $lines $relaxed $leave))
                (section!(@text (step!()) $descriptor $range $lines $release $leave)));
        }
    };
    (@text ($($step:expr)?) ($descriptor:expr) $range:literal $lines:tt $commit:literal ($leave:expr)) => {
        concat!($descriptor, enter!($range $($step)?), section!(@lines ($($step)?) $lines), $commit, "\n", $leave)
    };
    (@lines () ($($line:literal,)*)) => { concat!($($line, "\n",)*) };
    (@lines ($step:expr) ($($line:literal,)*)) => { concat!($($line, "\n", $step,)*) };
    (@fn $name:ident ($($operand:ident),*) ($($temporary:ident)*) $ends:tt ($($steps:ident $spin:ident)?)
        ($relaxed:expr) ($release:expr)
    ) => {
        /// # Safety
        /// 1. The conditions of the operation of this name, in [`Operation`](crate::percpu::Operation).
        #[inline(always)]
        #[allow(clippy::too_many_arguments)] // One register each.
        pub(crate) unsafe fn $name<I: Index, T, const RELEASE: bool>(
            area: *const Rseq,
            slots: usize,
            restarts: usize,
            $($operand: usize,)*
            $($steps: *mut Steps,)?
        ) -> Result<*mut u8, Miss> {
            if RELEASE {
                section!(@asm $ends $release, area, slots, restarts, ($($operand)* $($steps)?) ($($temporary)* $($spin)?))
            } else {
                section!(@asm $ends $relaxed, area, slots, restarts, ($($operand)* $($steps)?) ($($temporary)* $($spin)?))
            }
        }
    };
    (@asm (labels $($differs:ident)?) $template:expr, $area:ident, $slots:ident, $restarts:ident,
        ($($operand:ident)*) ($($temporary:ident)*)
    ) => {{
        // SAFETY: by the caller's (1) the area is the thread's, and every address that is formed may be accessed.
        unsafe {
            asm!(
                $template,
                area = in(reg) $area,
                slots = in(reg) $slots,
                left = inout(reg) $restarts => _,
                $($operand = in(reg) $operand,)*
                t = out(reg) _,
                $($temporary = out(reg) _,)*
                id = const I::OFFSET,
                shift = const Shift::<T>::OF,
                signature = const SIGNATURE,
                range = label { return missed(Miss::OutOfRange) },
                aborted = label { return missed(Miss::Aborted) },
                $($differs = label { return missed(Miss::Differs) },)?
                options(nostack),
            )
        }
        Ok(core::ptr::null_mut())
    }};
    (@asm (result $head:ident $empty:ident) $template:expr, $area:ident, $slots:ident, $restarts:ident,
        ($($operand:ident)*) ($($temporary:ident)*)
    ) => {{
        let (head, code): (usize, usize);
        // SAFETY: as above.
        unsafe {
            asm!(
                $template,
                area = in(reg) $area,
                slots = in(reg) $slots,
                left = inout(reg) $restarts => _,
                $($operand = in(reg) $operand,)*
                $head = out(reg) head,
                t = out(reg) code,
                $($temporary = out(reg) _,)*
                id = const I::OFFSET,
                shift = const Shift::<T>::OF,
                signature = const SIGNATURE,
                aborted = const ABORTED,
                out_of_range = const OUT_OF_RANGE,
                options(nostack),
            )
        }
        result_of(head, $empty, code)
    }};
}

/// The value of `t` behind an aborted section with a result: no multiple of eight, as an offset is.
pub(crate) const ABORTED: usize = 1;
/// As [`ABORTED`].
pub(crate) const OUT_OF_RANGE: usize = 2;

/// Marks the path on which it is called as one that code is not laid out for.
///
/// `core::hint::cold_path` does that from Rust 1.95 on.
#[cold]
#[inline(always)]
fn cold_path() {}

/// The end of a section at a label: not what code is laid out for.
#[inline(always)]
pub(crate) fn missed(miss: Miss) -> Result<*mut u8, Miss> {
    cold_path();
    Err(miss)
}

/// From the two registers of a section with a result.
#[inline(always)]
pub(crate) fn result_of(head: usize, empty: usize, code: usize) -> Result<*mut u8, Miss> {
    // The section compared the two, so that a popped head is not `empty` and `code` need not be looked at.
    if head != empty {
        return Ok(core::ptr::with_exposed_provenance_mut(head));
    }
    missed(match code {
        ABORTED => Miss::Aborted,
        OUT_OF_RANGE => Miss::OutOfRange,
        _ => Miss::Differs,
    })
}
