//! The critical sections of riscv64.
//!
//! The operations, their pseudo-code and their conditions are those of [`crate::percpu`]; here is only how each
//! is spelt. What is common to all:
//!
//! * The address of the descriptor goes into `rseq_cs` by a plain store, and the section begins behind it.
//! * The CPU number is read inside, so that a migration aborts, and is compared with nothing but the number of
//!   slots. `lw` extends `-1` and `-2` to large unsigned numbers, so that an area that is not
//!   registered has no slot by CPU number either (its `mm_cid` is 0: see `Current`).
//! * Release: `fence rw, w` before the store, as the psABI's table of atomics has it.
//! * The abort handler lies behind the function, in a subsection of its section of the file, where a `j` (1 MiB) reaches
//!   all of it; before it the signature, which is 4-aligned. No indirect jump, so no landing pad (Zicfilp).
//! * A line of the template is a step, so that tests can stop there.

/// The store of the descriptor's address, the index, the bound. Leaves the offset of the slot in `t`.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_enter {
    ($range:literal $($step:expr)?) => {
        concat!(
            "21: lla {t}, 3b\n",
            "sd {t}, 8({area})\n",
            "2:\n",
            $($step,)?
            "lw {t}, {id}({area})\n",
            $($step,)?
            "bgeu {t}, {slots}, ", $range, "\n",
            $($step,)?
            "slli {t}, {t}, {shift}\n",
            $($step)?
        )
    };
}

/// Behind the committing store: the end of the section, and the abort handler, which starts over while it may.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_leave {
    () => {
        $crate::__section_leave!("j {aborted}\n")
    };
    ($handler:expr) => {
        concat!(
            "5:\n",
            ".subsection 1\n",
            ".balign 4\n",
            ".word {signature}\n",
            "4:\n",
            "addi {left}, {left}, -1\n",
            // A conditional branch reaches 4 KiB, and not every assembler mends one that does not.
            "bltz {left}, 24f\n",
            "j 21b\n",
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
            "mv {",
            stringify!($result),
            "}, {",
            stringify!($none),
            "}\n",
            "li {t}, ",
            $code,
            "\n",
            "j 5b\n",
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
            "lw {spin}, 0({steps})\n",
            "addi {spin}, {spin}, -1\n",
            "sw {spin}, 0({steps})\n",
            "bnez {spin}, 23f\n",
            "li {spin}, 1\n",
            "sw {spin}, 8({steps})\n",
            "22: lw {spin}, 12({steps})\n",
            "bnez {spin}, 23f\n",
            "lw {spin}, 4({steps})\n",
            "beqz {spin}, 23f\n",
            "addi {spin}, {spin}, -1\n",
            "sw {spin}, 4({steps})\n",
            "j 22b\n",
            "23:\n",
        )
    };
}

section! {
    pub(crate) unsafe fn add(word, value) with u {
        "add {t}, {word}, {t}",
        "ld {u}, 0({t})",
        "add {u}, {u}, {value}",
        commit { "sd {u}, 0({t})", "fence rw, w\nsd {u}, 0({t})" }
    }
}

section! {
    pub(crate) unsafe fn add_through(word, offset, value) with u {
        "add {t}, {word}, {t}",
        "ld {t}, 0({t})",
        "add {t}, {t}, {offset}",
        "ld {u}, 0({t})",
        "add {u}, {u}, {value}",
        commit { "sd {u}, 0({t})", "fence rw, w\nsd {u}, 0({t})" }
    }
}

section! {
    pub(crate) unsafe fn compare_and_store(word, expect, new) else differs with u {
        "add {t}, {word}, {t}",
        "ld {u}, 0({t})",
        "bne {u}, {expect}, {differs}",
        commit { "sd {new}, 0({t})", "fence rw, w\nsd {new}, 0({t})" }
    }
}

section! {
    pub(crate) unsafe fn compare_two_and_store(word, expect, second, expect_second, new) else differs with u d {
        "add {d}, {second}, {t}",
        "add {t}, {word}, {t}",
        "ld {u}, 0({t})",
        "bne {u}, {expect}, {differs}",
        "ld {u}, 0({d})",
        "bne {u}, {expect_second}, {differs}",
        commit { "sd {new}, 0({t})", "fence rw, w\nsd {new}, 0({t})" }
    }
}

section! {
    pub(crate) unsafe fn compare_store_and_store(word, expect, second, value, new) else differs with u d {
        "add {d}, {second}, {t}",
        "add {t}, {word}, {t}",
        "ld {u}, 0({t})",
        "bne {u}, {expect}, {differs}",
        "sd {value}, 0({d})",
        commit { "sd {new}, 0({t})", "fence rw, w\nsd {new}, 0({t})" }
    }
}

section! {
    pub(crate) unsafe fn compare_link_and_store(word, expect, link, new) else differs with u {
        "add {t}, {word}, {t}",
        "ld {u}, 0({t})",
        "bne {u}, {expect}, {differs}",
        "sd {expect}, 0({link})",
        commit { "sd {new}, 0({t})", "fence rw, w\nsd {new}, 0({t})" }
    }
}

section! {
    pub(crate) unsafe fn compare_copy_and_store(word, expect, to, from, length, new) else differs with d s v u {
        "add {d}, {to}, {t}",
        "add {t}, {word}, {t}",
        "ld {v}, 0({t})",
        "bne {v}, {expect}, {differs}",
        "or {v}, {from}, {d}",
        "andi {v}, {v}, 7",
        "add {d}, {d}, {length}",
        "add {s}, {from}, {length}",
        "beqz {v}, 6f",
        // All of it in bytes where an address is odd: a misaligned access may be a trap.
        "beqz {length}, 9f",
        "43: lbu {v}, -1({s})",
        "sb {v}, -1({d})",
        "addi {s}, {s}, -1",
        "addi {d}, {d}, -1",
        "bne {s}, {from}, 43b",
        "j 9f",
        // From the end: 1, 2, 4, 8 and 16 bytes down to a multiple of 32, and 32 in each turn from there.
        "6: andi {v}, {length}, 31",
        "beqz {v}, 8f",
        "andi {v}, {length}, 1",
        "beqz {v}, 7f",
        "lbu {v}, -1({s})",
        "sb {v}, -1({d})",
        "addi {s}, {s}, -1",
        "addi {d}, {d}, -1",
        "7: andi {v}, {length}, 2",
        "beqz {v}, 40f",
        "lhu {v}, -2({s})",
        "sh {v}, -2({d})",
        "addi {s}, {s}, -2",
        "addi {d}, {d}, -2",
        "40: andi {v}, {length}, 4",
        "beqz {v}, 41f",
        "lw {v}, -4({s})",
        "sw {v}, -4({d})",
        "addi {s}, {s}, -4",
        "addi {d}, {d}, -4",
        "41: andi {v}, {length}, 8",
        "beqz {v}, 42f",
        "ld {v}, -8({s})",
        "sd {v}, -8({d})",
        "addi {s}, {s}, -8",
        "addi {d}, {d}, -8",
        "42: andi {v}, {length}, 16",
        "beqz {v}, 8f",
        "ld {v}, -8({s})",
        "ld {u}, -16({s})",
        "sd {v}, -8({d})",
        "sd {u}, -16({d})",
        "addi {s}, {s}, -16",
        "addi {d}, {d}, -16",
        "8: beq {s}, {from}, 9f",
        "44: ld {v}, -8({s})",
        "ld {u}, -16({s})",
        "sd {v}, -8({d})",
        "sd {u}, -16({d})",
        "ld {v}, -24({s})",
        "ld {u}, -32({s})",
        "sd {v}, -24({d})",
        "sd {u}, -32({d})",
        "addi {s}, {s}, -32",
        "addi {d}, {d}, -32",
        "bne {s}, {from}, 44b\n9:",
        commit { "sd {new}, 0({t})", "fence rw, w\nsd {new}, 0({t})" }
    }
}

section! {
    pub(crate) unsafe fn pop(word, empty, link) result head else empty with next {
        "add {t}, {word}, {t}",
        "ld {head}, 0({t})",
        "beq {head}, {empty}, 5f",
        "add {next}, {head}, {link}",
        "ld {next}, 0({next})",
        commit { "sd {next}, 0({t})", "fence rw, w\nsd {next}, 0({t})" }
    }
}
