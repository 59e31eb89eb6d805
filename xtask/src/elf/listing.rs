//! A disassembly from objdump, made independent of addresses and of register allocation.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::arch::Arch;
use crate::process::{output, tool};

/// Instructions by address.
pub struct Listing {
    arch: Arch,
    lines: BTreeMap<u64, String>,
}

impl Listing {
    /// Disassembles `file`.
    pub fn of(arch: Arch, file: &Path) -> Result<Self> {
        let mut dump = tool(&arch.tool("objdump"))?;
        dump.args(["--disassemble", "--no-show-raw-insn"]);
        if arch == Arch::X86_64 {
            dump.args(["-M", "intel"]);
        }
        let text = output(dump.arg(file), "objdump", 120)?;
        Ok(Self::parse(arch, &text))
    }

    fn parse(arch: Arch, text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let (address, rest) = line.trim_start().split_once(':')?;
            let address = u64::from_str_radix(address, 16).ok()?;
            // `# ` and `//` begin comments; `#8` is an operand.
            let code = rest.split(" # ").next()?.split("//").next()?.trim();
            (!code.is_empty()).then(|| (address, code.to_owned()))
        });
        Self {
            arch,
            lines: lines.collect(),
        }
    }

    /// The addresses of the instructions from `start` on.
    pub fn from(&self, start: u64) -> impl Iterator<Item = u64> + use<'_> {
        self.lines.range(start..).map(|(&at, _)| at)
    }

    /// The last `count` addresses before `end`.
    pub fn before(&self, end: u64, count: usize) -> Vec<u64> {
        let mut places: Vec<u64> = self
            .lines
            .range(..end)
            .map(|(&at, _)| at)
            .rev()
            .take(count)
            .collect();
        places.reverse();
        places
    }

    /// The instruction at `at`, as objdump prints it.
    pub fn line(&self, at: u64) -> Option<&str> {
        self.lines.get(&at).map(String::as_str)
    }

    /// The target of the branch at `at`.
    pub fn target(&self, at: u64) -> Option<u64> {
        target(self.line(at)?).map(|(_, target)| target)
    }

    /// The number of instructions from `start` to the first return, no conditional branch taken.
    pub fn straight(&self, start: u64) -> Option<usize> {
        let mut at = start;
        for count in 1..1000 {
            let line = self.lines.get(&at)?;
            let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match name {
                "ret" | "retq" => return Some(count),
                "jmp" | "b" | "j" => {
                    let target = rest.trim().split(' ').next()?;
                    at = u64::from_str_radix(target, 16).ok()?;
                }
                _ => at = self.lines.range(at + 1..).next().map(|(&next, _)| next)?,
            }
        }
        None
    }

    /// The address behind the first unconditional jump from `start` on.
    pub fn behind_jump(&self, start: u64) -> u64 {
        let mut lines = self.lines.range(start..);
        let is_jump = |line: &str| {
            ["jmp", "b", "j"].contains(&line.split(char::is_whitespace).next().unwrap_or(line))
        };
        let jump = lines.find(|(_, line)| is_jump(line));
        let next = lines.next().map(|(&next, _)| next);
        next.or(jump.map(|(&at, _)| at)).unwrap_or(start)
    }

    /// The section from `start` to `end`, with the preceding lines that store the descriptor's address.
    pub fn section(&self, start: u64, end: u64) -> Vec<String> {
        let before = entry(self.arch);
        let mut registers = Vec::new();
        let mut text = Vec::new();
        let leading: Vec<_> = self.lines.range(..start).rev().take(before).collect();
        for (nth, (_, line)) in leading.iter().rev().enumerate() {
            // The instructions that form the address are reduced to mnemonics: the address is the linker's.
            let full = self.plain(line, &mut registers, &[]);
            let name = full.split(' ').next().unwrap_or_default();
            text.push(if nth + 1 == before {
                full.clone()
            } else {
                format!("{name} ...")
            });
        }
        let inside: Vec<u64> = self.lines.range(start..end).map(|(&at, _)| at).collect();
        for line in self.lines.range(start..end).map(|(_, line)| line) {
            text.push(self.plain(line, &mut registers, &inside));
        }
        text
    }

    /// A function without a branch, up to its return.
    pub fn function(&self, start: u64) -> Vec<String> {
        let mut registers = Vec::new();
        let lines = self.lines.range(start..).map(|(_, line)| line);
        lines
            .take_while(|line| !line.starts_with("ret"))
            .map(|line| self.plain(line, &mut registers, &[]))
            .collect()
    }

    /// One line: registers numbered by first use, targets relative to the section.
    fn plain(&self, line: &str, registers: &mut Vec<String>, inside: &[u64]) -> String {
        let (name, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let mut plain = name.to_owned();
        let mut operands = operands.trim().to_owned();
        if let Some((begin, target)) = target(&operands) {
            let place = inside.iter().position(|&at| at == target);
            let place = place.map_or("out".to_owned(), |place| format!("@{place}"));
            operands.replace_range(begin.., &place);
        }
        if !operands.is_empty() {
            plain.push(' ');
        }
        let mut word = String::new();
        for letter in operands.chars().chain([' ']) {
            if letter.is_ascii_alphanumeric() || letter == '@' {
                word.push(letter);
                continue;
            }
            match register(self.arch, &word) {
                Some((register, width)) => {
                    let known = registers.iter().position(|known| *known == register);
                    let number = known.unwrap_or_else(|| {
                        registers.push(register);
                        registers.len() - 1
                    });
                    plain.push_str(&format!("r{number}{width}"));
                }
                None => plain.push_str(&word),
            }
            word.clear();
            plain.push(letter);
        }
        plain.trim_end().to_owned()
    }
}

/// The number of instructions before a section that store the address of its descriptor.
pub const fn entry(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 2,
        Arch::Aarch64 | Arch::Riscv64 => 3,
    }
}

/// The target address of a branch, and where it begins in the text.
fn target(text: &str) -> Option<(usize, u64)> {
    let symbol = text.find(" <")?;
    let begin = text[..symbol]
        .rfind([',', ' ', '\t'])
        .map_or(0, |at| at + 1);
    let target = u64::from_str_radix(text[begin..symbol].trim(), 16).ok()?;
    Some((begin, target))
}

/// The register that `word` names, and the width if it is not the full one.
fn register(arch: Arch, word: &str) -> Option<(String, &'static str)> {
    let digits = |from: &str| !from.is_empty() && from.bytes().all(|byte| byte.is_ascii_digit());
    match arch {
        Arch::X86_64 => {
            const OLD: [&str; 8] = ["ax", "bx", "cx", "dx", "si", "di", "bp", "sp"];
            if let Some(number) = word.strip_prefix('r').filter(|rest| digits(rest)) {
                return Some((number.to_owned(), ""));
            }
            for width in ["d", "w", "b"] {
                let number = word
                    .strip_prefix('r')
                    .and_then(|rest| rest.strip_suffix(width));
                if let Some(number) = number.filter(|rest| digits(rest)) {
                    return Some((number.to_owned(), width));
                }
            }
            OLD.into_iter().find_map(|old| match word {
                _ if word == format!("r{old}") => Some((old.to_owned(), "")),
                _ if word == format!("e{old}") => Some((old.to_owned(), "d")),
                _ if word == old => Some((old.to_owned(), "w")),
                _ if word == format!("{}l", &old[..1]) || word == format!("{old}l") => {
                    Some((old.to_owned(), "b"))
                }
                _ => None,
            })
        }
        Arch::Aarch64 => {
            let (kind, number) = word.split_at_checked(1)?;
            let width = match kind {
                "x" => "",
                "w" => "w",
                _ => return None,
            };
            digits(number).then(|| (number.to_owned(), width))
        }
        Arch::Riscv64 => {
            let (kind, number) = word.split_at_checked(1)?;
            let named = ["a", "s", "t"].contains(&kind) && digits(number);
            (named || word == "ra").then(|| (word.to_owned(), ""))
        }
    }
}
