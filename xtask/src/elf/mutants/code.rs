//! Changes to instructions of the three CPUs.

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;

/// A no-op of that many bytes, on riscv64 one or two instructions.
pub fn nop(arch: Arch, length: usize) -> Vec<u8> {
    /// Of 1 to 9 bytes, as the manuals recommend: one instruction stays one instruction.
    const X86_64: [&[u8]; 9] = [
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    match (arch, length) {
        (Arch::X86_64, 0..=9) => X86_64[length.saturating_sub(1)].to_vec(),
        (Arch::X86_64, _) => [&vec![0x66; length - 9], X86_64[8]].concat(),
        (Arch::Aarch64, _) => 0xd503_201f_u32.to_le_bytes().to_vec(),
        (Arch::Riscv64, 2) => vec![0x01, 0x00],
        (Arch::Riscv64, _) => 0x0000_0013_u32.to_le_bytes().to_vec(),
    }
}

/// A store-release turned into a plain store: `stlr` becomes `str`. On x86_64 they are the same; on riscv64 the release
/// is a separate instruction.
pub fn relaxed(arch: Arch, code: &[u8]) -> Option<Vec<u8>> {
    let code = u32::from_le_bytes(code.try_into().ok()?);
    let is_release = arch == Arch::Aarch64 && code & 0xffff_fc00 == 0xc89f_fc00;
    is_release.then(|| (0xf900_0000 | code & 0x3ff).to_le_bytes().to_vec())
}

/// The bits of a branch's offset: runs of (bit in the offset, bit in the code, length), lowest first.
type Fields = &'static [(u32, u32, u32)];

/// The branch at `at`, redirected to `target`.
pub fn retarget(arch: Arch, code: &[u8], at: u64, target: u64) -> Result<Vec<u8>> {
    let offset = target.wrapping_sub(at) as i64;
    let mut bytes = code.to_vec();
    if arch == Arch::X86_64 {
        let offset = offset - code.len() as i64;
        let from = match code {
            [0x70..=0x7f | 0xeb, _] => 1,
            [0x0f, 0x80..=0x8f, _, _, _, _] => 2,
            [0xe9, _, _, _, _] => 1,
            _ => bail!("no branch: {code:x?}"),
        };
        let width = code.len() - from;
        let fits = offset >= -1 << (8 * width - 1) && offset < 1 << (8 * width - 1);
        fits.then_some(()).context("a branch that is too far")?;
        bytes[from..].copy_from_slice(&offset.to_le_bytes()[..width]);
        return Ok(bytes);
    }
    let mut word = [0; 4];
    word[..code.len()].copy_from_slice(code);
    let mut word = u32::from_le_bytes(word);
    let fields: Fields = match (arch, code.len()) {
        // b; b.cond, cbz, cbnz
        (Arch::Aarch64, _) if word >> 26 == 0b00_0101 => &[(2, 0, 26)],
        (Arch::Aarch64, _) => &[(2, 5, 19)],
        // c.j; c.beqz, c.bnez
        (_, 2) if word >> 13 == 0b101 => &[
            (1, 3, 3),
            (4, 11, 1),
            (5, 2, 1),
            (6, 7, 1),
            (7, 6, 1),
            (8, 9, 2),
            (10, 8, 1),
            (11, 12, 1),
        ],
        (_, 2) => &[(1, 3, 2), (3, 10, 2), (5, 2, 1), (6, 5, 2), (8, 12, 1)],
        // jal; beq and the others
        _ if word & 0x7f == 0x6f => &[(1, 21, 10), (11, 20, 1), (12, 12, 8), (20, 31, 1)],
        _ => &[(1, 8, 4), (5, 25, 6), (11, 7, 1), (12, 31, 1)],
    };
    for &(from, to, length) in fields {
        let mask = (1u32 << length) - 1;
        word = word & !(mask << to) | ((offset >> from) as u32 & mask) << to;
    }
    bytes.copy_from_slice(&word.to_le_bytes()[..code.len()]);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_leads_elsewhere() {
        let check = |arch, from: &[u8], to: &[u8]| {
            // From 0x1000 to 0x0ff8, eight bytes before it.
            assert_eq!(retarget(arch, from, 0x1000, 0xff8).unwrap(), to, "{arch}");
        };
        check(Arch::X86_64, &[0x75, 0x10], &[0x75, 0xf6]);
        check(
            Arch::X86_64,
            &[0x0f, 0x84, 1, 0, 0, 0],
            &[0x0f, 0x84, 0xf2, 0xff, 0xff, 0xff],
        );
        let word = |code: u32| code.to_le_bytes();
        check(Arch::Aarch64, &word(0x5400_0041), &word(0x54ff_ffc1)); // b.ne
        check(Arch::Aarch64, &word(0x1400_0002), &word(0x17ff_fffe)); // b
        check(Arch::Riscv64, &word(0x00b5_1463), &word(0xfeb5_1ce3)); // bne a0, a1
        check(Arch::Riscv64, &word(0x0080_006f), &word(0xff9f_f06f)); // j
        check(Arch::Riscv64, &[0x01, 0xe5], &[0x65, 0xfd]); // c.bnez a0
        check(Arch::Riscv64, &[0x21, 0xa0], &[0xe5, 0xbf]); // c.j
    }

    #[test]
    fn a_release_becomes_a_plain_store() {
        // stlr x1, [x2] and str x1, [x2]
        let (release, plain) = (0xc89f_fc41_u32.to_le_bytes(), 0xf900_0041_u32.to_le_bytes());
        assert_eq!(relaxed(Arch::Aarch64, &release).unwrap(), plain);
        assert_eq!(relaxed(Arch::Aarch64, &plain), None);
    }
}
