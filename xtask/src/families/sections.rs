//! Other users' links: the critical sections of one program by several linkers, with text between all parts that a
//! linker may separate; and `linker/init.ld` with content that freestanding programs seldom have.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::context::Context;
use crate::elf::sections::{init, sections};
use crate::guests::{self, guest_needs};
use crate::install::Need;
use crate::machine::boot;
use crate::machine::place::Place;
use crate::process::{command, optional_tool, output, tool};

use Kind::{Pie, Shared, Static};
use Linker::{Gnu, Gold, Lld, Mold};
use Program::{Aborts, FarAborts, Tls};

pub const FAMILY: Family = Family {
    name: "sections",
    cases,
    needs,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Linker {
    /// GNU ld, the compiler driver's own.
    Gnu,
    /// gold, by the compiler driver.
    Gold,
    /// Called directly: the driver of a cross compiler does not find it.
    Lld,
    /// Called directly.
    Mold,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// At a fixed address; it is run.
    Static,
    /// Position-independent; inspected only, since nothing would relocate it.
    Pie,
    /// Inspected only.
    Shared,
}

struct Link {
    test: &'static str,
    linker: Linker,
    kind: Kind,
    /// Whether unreferenced sections are dropped.
    collected: bool,
    program: Program,
    /// Whether linked by `linker/init.ld`.
    script: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// The guest that aborts each operation by a signal handler in place of the kernel.
    Aborts,
    /// The same with text beside it that no direct branch of aarch64 or riscv64 spans.
    FarAborts,
    /// A C program with thread-local variables, constructors, destructors and an indirect function.
    Tls,
}

const fn link(test: &'static str, linker: Linker, kind: Kind, program: Program) -> Link {
    Link {
        test,
        linker,
        kind,
        collected: false,
        program,
        script: false,
    }
}

const fn collected(link: Link) -> Link {
    Link {
        collected: true,
        ..link
    }
}

const fn script(link: Link) -> Link {
    Link {
        script: true,
        ..collected(link)
    }
}

#[rustfmt::skip] // a table
static LINKS: [Link; 14] = [
    link("default", Gnu, Static, Aborts),
    collected(link("collected", Gnu, Static, Aborts)),
    collected(link("collected-lld", Lld, Static, Aborts)),
    collected(link("collected-gold", Gold, Static, Aborts)),
    collected(link("collected-mold", Mold, Static, Aborts)),
    collected(link("pie", Gnu, Pie, Aborts)),
    collected(link("pie-lld", Lld, Pie, Aborts)),
    collected(link("shared", Gnu, Shared, Aborts)),
    link("far", Gnu, Static, FarAborts),
    link("far-lld", Lld, Static, FarAborts),
    script(link("init", Gnu, Static, Aborts)),
    script(link("init-lld", Lld, Static, Aborts)),
    script(link("init/tls-and-constructors", Gnu, Static, Tls)),
    script(link("init-lld/tls-and-constructors", Lld, Static, Tls)),
];

/// More text than a branch of aarch64 spans: 128 MiB.
const FILLER: &str = r#"
    .section .text.filler,"ax",%progbits
    .globl filler
filler: .skip 144 << 20
    .section .note.GNU-stack,"",%progbits
"#;

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Link(arch) = at else {
        return Ok(vec![]);
    };
    // gold does not support riscv64.
    let exists = |link: &&Link| link.linker != Gold || arch != Arch::Riscv64;
    let case = |link: &'static Link| Case::new(link.test, move |cx| judge(cx, arch, link));
    Ok(LINKS.iter().filter(exists).map(case).collect())
}

fn needs(cx: &Context, at: At) -> Vec<Need> {
    let At::Link(arch) = at else {
        return vec![];
    };
    let mut needs = guest_needs(cx, At::Place(Place::of_programs(arch)));
    needs.push(Need::new("ld.lld", &["lld"], "links by lld"));
    needs.push(Need::new("mold", &["mold"], "links by mold"));
    needs
}

/// Links it, inspects the file, and runs it where possible.
fn judge(cx: &Context, arch: Arch, link: &Link) -> Result<String> {
    match link.linker {
        Gnu => tool(&arch.tool("gcc"))?,
        Lld => tool("ld.lld")?,
        Gold => optional_tool(&arch.tool("ld.gold"))?,
        Mold => optional_tool("mold")?,
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("program");
    let mut objects = Vec::new();
    if link.program != Tls {
        objects.push(guests::object(cx, arch, "aborts")?);
    }
    match link.program {
        Aborts => {}
        FarAborts => {
            let source = folder.path().join("filler.s");
            std::fs::write(&source, FILLER)?;
            objects.push(compiled(arch, &source, folder.path())?);
        }
        Tls => {
            let source = cx.root.join("tests-qemu/link/tls.c");
            objects.push(compiled(arch, &source, folder.path())?);
        }
    }
    let mut linker = linker(arch, link);
    if link.script {
        let script = cx.root.join("linker/init.ld");
        let option = match link.linker {
            Gnu => "-Wl,-T,",
            _ => "-T",
        };
        linker.arg(format!("{option}{}", script.display()));
    }
    if link.program == Tls && link.linker == Gnu {
        // A section that the script does not name is an error.
        linker.arg("-Wl,--orphan-handling=error");
    }
    linker.args(&objects).arg("-o").arg(&file);
    output(&mut linker, "does not link", 120)?;
    let bytes = std::fs::read(&file)?;
    let found = match link.program {
        Tls => init(&bytes)?,
        _ => sections(&bytes)?,
    };
    if link.kind != Static {
        return Ok(found);
    }
    let run = boot::run(
        cx,
        Place::of_programs(arch),
        &file,
        &[],
        &boot::NO_ARGUMENTS,
    )?;
    run.finished.check("the program")?;
    Ok(format!("{found}; it ran"))
}

/// A C or assembly source as an object.
fn compiled(arch: Arch, source: &Path, folder: &Path) -> Result<PathBuf> {
    let object = folder.join("source.o");
    let mut compile = command(arch.tool("gcc"));
    compile
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding"])
        .args(["-fno-pie", "-fno-stack-protector", "-ffunction-sections"])
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&object);
    output(&mut compile, "does not compile", 120)?;
    Ok(object)
}

/// The linker's command line, without the files.
fn linker(arch: Arch, link: &Link) -> Command {
    let (mut linker, by_driver) = match link.linker {
        Gnu | Gold => (command(arch.tool("gcc")), true),
        Lld => (command("ld.lld"), false),
        Mold => (command("mold"), false),
    };
    if by_driver {
        linker.args(["-nostdlib", "-nostartfiles"]);
    }
    if link.linker == Gold {
        linker.arg("-fuse-ld=gold");
    }
    let kind: &[&str] = match (link.kind, by_driver) {
        (Static, true) => &["-static", "-no-pie"],
        (Static, false) => &["-static"],
        (Pie, true) => &["-static-pie"],
        (Pie, false) => &["-pie", "--no-dynamic-linker"],
        (Shared, _) => &["-shared"],
    };
    linker.args(kind);
    if link.collected {
        linker.arg(if by_driver {
            "-Wl,--gc-sections"
        } else {
            "--gc-sections"
        });
    }
    linker
}
