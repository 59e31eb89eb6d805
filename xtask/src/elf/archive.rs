//! The symbols of an archive: exported, undefined, defined.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use object::read::archive::ArchiveFile;
use object::{Object as _, ObjectSymbol as _, SymbolScope};

/// The prefix of the interface.
pub const PREFIX: &str = "rseq_rt_";

/// Symbols that a libc exports, with `--trio`.
pub const TRIO: [&str; 3] = ["__rseq_flags", "__rseq_offset", "__rseq_size"];

/// The linker's symbol for the dynamic section.
const DYNAMIC: &str = "_DYNAMIC";

/// Another symbol that every linker defines; GNU as refers to it where code reads the GOT.
const OFFSET_TABLE: &str = "_GLOBAL_OFFSET_TABLE_";

/// Substrings of symbol names that reveal a panic, an unwinder or an allocator.
const UNWANTED: [&str; 8] = [
    "panicking",
    "rust_begin_unwind",
    "rust_panic",
    "_Unwind_",
    "eh_personality",
    "__rust_alloc",
    "__rust_realloc",
    "__rust_no_alloc_shim",
];

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Defined, and visible to the linker.
    pub exported: BTreeSet<String>,
    /// Those exported symbols that a shared object made of the archive would export.
    pub shown: BTreeSet<String>,
    /// Referenced, and defined in no member.
    pub undefined: BTreeSet<String>,
    /// Referenced weakly, so that they may be absent.
    pub weak: BTreeSet<String>,
    pub named: BTreeSet<String>,
}

impl Symbols {
    pub fn read(archive: &Path) -> Result<Self> {
        let bytes = std::fs::read(archive).with_context(|| archive.display().to_string())?;
        let file = ArchiveFile::parse(&*bytes)?;
        let mut symbols = Self::default();
        for member in file.members() {
            let data = member?.data(&*bytes)?;
            symbols.add(&object::File::parse(data)?);
        }
        let defined = &symbols.exported;
        symbols.undefined.retain(|name| !defined.contains(name));
        symbols.weak.retain(|name| !defined.contains(name));
        Ok(symbols)
    }

    fn add(&mut self, object: &object::File<'_>) {
        for symbol in object.symbols() {
            // The assembler's own: mapping symbols and labels.
            let is_own = |name: &str| name.starts_with('$') || name.starts_with(".L");
            let is_named = |name: &&str| !name.is_empty() && !is_own(name) && *name != OFFSET_TABLE;
            let Some(name) = symbol.name().ok().filter(is_named) else {
                continue;
            };
            let kind = match (symbol.is_undefined(), symbol.is_weak(), symbol.is_global()) {
                (true, true, _) => Some(&mut self.weak),
                (true, false, _) => Some(&mut self.undefined),
                (false, _, true) => Some(&mut self.exported),
                (false, _, false) => None,
            };
            if let Some(kind) = kind {
                kind.insert(name.to_owned());
            }
            // A hidden symbol has linkage scope only.
            if !symbol.is_undefined() && symbol.scope() == SymbolScope::Dynamic {
                self.shown.insert(name.to_owned());
            }
            self.named.insert(name.to_owned());
        }
    }
}

/// Checks an archive: only the interface is global, and hidden except `__rseq_*`; nothing is undefined; no panic is
/// left. Returns the number of its symbols.
pub fn check(archive: &Path, trio: bool) -> Result<usize> {
    let symbols = Symbols::read(archive)?;
    let is_trio = |name: &&String| TRIO.contains(&name.as_str());
    let exported = &symbols.exported;
    let may_be_global = |name: &&String| name.starts_with(PREFIX) || trio && is_trio(name);
    let stray: Vec<_> = exported.iter().filter(|it| !may_be_global(it)).collect();
    ensure!(
        stray.is_empty(),
        "exports more than its interface: {stray:?}"
    );
    let shown = symbols.shown.iter();
    let shown: Vec<_> = shown.filter(|it| !(trio && is_trio(it))).collect();
    ensure!(shown.is_empty(), "a shared object would export {shown:?}");
    // Looked up at run time; absent where no libc owns rseq, or in a static program.
    let may_lack = |name: &&String| !trio && is_trio(name) || *name == DYNAMIC;
    let weak = symbols.weak.iter().filter(|name| !may_lack(name));
    let lacking: Vec<_> = symbols.undefined.iter().chain(weak).collect();
    ensure!(lacking.is_empty(), "lacks {lacking:?}");
    let named = symbols.named.iter();
    let unwanted: Vec<_> = named.filter(|name| is_unwanted(name)).collect();
    ensure!(
        unwanted.is_empty(),
        "can panic, unwind or allocate: {unwanted:?}"
    );
    let count = symbols.shown.iter().filter(is_trio).count();
    let wanted = if trio { TRIO.len() } else { 0 };
    ensure!(count == wanted, "exports {count} of the three __rseq_*");
    ensure!(
        !exported.is_empty(),
        "exports nothing, so this proves nothing"
    );
    Ok(exported.len())
}

/// Whether a symbol reveals a panic, an unwinder or an allocator.
pub fn is_unwanted(name: &str) -> bool {
    UNWANTED.iter().any(|part| name.contains(part))
}

/// The names of the interface declared in a header: before a parenthesis, or at the end of an `extern const`.
pub fn declared(header: &str) -> BTreeSet<String> {
    // Inline functions are in the header only.
    let is_inline =
        |line: &str| line.starts_with("static") || line.starts_with("RSEQ_RT_PERCPU_INLINE");
    let is_code = |line: &&str| !line.starts_with([' ', '\t', '#', '/']) && !is_inline(line);
    let mut names = BTreeSet::new();
    for line in header.lines().filter(is_code) {
        let name = line.split(['(', '[', ';']).next().unwrap_or_default();
        let name = name.rsplit([' ', '*']).next().unwrap_or_default();
        let is_declaration = line.contains('(') || line.starts_with("extern const");
        if is_declaration && (name.starts_with(PREFIX) || TRIO.contains(&name)) {
            names.insert(name.to_owned());
        }
    }
    names
}

/// The names that a shared object exports.
pub fn dynamic(file: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(file)?;
    let object = object::File::parse(&*bytes)?;
    let defined = object.dynamic_symbols();
    let names = defined.filter(|symbol| !symbol.is_undefined());
    Ok(names
        .filter_map(|symbol| symbol.name().ok())
        .map(str::to_owned)
        .collect())
}
