//! Other people's links: the critical sections of one program by several linkers, with text in between whatever can be
//! torn apart; and `linker/init.ld` with what a freestanding program seldom has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::link::cell;
use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::compiler;
use crate::guests;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Trouble, Verdict};
use crate::place::{Machine, Place, user_emulator};
use crate::process::{self, command};

mod inspect;

/// The family.
pub struct Sections;

const NAME: &str = "sections";

/// Who links.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Linker {
    /// The compiler driver's own, GNU ld.
    Gnu,
    /// gold, by the driver.
    Gold,
    /// Called directly: a cross compiler's driver does not find it.
    Lld,
    /// Likewise.
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
const LINKS: [Link; 14] = [
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

impl Family for Sections {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let listed = self.list(lab, selection);
        let mut needs = Vec::new();
        for arch in Arch::ALL {
            if listed.iter().any(|(at, _)| *at == cell(arch)) {
                needs.extend(compiler::needs(arch, lab.install, &lab.progress));
                needs.extend(place(arch).needs());
            }
        }
        if !listed.is_empty() {
            needs.push(Need::new("ld.lld", &["lld"], "links by lld"));
            needs.push(Need::new("mold", &["mold"], "links by mold"));
        }
        needs
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let arches = Arch::ALL
            .into_iter()
            .filter(|&arch| selection.wants_arch(arch) && selection.wants_kernel_free());
        arches
            .flat_map(|arch| {
                // gold was never written for riscv64.
                let exists =
                    move |link: &&Link| link.linker != Linker::Gold || arch != Arch::Riscv64;
                let links = LINKS.iter().filter(exists);
                links.map(move |link| (cell(arch), link.test.to_owned()))
            })
            .filter(|(_, test)| selection.wants(NAME, test))
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let listed = self.list(lab, selection);
        let mut jobs = Vec::new();
        for arch in Arch::ALL {
            let links: Vec<&Link> = LINKS
                .iter()
                .filter(|link| listed.contains(&(cell(arch), link.test.to_owned())))
                .collect();
            if !links.is_empty() {
                jobs.push(Job::alone(format!("links for {arch}"), move || {
                    run(lab, arch, &links)
                }));
            }
        }
        jobs
    }
}

fn place(arch: Arch) -> Place {
    let machine = if Arch::host() == Some(arch) {
        Machine::Native
    } else {
        Machine::User
    };
    Place { arch, machine }
}

fn run(lab: &Lab, arch: Arch, links: &[&Link]) -> Vec<Outcome> {
    let guest = || {
        let _step = lab.progress.step(format!("an object of {arch} for links"));
        let compiler = compiler::find(arch, lab.install, &lab.progress)
            .map_err(|error| Trouble::Missing(format!("{error:#}")))?;
        guests::object(&lab.root, arch, &compiler, "aborts", &lab.progress)
    };
    let guest = links
        .iter()
        .any(|link| link.program != Program::Tls)
        .then(guest);
    let judge = |link: &&Link| {
        let verdict = match (&guest, link.program) {
            (_, Program::Tls) => judge(lab, arch, link, None),
            (Some(Ok(object)), _) => judge(lab, arch, link, Some(object)),
            (Some(Err(why)), _) => why.clone().verdict(true),
            (None, _) => Verdict::Skipped("there is no object".to_owned()),
        };
        Outcome::new(&cell(arch), NAME, link.test, verdict)
    };
    links.iter().map(judge).collect()
}

fn judge(lab: &Lab, arch: Arch, link: &Link, object: Option<&Path>) -> Verdict {
    let (tool, required) = match link.linker {
        Linker::Gnu => (driver(arch), true),
        Linker::Lld => ("ld.lld".to_owned(), true),
        Linker::Gold if Arch::host() == Some(arch) => ("ld.gold".to_owned(), false),
        Linker::Gold => (format!("{arch}-linux-gnu-ld.gold"), false),
        Linker::Mold => ("mold".to_owned(), false),
    };
    if which::which(&tool).is_err() {
        return Trouble::Missing(format!("no {tool} here")).verdict(required);
    }
    if link.kind == Kind::Static && place(arch).machine == Machine::User {
        let emulator = user_emulator(arch);
        if which::which(&emulator).is_err() {
            return Verdict::Missing(format!("{emulator} is not installed"));
        }
    }
    made_and_looked_at(lab, arch, link, object)
        .unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")))
}

fn made_and_looked_at(
    lab: &Lab,
    arch: Arch,
    link: &Link,
    object: Option<&Path>,
) -> anyhow::Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("program");
    let mut objects: Vec<PathBuf> = object.into_iter().map(Path::to_owned).collect();
    match link.program {
        Program::Aborts => {}
        Program::FarAborts => {
            let source = folder.path().join("filler.s");
            std::fs::write(&source, FILLER)?;
            objects.push(compiled(arch, &source, folder.path())?);
        }
        Program::Tls => {
            let source = lab.root.join("tests-qemu/link/tls.c");
            objects.push(compiled(arch, &source, folder.path())?);
        }
    }
    let mut linker = linker(arch, link);
    if link.script {
        let script = lab.root.join("linker/init.ld");
        let option = if link.linker == Linker::Gnu {
            "-Wl,-T,"
        } else {
            "-T"
        };
        linker.arg(format!("{option}{}", script.display()));
    }
    if link.program == Program::Tls && link.linker == Linker::Gnu {
        // A section that the script does not name is an error, wherever the linker would put it.
        linker.arg("-Wl,--orphan-handling=error");
    }
    finish(linker.args(&objects).arg("-o").arg(&file), "does not link")?;
    let bytes = std::fs::read(&file)?;
    let told = match link.program {
        Program::Tls => inspect::init(&bytes)?,
        _ => inspect::sections(&bytes)?,
    };
    drop(bytes);
    if link.kind != Kind::Static {
        return Ok(Verdict::Passed(told));
    }
    let run = lab.run_program(&place(arch), &file, &[], &[]);
    let finished = match run {
        Ok(run) => run.finished,
        Err(why) => return Ok(why.verdict(true)),
    };
    ensure!(
        finished.ok(),
        "the program: {} {}",
        finished.end,
        finished.tail(2)
    );
    Ok(Verdict::Passed(format!("{told}; it ran")))
}

fn driver(arch: Arch) -> String {
    if Arch::host() == Some(arch) {
        "cc".to_owned()
    } else {
        arch.cross_linker()
    }
}

/// A source of C or of assembly as an object.
fn compiled(arch: Arch, source: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let object = folder.join("source.o");
    let mut compile = command(driver(arch));
    compile
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding"])
        .args(["-fno-pie", "-fno-stack-protector", "-ffunction-sections"])
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&object);
    finish(&mut compile, "does not compile")?;
    Ok(object)
}

/// The linker's command line, up to the files.
fn linker(arch: Arch, link: &Link) -> Command {
    let (mut linker, by_driver) = match link.linker {
        Linker::Gnu | Linker::Gold => (command(driver(arch)), true),
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

fn finish(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let finished = process::run(command, Duration::from_secs(120))
        .with_context(|| format!("{what}: did not start"))?;
    ensure!(finished.ok(), "{what}: {}", finished.tail(4));
    Ok(())
}
