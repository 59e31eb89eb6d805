//! Proofs about the release link of the minimal init, and the sizes of the hooks.

use anyhow::{Context as _, Result, bail, ensure};
use object::elf::{PF_W, PF_X, PT_GNU_STACK};
use object::read::elf::ProgramHeader as _;
use object::{Object as _, ObjectSymbol as _, SymbolKind};

use super::archive::is_unwanted;
use super::file::Elf;
use super::sections::entries;

/// No symbol reveals a panic, an unwinder or an allocator.
pub fn no_panic_unwind_alloc(elf: &Elf<'_>) -> Result<String> {
    let names = elf.symbols().filter_map(|symbol| symbol.name().ok());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    ensure!(
        !names.is_empty(),
        "the file has no symbols, so this proves nothing"
    );
    let bad = names.iter().filter(|name| is_unwanted(name));
    let bad: Vec<String> = bad
        .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
        .collect();
    ensure!(bad.is_empty(), "{}", bad.join(", "));
    Ok(format!("{} symbols", names.len()))
}

/// The program header makes the stack non-executable.
pub fn stack_not_executable(elf: &Elf<'_>) -> Result<String> {
    let endian = elf.endian();
    let mut segments = elf.elf_program_headers().iter();
    let stack = segments
        .find(|segment| segment.p_type(endian) == PT_GNU_STACK)
        .context("no GNU_STACK header: the kernel may make the stack executable")?;
    let executable = stack.p_flags(endian).0 & PF_X.0 != 0;
    ensure!(!executable, "GNU_STACK is executable");
    Ok(String::new())
}

/// No segment is both writable and executable.
pub fn no_writable_code(elf: &Elf<'_>) -> Result<String> {
    let endian = elf.endian();
    let both = PF_W.0 | PF_X.0;
    for segment in elf.elf_program_headers() {
        if segment.p_flags(endian).0 & both == both {
            bail!("writable and executable: {:#x}", segment.p_vaddr(endian));
        }
    }
    Ok(String::new())
}

/// Debuggers look for `__rseq_cs` in a loaded segment.
pub fn rseq_cs_is_loaded(elf: &Elf<'_>) -> Result<String> {
    let (_, descriptors) = entries(elf, "__rseq_cs", 32, 32)?;
    Ok(format!("{} descriptors", descriptors.len()))
}

/// A report rather than a proof: the text size of each hook and of their shared code.
pub fn code_size(elf: &Elf<'_>) -> Result<String> {
    let mut sizes = hook_sizes(elf)?;
    let (_, total) = sizes.pop().unwrap_or_default();
    let each: Vec<String> = sizes
        .iter()
        .map(|(name, size)| format!("{name} {size}"))
        .collect();
    Ok(format!(
        "{}; together {total} bytes of text",
        each.join(", ")
    ))
}

/// Text bytes of each hook, of their shared code, and in total.
pub fn hook_sizes(elf: &Elf<'_>) -> Result<Vec<(String, u64)>> {
    let (mut hooks, mut shared) = (Vec::new(), 0);
    let is_text = |symbol: &_| object::ObjectSymbol::kind(symbol) == SymbolKind::Text;
    for symbol in elf.symbols().filter(is_text) {
        let name = symbol.name().unwrap_or_default();
        let name = format!("{:#}", rustc_demangle::demangle(name));
        if let Some((_, hook)) = name.split_once("size_of_") {
            hooks.push((hook.to_owned(), symbol.size()));
        } else if name.contains("rseq_rt::") {
            shared += symbol.size();
        }
    }
    ensure!(
        hooks.len() == 4,
        "the hooks are not symbols of their own: {hooks:?}"
    );
    hooks.sort();
    hooks.push(("shared".to_owned(), shared));
    let total = hooks.iter().map(|(_, size)| size).sum();
    hooks.push(("together".to_owned(), total));
    Ok(hooks)
}
