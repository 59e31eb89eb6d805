//! aarch64: over an exclusive load and its store in one go, as debuggers do it.
//!
//! Each stop takes the reservation away, so that a loop around the two never ends under single steps.

use crate::errno::Errno;
use crate::sys::ptrace;

/// Where the registers have pc.
const PC: usize = 32;
const BRK: u64 = 0xd420_0000;
/// Instructions from a load to its store, at most.
const LONGEST: u64 = 16;

/// LDXR, LDAXR, LDXP and LDAXP, of any size.
const fn is_load(code: u32) -> bool {
    code & 0x3fc0_0000 == 0x0840_0000
}

/// STXR, STLXR, STXP and STLXP.
const fn is_store(code: u32) -> bool {
    code & 0x3fc0_0000 == 0x0800_0000
}

/// B.cond, CBZ and CBNZ: how far the branch goes.
const fn branch(code: u32) -> Option<i64> {
    if code & 0xff00_0000 == 0x5400_0000 || code & 0x7e00_0000 == 0x3400_0000 {
        // Bits 5 to 23, times four.
        Some((((code << 8) as i32) >> 13) as i64 * 4)
    } else {
        None
    }
}

fn code(tid: i32, at: u64) -> Result<u32, Errno> {
    ptrace::peek(tid, at).map(|word| word as u32)
}

/// The two ends of the sequence that the stopped tracee is about to begin: behind the store, and where the one
/// branch out of it leads. `None` if it is about to begin none.
pub fn ends(tid: i32) -> Result<Option<[u64; 2]>, Errno> {
    let pc = ptrace::registers(tid)?.get(PC).copied().unwrap_or(0);
    if !is_load(code(tid, pc)?) {
        return Ok(None);
    }
    let mut out = None;
    for nth in 1..=LONGEST {
        let at = pc + 4 * nth;
        let code = code(tid, at)?;
        if is_store(code) {
            return Ok(Some([at + 4, out.unwrap_or(at + 4)]));
        }
        out = branch(code).map(|far| at.wrapping_add_signed(far)).or(out);
    }
    Ok(None)
}

/// Two of them, in the code of a stopped tracee.
#[must_use = "they stay until `clear`"]
pub struct Breakpoints {
    tid: i32,
    /// Where, and what was there. The second word may have a part of the first.
    words: [(u64, u64); 2],
}

impl Breakpoints {
    /// In the tracee's own copy of the code.
    pub fn set(tid: i32, places: [u64; 2]) -> Result<Self, Errno> {
        let mut words = [(0, 0); 2];
        for (word, at) in words.iter_mut().zip(places) {
            let before = ptrace::peek(tid, at)?;
            ptrace::poke(tid, at, before >> 32 << 32 | BRK)?;
            *word = (at, before);
        }
        Ok(Self { tid, words })
    }

    /// Gone again; the tracee stands at one of them, and goes on with what was there.
    pub fn clear(self) -> Result<(), Errno> {
        for (at, before) in self.words.into_iter().rev() {
            ptrace::poke(self.tid, at, before)?;
        }
        Ok(())
    }
}
