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
            ".pushsection __rseq_cs_ptr_array, \"aw\", @progbits\n",
            ".balign 8\n",
            "26: .quad 3f\n",
            ".popsection\n",
            ".pushsection __rseq_exit_point_array, \"aw\", @progbits\n",
            ".balign 8\n",
            "27:\n",
            $(".quad 2f, ", $exit, "\n",)+
            ".popsection\n",
            ".pushsection __rseq_cs, \"aw\", @progbits\n",
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
macro_rules! section {
    (
        fn $name:ident $operands:tt $(else $differs:ident)? $(with $($temporary:ident)*)? {
            $($line:literal,)* commit { $relaxed:literal, $release:literal }
        }
    ) => {
        section!(@fn $name $operands ($($differs)?) ($($($temporary)*)?) ()
            { section!(@text () ($($differs)?) $($line,)* commit $relaxed) }
            { section!(@text () ($($differs)?) $($line,)* commit $release) });
        #[cfg(feature = "inject")]
        pub(crate) mod $name {
            use super::*;
            section!(@fn injected $operands ($($differs)?) ($($($temporary)*)?) (steps spin)
                { section!(@text (step!()) ($($differs)?) $($line,)* commit $relaxed) }
                { section!(@text (step!()) ($($differs)?) $($line,)* commit $release) });
        }
    };
    (@text () $differs:tt $($line:literal,)* commit $commit:literal) => {
        concat!(section!(@exits $differs), enter!("{range}"), $($line, "\n",)* $commit, "\n", leave!())
    };
    (@text ($step:expr) $differs:tt $($line:literal,)* commit $commit:literal) => {
        concat!(section!(@exits $differs), enter!("{range}" $step), $($line, "\n", $step,)* $commit, "\n", leave!())
    };
    (@exits ()) => { descriptor!("{range}") };
    (@exits (differs)) => { descriptor!("{range}", "{differs}") };
    (@fn $name:ident ($($operand:ident),*) ($($differs:ident)?) ($($temporary:ident)*) ($($steps:ident $spin:ident)?)
        { $relaxed:expr } { $release:expr }
    ) => {
        /// # Safety
        /// 1. The conditions of the operation of this name, in [`crate::percpu`].
        #[inline(always)]
        #[allow(clippy::too_many_arguments)] // One register each.
        pub(crate) unsafe fn $name<I: Index, T, const RELEASE: bool>(
            area: *const Rseq,
            slots: usize,
            restarts: usize,
            $($operand: usize,)*
            $($steps: *mut Steps,)?
        ) -> Result<(), Miss> {
            if RELEASE {
                section!(@asm $release, I, T, area, slots, restarts, ($($operand)* $($steps)?) ($($temporary)* $($spin)?) ($($differs)?));
            } else {
                section!(@asm $relaxed, I, T, area, slots, restarts, ($($operand)* $($steps)?) ($($temporary)* $($spin)?) ($($differs)?));
            }
            Ok(())
        }
    };
    (@asm $template:expr, $I:ident, $T:ident, $area:ident, $slots:ident, $restarts:ident,
        ($($operand:ident)*) ($($temporary:ident)*) ($($differs:ident)?)
    ) => {
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
                id = const $I::OFFSET,
                shift = const Shift::<$T>::OF,
                signature = const SIGNATURE,
                range = label { return missed(Miss::OutOfRange) },
                aborted = label { return missed(Miss::Aborted) },
                $($differs = label { return missed(Miss::Differs) },)?
                options(nostack),
            )
        }
    };
}

/// The functions of the operation that has a result: the head that was popped.
///
/// An asm block with outputs has no labels, so the other ends leave `empty` in `head`, which a popped head is not,
/// and tell themselves apart in `t`: the offset of a slot is a multiple of eight.
macro_rules! section_pop {
    (
        $($line:literal,)* commit { $relaxed:literal, $release:literal }
        range { $($range:literal),* } abort { $($abort:literal),* }
    ) => {
        section_pop!(@fn pop ()
            { section_pop!(@text () ($($line,)*) $relaxed ($($range,)*) ($($abort),*)) }
            { section_pop!(@text () ($($line,)*) $release ($($range,)*) ($($abort),*)) });
        #[cfg(feature = "inject")]
        pub(crate) mod pop {
            use super::*;
            section_pop!(@fn injected (steps spin)
                { section_pop!(@text (step!()) ($($line,)*) $relaxed ($($range,)*) ($($abort),*)) }
                { section_pop!(@text (step!()) ($($line,)*) $release ($($range,)*) ($($abort),*)) });
        }
    };
    (@text ($($step:expr)?) ($($line:literal,)*) $commit:literal ($($range:literal,)*) ($($abort:literal),*)
    ) => {
        concat!(
            descriptor!("6f"),
            enter!("6f" $($step)?),
            section_pop!(@lines ($($step)?) $($line,)*),
            $commit, "\n",
            leave!($($abort),*),
            ".subsection 1\n",
            "6:\n",
            $($range, "\n",)*
            ".previous\n",
        )
    };
    (@lines () $($line:literal,)*) => { concat!($($line, "\n",)*) };
    (@lines ($step:expr) $($line:literal,)*) => { concat!($($line, "\n", $step,)*) };
    (@fn $name:ident ($($steps:ident $spin:ident)?) { $relaxed:expr } { $release:expr }) => {
        /// # Safety
        /// 1. The conditions of the operation of this name, in [`crate::percpu`].
        #[inline(always)]
        #[allow(clippy::too_many_arguments)] // One register each.
        pub(crate) unsafe fn $name<I: Index, T, const RELEASE: bool>(
            area: *const Rseq,
            slots: usize,
            restarts: usize,
            word: usize,
            empty: *mut u8,
            link: usize,
            $($steps: *mut Steps,)?
        ) -> Result<*mut u8, Miss> {
            let (head, code);
            if RELEASE {
                section_pop!(@asm $release, I, T, area, slots, restarts, word, empty, link, head, code, ($($steps $spin)?));
            } else {
                section_pop!(@asm $relaxed, I, T, area, slots, restarts, word, empty, link, head, code, ($($steps $spin)?));
            }
            popped(head, empty, code)
        }
    };
    (@asm $template:expr, $I:ident, $T:ident, $area:ident, $slots:ident, $restarts:ident, $word:ident, $empty:ident, $link:ident,
        $head:ident, $code:ident, ($($steps:ident $spin:ident)?)
    ) => {
        // SAFETY: by the caller's (1) the area is the thread's, and every address that is formed may be accessed.
        unsafe {
            asm!(
                $template,
                area = in(reg) $area,
                slots = in(reg) $slots,
                left = inout(reg) $restarts => _,
                word = in(reg) $word,
                empty = in(reg) $empty,
                link = in(reg) $link,
                $($steps = in(reg) $steps,)?
                head = out(reg) $head,
                t = out(reg) $code,
                next = out(reg) _,
                $($spin = out(reg) _,)?
                id = const $I::OFFSET,
                shift = const Shift::<$T>::OF,
                signature = const SIGNATURE,
                aborted = const ABORTED,
                out_of_range = const OUT_OF_RANGE,
                options(nostack),
            )
        }
    };
}

/// What `section_pop!` leaves in `t`: no multiple of eight, as an offset is.
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
pub(crate) fn missed(miss: Miss) -> Result<(), Miss> {
    cold_path();
    Err(miss)
}

/// From the two registers of a pop to its result.
#[inline(always)]
pub(crate) fn popped(head: *mut u8, empty: *mut u8, code: usize) -> Result<*mut u8, Miss> {
    // The section compared the two, so that a popped head is not `empty` and `code` need not be looked at.
    if head != empty {
        return Ok(head);
    }
    cold_path();
    Err(match code {
        ABORTED => Miss::Aborted,
        OUT_OF_RANGE => Miss::OutOfRange,
        _ => Miss::Differs,
    })
}
