//! The critical sections of x86_64.
//!
//! The operations, their pseudo-code and their conditions are those of [`crate::percpu`]; here is only how each
//! is spelt. What is common to all:
//!
//! * The address of the descriptor goes into `rseq_cs` by a plain store, and the section begins behind it.
//! * The CPU number is read inside, so that a migration aborts, and is compared with nothing but the number of
//!   slots. `-1` and `-2` are large unsigned numbers, so that an area that is not
//!   registered has no slot by CPU number either (its `mm_cid` is 0: see `Current`).
//! * Release: TSO orders every store behind the loads and stores before it, so both commits are one `mov`.
//! * The abort handler lies behind the function, in a subsection of its section of the file, where every branch
//!   reaches; before it the signature, as the operand of a `ud1`.
//! * A line of the template is a step: no flag lives from one to the next, so that tests can stop there.

/// The store of the descriptor's address, the index, the bound. Leaves the offset of the slot in `t`.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_enter {
    ($range:literal $($step:expr)?) => {
        concat!(
            "21: lea {t}, [rip + 3b]\n",
            "mov qword ptr [{area} + 8], {t}\n",
            "2:\n",
            $($step,)?
            "mov {t:e}, dword ptr [{area} + {id}]\n",
            $($step,)?
            "cmp {t:e}, {slots:e}\n",
            "jae ", $range, "\n",
            $($step,)?
            "shl {t}, {shift}\n",
            $($step)?
        )
    };
}

/// Behind the committing store: the end of the section, and the abort handler, which starts over while it may.
#[doc(hidden)]
#[macro_export]
macro_rules! __section_leave {
    () => {
        $crate::__section_leave!("jmp {aborted}\n")
    };
    ($handler:expr) => {
        concat!(
            "5:\n",
            ".subsection 1\n",
            ".byte 0x0f, 0xb9, 0x3d\n",
            ".long {signature}\n",
            "4:\n",
            "sub {left}, 1\n",
            "jnc 21b\n",
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
            "mov {t:e}, ",
            $code,
            "\n",
            "jmp 5b\n",
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
            "dec dword ptr [{steps}]\n",
            "jnz 23f\n",
            "mov {spin:e}, 1\n",
            "mov dword ptr [{steps} + 8], {spin:e}\n",
            "22: cmp dword ptr [{steps} + 12], 0\n",
            "jne 23f\n",
            "cmp dword ptr [{steps} + 4], 0\n",
            "je 23f\n",
            "dec dword ptr [{steps} + 4]\n",
            "jmp 22b\n",
            "23:\n",
        )
    };
}

section! {
    pub(crate) unsafe fn add(word, value) {
        commit { "add qword ptr [{word} + {t}], {value}", "add qword ptr [{word} + {t}], {value}" }
    }
}

section! {
    pub(crate) unsafe fn add_through(word, offset, value) {
        "mov {t}, qword ptr [{word} + {t}]",
        commit { "add qword ptr [{t} + {offset}], {value}", "add qword ptr [{t} + {offset}], {value}" }
    }
}

section! {
    pub(crate) unsafe fn compare_and_store(word, expect, new) else differs {
        "cmp qword ptr [{word} + {t}], {expect}\njne {differs}",
        commit { "mov qword ptr [{word} + {t}], {new}", "mov qword ptr [{word} + {t}], {new}" }
    }
}

section! {
    pub(crate) unsafe fn compare_two_and_store(word, expect, second, expect_second, new) else differs {
        "cmp qword ptr [{word} + {t}], {expect}\njne {differs}",
        "cmp qword ptr [{second} + {t}], {expect_second}\njne {differs}",
        commit { "mov qword ptr [{word} + {t}], {new}", "mov qword ptr [{word} + {t}], {new}" }
    }
}

section! {
    pub(crate) unsafe fn compare_store_and_store(word, expect, second, value, new) else differs {
        "cmp qword ptr [{word} + {t}], {expect}\njne {differs}",
        "mov qword ptr [{second} + {t}], {value}",
        commit { "mov qword ptr [{word} + {t}], {new}", "mov qword ptr [{word} + {t}], {new}" }
    }
}

section! {
    pub(crate) unsafe fn compare_link_and_store(word, expect, link, new) else differs {
        "cmp qword ptr [{word} + {t}], {expect}\njne {differs}",
        "mov qword ptr [{link}], {expect}",
        commit { "mov qword ptr [{word} + {t}], {new}", "mov qword ptr [{word} + {t}], {new}" }
    }
}

section! {
    pub(crate) unsafe fn compare_copy_and_store(word, expect, to, from, length, new) else differs with d i v {
        "cmp qword ptr [{word} + {t}], {expect}\njne {differs}",
        "lea {d}, [{to} + {t}]",
        "mov {i}, {length}",
        // From the end: 1, 2, 4, 8 and 16 bytes down to a multiple of 32, and 32 in each turn from there.
        "test {i:l}, 31\njz 8f",
        "test {i:l}, 1\njz 6f",
        "movzx {v:e}, byte ptr [{from} + {i} - 1]",
        "mov byte ptr [{d} + {i} - 1], {v:l}",
        "dec {i}",
        "6: test {i:l}, 2\njz 7f",
        "movzx {v:e}, word ptr [{from} + {i} - 2]",
        "mov word ptr [{d} + {i} - 2], {v:x}",
        "sub {i}, 2",
        "7: test {i:l}, 4\njz 40f",
        "mov {v:e}, dword ptr [{from} + {i} - 4]",
        "mov dword ptr [{d} + {i} - 4], {v:e}",
        "sub {i}, 4",
        "40: test {i:l}, 8\njz 41f",
        "mov {v}, qword ptr [{from} + {i} - 8]",
        "mov qword ptr [{d} + {i} - 8], {v}",
        "sub {i}, 8",
        "41: test {i:l}, 16\njz 8f",
        "mov {v}, qword ptr [{from} + {i} - 8]",
        "mov qword ptr [{d} + {i} - 8], {v}",
        "mov {v}, qword ptr [{from} + {i} - 16]",
        "mov qword ptr [{d} + {i} - 16], {v}",
        "sub {i}, 16",
        "8: test {i}, {i}\njz 9f",
        "42: mov {v}, qword ptr [{from} + {i} - 8]",
        "mov qword ptr [{d} + {i} - 8], {v}",
        "mov {v}, qword ptr [{from} + {i} - 16]",
        "mov qword ptr [{d} + {i} - 16], {v}",
        "mov {v}, qword ptr [{from} + {i} - 24]",
        "mov qword ptr [{d} + {i} - 24], {v}",
        "mov {v}, qword ptr [{from} + {i} - 32]",
        "mov qword ptr [{d} + {i} - 32], {v}",
        "sub {i}, 32\njnz 42b\n9:",
        commit { "mov qword ptr [{word} + {t}], {new}", "mov qword ptr [{word} + {t}], {new}" }
    }
}

section! {
    pub(crate) unsafe fn pop(word, empty, link) result head else empty with next {
        "mov {head}, qword ptr [{word} + {t}]",
        "cmp {head}, {empty}\nje 5f",
        "mov {next}, qword ptr [{head} + {link}]",
        commit { "mov qword ptr [{word} + {t}], {next}", "mov qword ptr [{word} + {t}], {next}" }
    }
}
