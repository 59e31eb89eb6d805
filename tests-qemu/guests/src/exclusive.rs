//! aarch64, riscv64: steps over an exclusive load and its store at once, as debuggers do. Each stop clears the
//! reservation, so that a loop around the two never ends when single-stepped.

use crate::arch::decode;
use crate::errno::Errno;
use crate::sys::ptrace;

/// Maximum number of instructions from a load to its store.
const LONGEST: usize = 16;

/// An exclusive load up to its store.
#[derive(Clone, Copy)]
pub struct Sequence {
    pub from: u64,
    /// The address after the store.
    pub to: u64,
    /// The target of the one branch out of it, or `to`.
    pub out: u64,
}

/// The sequence that begins at `from`, if any.
pub fn sequence(tid: i32, from: u64) -> Result<Option<Sequence>, Errno> {
    if !decode::is_exclusive_load(code(tid, from)?) {
        return Ok(None);
    }
    let (mut at, mut out) = (from, None);
    for _ in 0..LONGEST {
        let code = code(tid, at)?;
        let next = at.wrapping_add(decode::length(code));
        if decode::is_exclusive_store(code) {
            let out = out.unwrap_or(next);
            return Ok(Some(Sequence {
                from,
                to: next,
                out,
            }));
        }
        out = decode::branch(code)
            .map(|far| at.wrapping_add_signed(far))
            .or(out);
        at = next;
    }
    Ok(None)
}

/// The instruction at `at`; a shorter one is in the low bits.
pub fn code(tid: i32, at: u64) -> Result<u32, Errno> {
    ptrace::peek(tid, at).map(|word| word as u32)
}
