//! The critical sections of aarch64.
//!
//! The operations, their pseudo-code and their conditions are those of [`crate::percpu`]; here is only how each
//! is spelt. What is common to all:
//!
//! * The address of the descriptor goes into `rseq_cs` by a plain store, and the section begins behind it.
//! * The CPU number is read inside, so that a migration aborts, and is compared with nothing but the number of
//!   slots. `-1` and `-2` are large unsigned numbers, so that an area that is not
//!   registered has no slot by CPU number either (its `mm_cid` is 0: see `Current`).
//! * Release: `stlr`, which takes a bare address. No exclusive pair is in a section: each stop would take the
//!   reservation away.
//! * The abort handler lies behind the function, in a subsection of its section of the file, so that no branch is ever
//!   out of reach: the linker's veneer for one that is destroys x16 and x17, and under BTI its `br` faults. Before it
//!   the signature, which is a `brk`.
//! * No landing pad (BTI): the kernel comes to the handler by an exception return with the BTYPE of the interrupted
//!   instruction, which is 0, because no section has an indirect branch; the handler goes on by direct ones.
//! * A line of the template is a step: no flag lives from one to the next, so that tests can stop there.

/// The store of the descriptor's address, the index, the bound. Leaves the number of the slot in `t`.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_enter {
    ($range:literal $($step:expr)?) => {
        concat!(
            "21: adrp {t}, 3b\n",
            "add {t}, {t}, :lo12:3b\n",
            "str {t}, [{area}, #8]\n",
            "2:\n",
            $($step,)?
            "ldr {t:w}, [{area}, #{id}]\n",
            $($step,)?
            "cmp {t:w}, {slots:w}\n",
            "b.hs ", $range, "\n",
            $($step)?
        )
    };
}

/// Behind the committing store: the end of the section, and the abort handler, which starts over while it may.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_leave {
    () => {
        $crate::__section_leave!("b {aborted}\n")
    };
    ($handler:expr) => {
        concat!(
            "5:\n",
            ".subsection 1\n",
            ".balign 4\n",
            ".inst {signature}\n",
            "4:\n",
            "subs {left}, {left}, #1\n",
            // A conditional branch reaches 1 MiB, and the handler lies behind all of the file's text.
            "b.lo 24f\n",
            "b 21b\n",
            "24:\n",
            $handler,
            ".previous\n",
        )
    };
}

/// The end of a section with a result that committed nothing: no result, and why.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_missed {
    ($result:ident $none:ident $code:literal) => {
        concat!(
            "mov {",
            stringify!($result),
            "}, {",
            stringify!($none),
            "}\n",
            "mov {t}, #",
            $code,
            "\n",
            "b 5b\n",
        )
    };
}

/// A place to stop at: counts down to the step that was asked for, says so, and waits there to be told to go on.
#[cfg(feature = "inject")]
#[doc(hidden)]
#[macro_export]
macro_rules! __section_step {
    () => {
        concat!(
            "ldr {spin:w}, [{steps}]\n",
            "sub {spin:w}, {spin:w}, #1\n",
            "str {spin:w}, [{steps}]\n",
            "cbnz {spin:w}, 23f\n",
            "mov {spin:w}, #1\n",
            "str {spin:w}, [{steps}, #8]\n",
            "22: ldr {spin:w}, [{steps}, #12]\n",
            "cbnz {spin:w}, 23f\n",
            "ldr {spin:w}, [{steps}, #4]\n",
            "cbz {spin:w}, 23f\n",
            "sub {spin:w}, {spin:w}, #1\n",
            "str {spin:w}, [{steps}, #4]\n",
            "b 22b\n",
            "23:\n",
        )
    };
}

section! {
    pub(crate) unsafe fn add(word, value) with u {
        "add {t}, {word}, {t}, lsl #{shift}",
        "ldr {u}, [{t}]",
        "add {u}, {u}, {value}",
        commit { "str {u}, [{t}]", "stlr {u}, [{t}]" }
    }
}

section! {
    pub(crate) unsafe fn add_through(word, offset, value) with u {
        "lsl {t}, {t}, #{shift}",
        "ldr {t}, [{word}, {t}]",
        "add {t}, {t}, {offset}",
        "ldr {u}, [{t}]",
        "add {u}, {u}, {value}",
        commit { "str {u}, [{t}]", "stlr {u}, [{t}]" }
    }
}

section! {
    pub(crate) unsafe fn compare_and_store(word, expect, new) else differs with u {
        "add {t}, {word}, {t}, lsl #{shift}",
        "ldr {u}, [{t}]",
        "cmp {u}, {expect}\nb.ne {differs}",
        commit { "str {new}, [{t}]", "stlr {new}, [{t}]" }
    }
}

section! {
    pub(crate) unsafe fn compare_two_and_store(word, expect, second, expect_second, new) else differs with u {
        "lsl {t}, {t}, #{shift}",
        "ldr {u}, [{word}, {t}]",
        "cmp {u}, {expect}\nb.ne {differs}",
        "ldr {u}, [{second}, {t}]",
        "cmp {u}, {expect_second}\nb.ne {differs}",
        commit { "str {new}, [{word}, {t}]", "add {t}, {word}, {t}\nstlr {new}, [{t}]" }
    }
}

section! {
    pub(crate) unsafe fn compare_store_and_store(word, expect, second, value, new) else differs with u {
        "lsl {t}, {t}, #{shift}",
        "ldr {u}, [{word}, {t}]",
        "cmp {u}, {expect}\nb.ne {differs}",
        "str {value}, [{second}, {t}]",
        commit { "str {new}, [{word}, {t}]", "add {t}, {word}, {t}\nstlr {new}, [{t}]" }
    }
}

section! {
    pub(crate) unsafe fn compare_link_and_store(word, expect, link, new) else differs with u {
        "add {t}, {word}, {t}, lsl #{shift}",
        "ldr {u}, [{t}]",
        "cmp {u}, {expect}\nb.ne {differs}",
        "str {expect}, [{link}]",
        commit { "str {new}, [{t}]", "stlr {new}, [{t}]" }
    }
}

section! {
    pub(crate) unsafe fn compare_copy_and_store(word, expect, to, from, length, new) else differs with d s v u {
        "add {d}, {to}, {t}, lsl #{shift}",
        "add {t}, {word}, {t}, lsl #{shift}",
        "ldr {v}, [{t}]",
        "cmp {v}, {expect}\nb.ne {differs}",
        "add {d}, {d}, {length}",
        "add {s}, {from}, {length}",
        // From the end: 1, 2, 4, 8 and 16 bytes down to a multiple of 32, and 32 in each turn from there.
        "tst {length}, #31\nb.eq 8f",
        "tbz {length}, #0, 6f",
        "ldrb {v:w}, [{s}, #-1]!",
        "strb {v:w}, [{d}, #-1]!",
        "6: tbz {length}, #1, 7f",
        "ldrh {v:w}, [{s}, #-2]!",
        "strh {v:w}, [{d}, #-2]!",
        "7: tbz {length}, #2, 40f",
        "ldr {v:w}, [{s}, #-4]!",
        "str {v:w}, [{d}, #-4]!",
        "40: tbz {length}, #3, 41f",
        "ldr {v}, [{s}, #-8]!",
        "str {v}, [{d}, #-8]!",
        "41: tbz {length}, #4, 8f",
        "ldp {v}, {u}, [{s}, #-16]!",
        "stp {v}, {u}, [{d}, #-16]!",
        "8: cmp {s}, {from}\nb.eq 9f",
        "42: ldp {v}, {u}, [{s}, #-16]",
        "stp {v}, {u}, [{d}, #-16]",
        "ldp {v}, {u}, [{s}, #-32]!",
        "stp {v}, {u}, [{d}, #-32]!",
        "cmp {s}, {from}\nb.ne 42b\n9:",
        commit { "str {new}, [{t}]", "stlr {new}, [{t}]" }
    }
}

section! {
    pub(crate) unsafe fn pop(word, empty, link) result head else empty with next {
        "add {t}, {word}, {t}, lsl #{shift}",
        "ldr {head}, [{t}]",
        "cmp {head}, {empty}\nb.eq 5f",
        "ldr {next}, [{head}, {link}]",
        commit { "str {next}, [{t}]", "stlr {next}, [{t}]" }
    }
}
