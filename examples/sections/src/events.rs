//! A per-CPU log of events: an append copies an event after the present ones, and publishes it by the length.

use core::mem::offset_of;
use core::sync::atomic::{AtomicUsize, Ordering::Acquire};

use rseq_rt::percpu::{Commit, Current, Index, Miss, Slots};

/// Bytes that a log holds.
pub const ROOM: usize = 448;
/// Bytes of an event beside its payload.
pub const HEAD: usize = 16;

/// The log of one CPU: the first `length` bytes of `words` are events.
#[repr(C, align(512))]
pub struct Log {
    length: AtomicUsize,
    room: [usize; 7],
    words: [AtomicUsize; ROOM / 8],
}

// The sections contain these as numbers.
const _: () = assert!(offset_of!(Log, length) == 0 && offset_of!(Log, words) == 64 && ROOM == 448);

impl Log {
    /// An empty log.
    pub const fn new() -> Self {
        Self {
            length: AtomicUsize::new(0),
            room: [0; 7],
            words: [const { AtomicUsize::new(0) }; ROOM / 8],
        }
    }

    /// The number of bytes of events in it.
    pub const fn length(&self) -> &AtomicUsize {
        &self.length
    }

    /// The words of the published events: always whole events, whatever CPU this is called on, as long as nobody takes
    /// them.
    pub fn published(&self) -> &[AtomicUsize] {
        let length = self.length.load(Acquire);
        self.words.get(..length / 8).unwrap_or(&self.words)
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends an event to this CPU's log: the two words, followed by the payload.
///
/// # Errors
/// [`Miss`]; `Differs`: the log is full.
///
/// # Safety
/// 1. The slots are written by this module alone, over one kind of index.
#[inline]
pub unsafe fn append<I: Index>(
    current: Current<'_, I>,
    logs: Slots<'_, I, Log>,
    kind: usize,
    time: usize,
    payload: &[usize],
) -> Result<(), Miss> {
    // The section adds two lengths.
    if size_of_val(payload) > ROOM - HEAD {
        return Err(Miss::Differs);
    }
    let from = payload.as_ptr().expose_provenance();
    // SAFETY: (1) a log, by (1), and as many bytes at `from`.
    unsafe {
        sections::append(
            current,
            logs,
            // Release, for readers on other CPUs.
            Commit::Release,
            logs.address(0),
            kind,
            time,
            from,
            size_of_val(payload),
        )
    }?;
    Ok(())
}

/// Moves all events of this CPU's log to `to`, leaves the log empty, and returns the number of words moved.
///
/// # Errors
/// [`Miss`]; `Differs`: there is none.
///
/// # Safety
/// 1. The slots are written by this module alone, over one kind of index.
#[inline]
pub unsafe fn take<I: Index>(
    current: Current<'_, I>,
    logs: Slots<'_, I, Log>,
    to: &mut [usize; ROOM / 8],
) -> Result<usize, Miss> {
    let to = to.as_mut_ptr().expose_provenance();
    // SAFETY: (1) a log, by (1), and room for all of it.
    let bytes = unsafe { sections::take(current, logs, Commit::Release, logs.address(0), to, 0) }?;
    Ok(bytes / 8)
}

/// The critical sections of the log, for each CPU architecture.
pub mod sections {
    #[cfg(target_arch = "x86_64")]
    rseq_rt::section! {
        /// Appends `first`, `second` and `bytes` bytes at `from`, a multiple of eight; `Differs` where there is no room.
        pub unsafe fn append(log, first, second, from, bytes) else differs with to length i v {
            "add {t}, {log}",
            "mov {to}, qword ptr [{t}]",
            "lea {length}, [{to} + {bytes} + 16]",
            "cmp {length}, 448\nja {differs}",
            "lea {to}, [{t} + {to} + 64]",
            "mov qword ptr [{to}], {first}",
            "mov qword ptr [{to} + 8], {second}",
            "mov {i}, {bytes}",
            "test {i}, {i}\njz 7f",
            "6: mov {v}, qword ptr [{from} + {i} - 8]",
            "mov qword ptr [{to} + {i} + 8], {v}",
            "sub {i}, 8\njnz 6b\n7:",
            commit { "mov qword ptr [{t}], {length}", "mov qword ptr [{t}], {length}" }
        }
    }

    #[cfg(target_arch = "x86_64")]
    rseq_rt::section! {
        /// Copies all events to `to` and empties the log; returns the number of bytes. `none` is 0.
        pub unsafe fn take(log, to, none) result bytes else none with i v {
            "add {t}, {log}",
            "mov {bytes}, qword ptr [{t}]",
            "cmp {bytes}, {none}\nje 5f",
            "mov {i}, {bytes}",
            "6: mov {v}, qword ptr [{t} + {i} + 56]",
            "mov qword ptr [{to} + {i} - 8], {v}",
            "sub {i}, 8\njnz 6b",
            commit { "mov qword ptr [{t}], {none}", "mov qword ptr [{t}], {none}" }
        }
    }

    #[cfg(target_arch = "aarch64")]
    rseq_rt::section! {
        /// Appends `first`, `second` and `bytes` bytes at `from`, a multiple of eight; `Differs` where there is no room.
        pub unsafe fn append(log, first, second, from, bytes) else differs with to length i v {
            "add {t}, {log}, {t}, lsl #{shift}",
            "ldr {to}, [{t}]",
            "add {length}, {to}, {bytes}",
            "add {length}, {length}, #16",
            "cmp {length}, #448\nb.hi {differs}",
            "add {to}, {t}, {to}",
            "add {to}, {to}, #64",
            "stp {first}, {second}, [{to}], #16",
            "mov {i}, {bytes}",
            "cbz {i}, 7f",
            "6: sub {i}, {i}, #8",
            "ldr {v}, [{from}, {i}]",
            "str {v}, [{to}, {i}]",
            "cbnz {i}, 6b\n7:",
            commit { "str {length}, [{t}]", "stlr {length}, [{t}]" }
        }
    }

    #[cfg(target_arch = "aarch64")]
    rseq_rt::section! {
        /// Copies all events to `to` and empties the log; returns the number of bytes. `none` is 0.
        pub unsafe fn take(log, to, none) result bytes else none with from i v {
            "add {t}, {log}, {t}, lsl #{shift}",
            "ldr {bytes}, [{t}]",
            "cmp {bytes}, {none}\nb.eq 5f",
            "add {from}, {t}, #64",
            "mov {i}, {bytes}",
            "6: sub {i}, {i}, #8",
            "ldr {v}, [{from}, {i}]",
            "str {v}, [{to}, {i}]",
            "cbnz {i}, 6b",
            commit { "str {none}, [{t}]", "stlr {none}, [{t}]" }
        }
    }

    #[cfg(target_arch = "riscv64")]
    rseq_rt::section! {
        /// Appends `first`, `second` and `bytes` bytes at `from`, a multiple of eight; `Differs` where there is no room.
        pub unsafe fn append(log, first, second, from, bytes) else differs with to length at end v {
            "add {t}, {log}, {t}",
            "ld {to}, 0({t})",
            "add {length}, {to}, {bytes}",
            "addi {length}, {length}, 16",
            "li {v}, 448",
            "bgtu {length}, {v}, {differs}",
            "add {to}, {to}, {t}",
            "sd {first}, 64({to})",
            "sd {second}, 72({to})",
            "mv {at}, {from}",
            "add {end}, {from}, {bytes}",
            "6: beq {at}, {end}, 7f",
            "ld {v}, 0({at})",
            "sd {v}, 80({to})",
            "addi {at}, {at}, 8",
            "addi {to}, {to}, 8",
            "j 6b\n7:",
            commit { "sd {length}, 0({t})", "fence rw, w\nsd {length}, 0({t})" }
        }
    }

    #[cfg(target_arch = "riscv64")]
    rseq_rt::section! {
        /// Copies all events to `to` and empties the log; returns the number of bytes. `none` is 0.
        pub unsafe fn take(log, to, none) result bytes else none with from at end v {
            "add {t}, {log}, {t}",
            "ld {bytes}, 0({t})",
            "beq {bytes}, {none}, 5f",
            "mv {from}, {t}",
            "mv {at}, {to}",
            "add {end}, {to}, {bytes}",
            "6: ld {v}, 64({from})",
            "sd {v}, 0({at})",
            "addi {from}, {from}, 8",
            "addi {at}, {at}, 8",
            "bne {at}, {end}, 6b",
            commit { "sd {none}, 0({t})", "fence rw, w\nsd {none}, 0({t})" }
        }
    }
}
