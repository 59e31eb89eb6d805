//! Other people's links: the critical sections of one program by several linkers, with text in between whatever can be
//! torn apart; and `linker/init.ld` with what a freestanding program seldom has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::case::{At, Case, Family};
use crate::context::Context;
use crate::elf::sections::{init, sections};
use crate::guests::{self, guest_needs};
use crate::install::Need;
use crate::machine::boot;
use crate::machine::place::Place;
use crate::outcome::Outcome;
use crate::process::{command, optional_tool, output, tool};

pub const FAMILY: Family = Family {
    name: "sections",
    cases,
    needs,
};

/// Who links.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Linker {
    /// The compiler driver's own, GNU ld.
    Gnu,
    /// gold, by the driver.
    Gold,
    /// Called directly: a cross compiler's driver does not find it.
    Lld,
    /// Called directly as well.
    Mold,
}

/// What comes out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// At a fixed address. It is run.
    Static,
    /// Position-independent; nobody would relocate it, so that it is looked at alone.
    Pie,
    /// Likewise.
    Shared,
}

/// One link of one program.
struct Link {
    test: &'static str,
    linker: Linker,
    kind: Kind,
    /// Whether what nobody refers to is dropped.
    collected: bool,
    program: Program,
    /// Whether by `linker/init.ld`.
    script: bool,
}

/// What is linked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// The guest that aborts each operation by a signal handler in the kernel's place.
    Aborts,
    /// The same with text beside it that no direct branch of aarch64 or riscv64 reaches across.
    FarAborts,
    /// A C program with thread-local variables, constructors, destructors and an indirect function.
    Tls,
}

const PLAIN: Link = Link {
    test: "default",
    linker: Linker::Gnu,
    kind: Kind::Static,
    collected: false,
    program: Program::Aborts,
    script: false,
};

const COLLECTED: Link = Link {
    test: "collected",
    collected: true,
    ..PLAIN
};

const SCRIPT: Link = Link {
    test: "init",
    script: true,
    ..COLLECTED
};

/// The links. Another one is another entry.
static LINKS: [Link; 14] = [
    PLAIN,
    COLLECTED,
    Link {
        test: "collected-lld",
        linker: Linker::Lld,
        ..COLLECTED
    },
    Link {
        test: "collected-gold",
        linker: Linker::Gold,
        ..COLLECTED
    },
    Link {
        test: "collected-mold",
        linker: Linker::Mold,
        ..COLLECTED
    },
    Link {
        test: "pie",
        kind: Kind::Pie,
        ..COLLECTED
    },
    Link {
        test: "pie-lld",
        kind: Kind::Pie,
        linker: Linker::Lld,
        ..COLLECTED
    },
    Link {
        test: "shared",
        kind: Kind::Shared,
        ..COLLECTED
    },
    Link {
        test: "far",
        program: Program::FarAborts,
        ..PLAIN
    },
    Link {
        test: "far-lld",
        program: Program::FarAborts,
        linker: Linker::Lld,
        ..PLAIN
    },
    SCRIPT,
    Link {
        test: "init-lld",
        linker: Linker::Lld,
        ..SCRIPT
    },
    Link {
        test: "init/tls-and-constructors",
        program: Program::Tls,
        ..SCRIPT
    },
    Link {
        test: "init-lld/tls-and-constructors",
        program: Program::Tls,
        linker: Linker::Lld,
        ..SCRIPT
    },
];

/// More text than a branch of aarch64 reaches across: 128 MiB.
const FILLER: &str = r#"
    .section .text.filler,"ax",%progbits
    .globl filler
filler: .skip 144 << 20
    .section .note.GNU-stack,"",%progbits
"#;

fn cases(_: &Context, at: &At) -> Result<Vec<Case>> {
    let At::Link(arch) = *at else {
        return Ok(vec![]);
    };
    // gold was never written for riscv64.
    let exists = |link: &&Link| link.linker != Linker::Gold || arch != Arch::Riscv64;
    let case = |link: &'static Link| Case::new(link.test, move |cx| judge(cx, arch, link));
    Ok(LINKS.iter().filter(exists).map(case).collect())
}

fn needs(cx: &Context, at: &At) -> Vec<Need> {
    let At::Link(arch) = *at else {
        return vec![];
    };
    let mut needs = guest_needs(cx, &At::Place(Place::of_programs(arch)));
    needs.push(Need::new("ld.lld", &["lld"], "links by lld"));
    needs.push(Need::new("mold", &["mold"], "links by mold"));
    needs
}

/// Links it, looks at the file, and runs it where it can be run.
fn judge(cx: &Context, arch: Arch, link: &Link) -> Result<Outcome> {
    match link.linker {
        Linker::Gnu => tool(&arch.tool("gcc"))?,
        Linker::Lld => tool("ld.lld")?,
        Linker::Gold => optional_tool(&arch.tool("ld.gold"))?,
        Linker::Mold => optional_tool("mold")?,
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("program");
    let mut objects = Vec::new();
    if link.program != Program::Tls {
        objects.push(guests::object(cx, arch, "aborts")?);
    }
    match link.program {
        Program::Aborts => {}
        Program::FarAborts => {
            let source = folder.path().join("filler.s");
            std::fs::write(&source, FILLER)?;
            objects.push(compiled(arch, &source, folder.path())?);
        }
        Program::Tls => {
            let source = cx.root.join("tests-qemu/link/tls.c");
            objects.push(compiled(arch, &source, folder.path())?);
        }
    }
    let mut linker = linker(arch, link);
    if link.script {
        let script = cx.root.join("linker/init.ld");
        let option = match link.linker {
            Linker::Gnu => "-Wl,-T,",
            _ => "-T",
        };
        linker.arg(format!("{option}{}", script.display()));
    }
    if link.program == Program::Tls && link.linker == Linker::Gnu {
        // A section that the script does not name is an error, wherever the linker would put it.
        linker.arg("-Wl,--orphan-handling=error");
    }
    linker.args(&objects).arg("-o").arg(&file);
    output(&mut linker, "does not link", 120)?;
    let bytes = std::fs::read(&file)?;
    let found = match link.program {
        Program::Tls => init(&bytes)?,
        _ => sections(&bytes)?,
    };
    if link.kind != Kind::Static {
        return Ok(Outcome::Passed(found));
    }
    let run = boot::run(cx, &Place::of_programs(arch), &file, &[], &[])?;
    run.finished.check("the program")?;
    Ok(Outcome::Passed(format!("{found}; it ran")))
}

/// A source of C or of assembly as an object.
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

/// The linker's command line, up to the files.
fn linker(arch: Arch, link: &Link) -> Command {
    let (mut linker, by_driver) = match link.linker {
        Linker::Gnu | Linker::Gold => (command(arch.tool("gcc")), true),
        Linker::Lld => (command("ld.lld"), false),
        Linker::Mold => (command("mold"), false),
    };
    if by_driver {
        linker.args(["-nostdlib", "-nostartfiles"]);
    }
    if link.linker == Linker::Gold {
        linker.arg("-fuse-ld=gold");
    }
    let kind: &[&str] = match (link.kind, by_driver) {
        (Kind::Static, true) => &["-static", "-no-pie"],
        (Kind::Static, false) => &["-static"],
        (Kind::Pie, true) => &["-static-pie"],
        (Kind::Pie, false) => &["-pie", "--no-dynamic-linker"],
        (Kind::Shared, _) => &["-shared"],
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
