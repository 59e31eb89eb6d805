//! Whether two sections have the same instructions, up to the registers and the reach of their branches.

use std::collections::BTreeMap;

/// The conditional branches of riscv64, each with its opposite.
const OPPOSITES: [[&str; 2]; 6] = [
    ["beq", "bne"],
    ["blt", "bge"],
    ["bltu", "bgeu"],
    ["beqz", "bnez"],
    ["blez", "bgtz"],
    ["bltz", "bgez"],
];

/// For each line of `golden` the lines of `copy` that do the same: one, or two where the assembler made a branch that
/// leads too far into its opposite and a jump. Both are listings of [`section`], of which the first `entry` lines are
/// before the section. An operand may share a register with another that has the same value.
///
/// [`section`]: crate::elf::listing::Listing::section
pub fn same(golden: &[String], copy: &[String], entry: usize) -> Option<Vec<Vec<usize>>> {
    let mut registers = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut targets = Vec::new();
    let mut at = 0;
    for line in golden {
        let group = match copy.get(at)? {
            one if unify(line, one, &mut registers, &mut targets) => vec![at],
            one => {
                let jump = copy.get(at + 1)?.strip_prefix("j ")?;
                let (opposite, skip) = one.rsplit_once('@')?;
                let (name, operands) = opposite.split_once(' ')?;
                (skip.parse() == Ok(at + 2 - entry)).then_some(())?;
                let branch = format!("{} {operands}{jump}", opposite_of(name)?);
                unify(line, &branch, &mut registers, &mut targets).then(|| vec![at, at + 1])?
            }
        };
        at += group.len();
        groups.push(group);
    }
    let leads = |&(golden, copy): &(usize, usize)| {
        let group = groups.get(golden + entry);
        group.map(|group| group[0]) == Some(copy + entry)
    };
    (at == copy.len() && targets.iter().all(leads)).then_some(groups)
}

fn opposite_of(name: &str) -> Option<&'static str> {
    OPPOSITES.into_iter().find_map(|[one, other]| match name {
        _ if name == one => Some(other),
        _ if name == other => Some(one),
        _ => None,
    })
}

/// Whether two lines are the same where each register of the first stands for one of the second. The targets of branches
/// within the section are collected.
fn unify(
    golden: &str,
    copy: &str,
    registers: &mut BTreeMap<String, String>,
    targets: &mut Vec<(usize, usize)>,
) -> bool {
    let mut known = registers.clone();
    let mut found = Vec::new();
    let (golden, copy) = (words(golden), words(copy));
    let is_same = golden.len() == copy.len()
        && golden.iter().zip(&copy).all(|(&one, &other)| {
            match (register(one), register(other), target(one), target(other)) {
                (Some((one, width)), Some((other, other_width)), _, _) => {
                    let meant = known.entry(one.to_owned()).or_insert(other.to_owned());
                    meant == other && width == other_width
                }
                (_, _, Some(one), Some(other)) => {
                    found.push((one, other));
                    true
                }
                _ => one == other,
            }
        });
    if is_same {
        *registers = known;
        targets.extend(found);
    }
    is_same
}

/// Words and what is between them.
fn words(line: &str) -> Vec<&str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '@';
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|letter| is_word(letter) != is_word(first));
        let (word, more) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = more;
    }
    words
}

/// A numbered register, and its width.
fn register(word: &str) -> Option<(&str, &str)> {
    let number = word.strip_prefix('r')?;
    let end = number.find(|letter: char| !letter.is_ascii_digit());
    let (number, width) = number.split_at(end.unwrap_or(number.len()));
    (!number.is_empty()).then_some((number, width))
}

fn target(word: &str) -> Option<usize> {
    word.strip_prefix('@')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(" | ").map(str::to_owned).collect()
    }

    fn groups(golden: &str, copy: &str) -> Option<Vec<Vec<usize>>> {
        same(&lines(golden), &lines(copy), 1)
    }

    #[test]
    fn registers_are_renamed_and_shared() {
        let golden = "sd r0,8(r1) | ld r2,0(r3) | add r2,r2,r4";
        assert!(groups(golden, "sd r1,8(r0) | ld r4,0(r2) | add r4,r4,r2").is_some());
        assert!(groups(golden, "sd r0,8(r1) | ld r2,0(r3) | add r2,r4,r2").is_none());
        assert!(groups(golden, "sd r0,8(r1) | ld r2,0(r3)").is_none());
        assert!(groups("ldr r0, [r1]", "ldr r0w, [r1]").is_none());
    }

    #[test]
    fn a_far_branch_is_two_lines() {
        let golden = "sd r0,8(r1) | beqz r2,@2 | bne r2,r3,out | sd r3,0(r2)";
        let far = "sd r0,8(r1) | beqz r2,@3 | beq r2,r3,@3 | j out | sd r3,0(r2)";
        let expected = Some(vec![vec![0], vec![1], vec![2, 3], vec![4]]);
        assert_eq!(groups(golden, far), expected);
        assert_eq!(
            groups(golden, &far.replace("beqz r2,@3", "beqz r2,@2")),
            None
        );
        assert_eq!(groups(golden, &far.replace("beq r2", "bne r2")), None);
        assert_eq!(groups(golden, &far.replace("r3,@3", "r3,@4")), None);
    }
}
