//! The public interfaces, pinned in files so that no release changes them by accident.

use anyhow::Result;
use public_api::Builder;

use crate::arch::Arch;
use crate::case::Case;
use crate::compiler::{self, cargo, finish};
use crate::context::Context;
use crate::families::golden::compare;
use crate::outcome::Missing;
use crate::process::{optional_tool, output};

/// All headers but the one of the operations, which another includes.
const HEADERS: [&str; 5] = [
    "rseq_rt.h",
    "rseq_rt_percpu.h",
    "rseq_rt_structures.h",
    "rseq_rt_buffers.h",
    "rseq_rt_library.h",
];

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("api/rseq-rt", |cx| rust(cx, "rseq-rt")),
        Case::new("api/rseq-rt-std", |cx| rust(cx, "rseq-rt-std")),
        Case::new("api/c", c),
    ]
}

/// The interface of a crate, which is the same on each CPU.
fn rust(cx: &Context, package: &str) -> Result<String> {
    let mut seen = Vec::new();
    for arch in Arch::ALL {
        if compiler::has_std(cx, arch.target()) {
            let path = format!("tests-qemu/golden/api-{package}.txt");
            compare(cx, &path, &items(cx, package, arch)?, "host::api")?;
            seen.push(arch.to_string());
        }
    }
    match seen.is_empty() {
        true => Err(Missing::optional("the compiler has std for none of them")),
        false => Ok(seen.join(", ")),
    }
}

/// One item per line, without auto traits, blanket impls and derives.
fn items(cx: &Context, package: &str, arch: Arch) -> Result<String> {
    let folder = cx.root.join("target/embed/api");
    let arguments = ["rustdoc", "--quiet", "--lib", "--package", package];
    let mut document = cargo(cx, None, &arguments);
    document
        .args(["--target", arch.target(), "--target-dir"])
        .arg(&folder)
        .args(["--", "-Zunstable-options", "--output-format=json"])
        .env("RUSTC_BOOTSTRAP", "1");
    finish(document)?.check("rustdoc")?;
    let name = package.replace('-', "_");
    let file = folder
        .join(arch.target())
        .join("doc")
        .join(name)
        .with_extension("json");
    let api = Builder::from_rustdoc_json(&file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    // The format has a version, which rises with the compiler's.
    let api = api.map_err(|why| {
        let why = format!("public-api does not read this rustdoc's JSON: {why}");
        Missing::optional(why)
    })?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// The declarations and the macros of the headers, as a C compiler for x86_64 sees them.
fn c(cx: &Context) -> Result<()> {
    if Arch::host() != Some(Arch::X86_64) {
        let why = "the listing is of x86_64: the signature and the size of a line are its own";
        return Err(Missing::optional(why));
    }
    let mut lines = declarations(&preprocessed(cx, "-P")?);
    lines.retain(|line| line.to_lowercase().contains("rseq"));
    let macros = preprocessed(cx, "-dM")?;
    let mut macros: Vec<&str> = macros.lines().filter(|line| is_public(line)).collect();
    macros.sort_unstable();
    lines.extend(macros.into_iter().map(str::to_owned));
    let text = lines.join("\n") + "\n";
    compare(cx, "tests-qemu/golden/api-c.txt", &text, "host::api")
}

/// Neither a helper of the operations' text nor an include guard.
fn is_public(define: &str) -> bool {
    let name = define.strip_prefix("#define RSEQ_RT_");
    name.is_some_and(|name| {
        let guard = name.starts_with("H ") || name.contains("_H ");
        let helpers = ["PERCPU_", "BUFFERS_", "TRIO "];
        !(guard || helpers.iter().any(|start| name.starts_with(start)))
    })
}

fn preprocessed(cx: &Context, how: &str) -> Result<String> {
    let mut compile = optional_tool("gcc")?;
    compile.args(["-E", how, "-DRSEQ_RT_TRIO", "-I"]);
    compile.arg(cx.root.join("include"));
    for header in HEADERS {
        compile.args(["-include", header]);
    }
    compile.args(["-x", "c", "/dev/null"]);
    output(&mut compile, "the headers do not compile", 60)
}

/// The declarations in a preprocessed C text, one per line; functions without bodies.
fn declarations(text: &str) -> Vec<String> {
    let (mut all, mut one) = (Vec::new(), String::new());
    let mut depth = 0;
    let mut in_body = false;
    for letter in text.chars() {
        match letter {
            '{' => {
                in_body |= depth == 0 && one.trim_end().ends_with(')');
                depth += 1;
            }
            '}' => depth -= 1,
            _ => {}
        }
        if !in_body {
            one.push(letter);
        }
        let ends = depth == 0 && (letter == ';' || in_body && letter == '}');
        if ends {
            let words: Vec<&str> = one.split_whitespace().collect();
            all.push(words.join(" "));
            one.clear();
            in_body = false;
        }
    }
    all
}
