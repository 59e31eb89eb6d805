//! Breakpoints in the code of a stopped tracee.

use crate::arch::{BREAKPOINT, PC, PC_BEYOND_BREAKPOINT};
use crate::errno::Errno;
use crate::sys::ptrace;

pub const PLACES: usize = 3;

/// A set of breakpoints in the tracee's own copy of the code.
#[must_use = "they stay until `clear`"]
pub struct Breakpoints {
    tid: i32,
    /// Addresses and original words. A later word may overlap an earlier one.
    words: [Option<(u64, u64)>; PLACES],
}

impl Breakpoints {
    /// Sets them at these places, which may be equal.
    pub fn set(tid: i32, places: [u64; PLACES]) -> Result<Self, Errno> {
        let (code, bits) = BREAKPOINT;
        let mut words = [None; PLACES];
        for (nth, (word, at)) in words.iter_mut().zip(places).enumerate() {
            if places.iter().take(nth).any(|&before| before == at) {
                continue;
            }
            let before = ptrace::peek(tid, at)?;
            ptrace::poke(tid, at, before >> bits << bits | code)?;
            *word = Some((at, before));
        }
        Ok(Self { tid, words })
    }

    /// Removes them. A tracee stopped at one of them continues with the original code.
    pub fn clear(self) -> Result<(), Errno> {
        for (at, before) in self.words.into_iter().rev().flatten() {
            ptrace::poke(self.tid, at, before)?;
        }
        Ok(())
    }

    /// Whether the tracee is stopped at one of them. Where the CPU counts the breakpoint as executed, steps back to it.
    pub fn hit(&self) -> Result<bool, Errno> {
        let (mut registers, length) = ptrace::registers(self.tid)?;
        let here = registers[PC].wrapping_sub(PC_BEYOND_BREAKPOINT);
        registers[PC] = here;
        let hit = self.words.iter().flatten().any(|&(at, _)| at == here);
        if hit && PC_BEYOND_BREAKPOINT != 0 {
            ptrace::set_registers(self.tid, &registers, length)?;
        }
        Ok(hit)
    }
}
