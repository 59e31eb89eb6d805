//! Converts Intel syntax, used in Rust's assembly, to AT&T syntax, used in C's.

use anyhow::{Context as _, Result, bail};

/// Register names by size: 8, 4, 2 and 1 bytes.
const REGISTERS: [[&str; 4]; 7] = [
    ["rax", "eax", "ax", "al"],
    ["rcx", "ecx", "cx", "cl"],
    ["rdx", "edx", "dx", "dl"],
    ["r8", "r8d", "r8w", "r8b"],
    ["r9", "r9d", "r9w", "r9b"],
    ["r10", "r10d", "r10w", "r10b"],
    ["r11", "r11d", "r11w", "r11b"],
];

/// The registers of a section's temporaries.
pub fn register(nth: usize) -> Result<&'static str> {
    REGISTERS
        .get(nth)
        .map(|names| names[0])
        .context("too many temporaries for x86_64")
}

/// A name in braces as a C asm template writes it; `temporaries` are in fixed registers.
fn name(name: &str, temporaries: &[String]) -> Result<String> {
    let (name, size) = name.split_once(':').unwrap_or((name, ""));
    if let Some(nth) = temporaries.iter().position(|is| is == name) {
        let names = REGISTERS
            .get(nth)
            .context("too many temporaries for x86_64")?;
        let size = match size {
            "" => 0,
            "e" => 1,
            "x" => 2,
            "l" => 3,
            other => bail!("an unknown size: {other}"),
        };
        return Ok(format!("%%{}", names[size]));
    }
    let size = match size {
        "" => "",
        "e" => "k",
        "x" => "w",
        "l" => "b",
        other => bail!("an unknown size: {other}"),
    };
    // Resolved like the names of the other CPUs.
    Ok(match size {
        "" => format!("{{{name}}}"),
        size => format!("{{{name}:{size}}}"),
    })
}

fn operand(text: &str, temporaries: &[String]) -> Result<String> {
    let text = text.trim();
    if let Some((_, address)) = text.split_once("[") {
        let address = address
            .strip_suffix(']')
            .context("an address without an end")?;
        let (mut registers, mut displacement) = (Vec::new(), String::new());
        for part in address.replace(" - ", " + -").split(" + ") {
            match part.trim() {
                "{id}" => displacement = "{id}".to_owned(),
                "rip" => registers.push("%%rip".to_owned()),
                part if part.starts_with('{') => {
                    registers.push(name(part.trim_matches(['{', '}']), temporaries)?);
                }
                part => displacement = part.to_owned(),
            }
        }
        return Ok(format!("{displacement}({})", registers.join(", ")));
    }
    if text == "{shift}" || text.parse::<i64>().is_ok() {
        return Ok(format!("${text}"));
    }
    if text.starts_with('{') {
        return name(text.trim_matches(['{', '}']), temporaries);
    }
    Ok(text.to_owned())
}

/// The suffix of an instruction, from the size of its operands.
fn suffix(operands: &str) -> &'static str {
    if operands.contains("qword ptr") {
        "q"
    } else if operands.contains("dword ptr") || operands.contains(":e}") {
        "l"
    } else if operands.contains("word ptr") || operands.contains(":x}") {
        "w"
    } else if operands.contains("byte ptr") || operands.contains(":l}") {
        "b"
    } else {
        "q"
    }
}

/// Converts one line.
pub fn at_and_t(line: &str, temporaries: &[String]) -> Result<String> {
    let (label, instruction) = match line.split_once(": ") {
        Some((label, instruction)) if label.parse::<u8>().is_ok() => {
            (format!("{label}: "), instruction)
        }
        _ => (String::new(), line),
    };
    let Some((mnemonic, operands)) = instruction.split_once(' ') else {
        return Ok(line.to_owned());
    };
    if mnemonic.starts_with('.') || mnemonic.starts_with('j') {
        return Ok(line.to_owned());
    }
    let mut all = Vec::new();
    for part in operands.split(", ") {
        all.push(operand(part, temporaries)?);
    }
    all.reverse();
    let mnemonic = match mnemonic {
        "movzx" if operands.contains("byte ptr") => "movzbl".to_owned(),
        "movzx" => "movzwl".to_owned(),
        other => format!("{other}{}", suffix(operands)),
    };
    Ok(format!("{label}{mnemonic} {}", all.join(", ")))
}
