//! The C programs of `tests-qemu/musl`: their tests, and how they are compiled.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::context::Context;
use crate::musl::{self, Release, Source, Variant};
use crate::process::{command, output};

/// The kind of link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Static,
    /// Against the shared libc, with a library of its own.
    Shared,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Static, Kind::Shared];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Static => "static",
            Kind::Shared => "shared",
        }
    }
}

/// The musl to build.
#[derive(Clone, Debug)]
pub struct Which {
    pub source: Source,
    pub variant: Variant,
}

impl Which {
    /// With the hooks only.
    pub fn hooked(source: impl Into<Source>) -> Which {
        Which {
            source: source.into(),
            variant: Variant::Hooked,
        }
    }
}

/// The sources with tests, in the order of their lists in `main.c`.
const SOURCES: [&str; 13] = [
    "main.c",
    "everywhere.c",
    "exits.c",
    "halfway.c",
    "handlers.c",
    "malloc.c",
    "malloc_one_cpu.c",
    "malloc_storm.c",
    "off.c",
    "sandbox.c",
    "sealed.c",
    "spawn.c",
    "storm.c",
];

/// The name of the static PIE.
pub const PIE: &str = "static-pie";

/// The test names in the lists of the sources.
pub fn names(cx: &Context) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for source in SOURCES {
        let text = std::fs::read_to_string(cx.root.join(FOLDER).join(source))?;
        let listed = text.lines().filter_map(|line| {
            let name = line.strip_prefix("\t{ \"")?.split('"').next()?;
            Some(name.to_owned())
        });
        names.extend(listed);
    }
    Ok(names)
}

/// The folder of the sources, relative to the workspace.
const FOLDER: &str = "tests-qemu/musl";

const LIBRARY: &str = "liblibrary.so";

#[derive(Clone)]
pub struct Programs {
    arch: Arch,
    folder: PathBuf,
    musl: PathBuf,
}

impl Programs {
    /// The musl for `arch` and both programs, built on demand; `boots`: for a machine where they lie in `/`.
    pub fn build(cx: &Context, which: &Which, arch: Arch, boots: bool) -> Result<Programs> {
        // Machines boot concurrently.
        let key = format!("musl-programs/{which:?}/{arch}/{boots}");
        cx.once(key, || {
            let programs = Programs::open_of(cx, which, arch, if boots { "-booted" } else { "" })?;
            programs.link_both(cx, boots)?;
            if boots {
                programs.link(cx, "sh", &["-static"], &["sh.c"])?;
            }
            Ok(programs)
        })
    }

    /// Links both programs and the library.
    pub fn link_both(&self, cx: &Context, boots: bool) -> Result<()> {
        self.link_static(cx)?;
        self.link(cx, LIBRARY, &["-fPIC", "-shared"], &["library.c"])?;
        self.link_shared(cx, boots)
    }

    /// The musl and a folder for its programs.
    pub fn open(cx: &Context, arch: Arch, variant: Variant) -> Result<Programs> {
        let source = Release::default().into();
        Programs::open_of(cx, &Which { source, variant }, arch, "")
    }

    /// `kind` separates folders: programs for a machine are linked while others run here.
    fn open_of(cx: &Context, which: &Which, arch: Arch, kind: &str) -> Result<Programs> {
        let musl = musl::built(cx, which.source.clone(), arch, which.variant)?;
        let store = cx.root.join(format!("target/musl/{arch}"));
        let folder = format!("programs-{}{kind}", which.variant.name());
        let folder = which.source.within(&store).join(folder);
        Programs::under(arch, musl, folder)
    }

    /// A folder for programs under an existing musl.
    pub fn under(arch: Arch, musl: PathBuf, folder: PathBuf) -> Result<Programs> {
        std::fs::create_dir_all(&folder)?;
        Ok(Programs { arch, folder, musl })
    }

    /// Links the tests, the library among them, into one static program.
    pub fn link_static(&self, cx: &Context) -> Result<PathBuf> {
        self.link(cx, "static", &["-static"], &tests_and(&["library.c"]))
    }

    /// The same as a static PIE.
    pub fn link_pie(&self, cx: &Context) -> Result<PathBuf> {
        let flags = ["-static-pie", "-fPIE", "-DLINK=\"static-pie\""];
        self.link(cx, PIE, &flags, &tests_and(&["library.c"]))
    }

    /// Links the shared program, after its library.
    fn link_shared(&self, cx: &Context, boots: bool) -> Result<()> {
        let flags = ["-DSHARED", "-DLINK=\"shared\""];
        let mut link = self.linker(cx, shared_name(boots), &flags, &tests_and(&[]));
        link.arg("-L").arg(&self.folder).arg("-llibrary");
        if boots {
            link.env("MUSL_LDSO_DIR", "/lib");
        } else {
            link.arg(format!("-Wl,-rpath,{}", self.folder.display()));
        }
        output(&mut link, "the shared program", 300).map(drop)
    }

    /// Compiles and links sources into the program of that name.
    pub fn link(
        &self,
        cx: &Context,
        name: &str,
        flags: &[&str],
        sources: &[&str],
    ) -> Result<PathBuf> {
        output(&mut self.linker(cx, name, flags, sources), name, 300)?;
        Ok(self.folder.join(name))
    }

    fn linker(&self, cx: &Context, name: &str, flags: &[&str], sources: &[&str]) -> Command {
        let mut link = command(self.gcc());
        if !flags.iter().any(|flag| flag.starts_with("-std=")) {
            link.arg("-std=gnu11");
        }
        link.args(["-O1", "-g", "-Wall", "-Wextra", "-Werror"])
            .arg("-pthread")
            .args(flags)
            .arg("-o")
            .arg(self.folder.join(name))
            .args(
                sources
                    .iter()
                    .map(|source| cx.root.join(FOLDER).join(source)),
            )
            .current_dir(&cx.root);
        link
    }

    /// The program for this machine or user mode.
    pub fn path(&self, kind: Kind) -> PathBuf {
        self.folder.join(kind.name())
    }

    pub fn gcc(&self) -> PathBuf {
        self.musl.join("bin/musl-gcc")
    }

    pub fn libc(&self, kind: Kind) -> PathBuf {
        self.musl.join(match kind {
            Kind::Static => "lib/libc.a",
            Kind::Shared => "lib/libc.so",
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Files packed beside the static program on a booted machine.
    pub fn beside(&self) -> Vec<(&'static str, PathBuf)> {
        let loader = match self.arch {
            Arch::X86_64 => "lib/ld-musl-x86_64.so.1",
            Arch::Aarch64 => "lib/ld-musl-aarch64.so.1",
            Arch::Riscv64 => "lib/ld-musl-riscv64.so.1",
        };
        vec![
            ("shared", self.folder.join(shared_name(true))),
            (loader, self.musl.join("lib/libc.so")),
            ("lib/liblibrary.so", self.folder.join(LIBRARY)),
            ("bin/sh", self.folder.join("sh")),
        ]
    }
}

fn shared_name(boots: bool) -> &'static str {
    if boots { "shared-booted" } else { "shared" }
}

/// The sources of the tests, and `more`.
fn tests_and(more: &[&'static str]) -> Vec<&'static str> {
    let tests = SOURCES.into_iter().chain(["filter.c", "rseq.c"]);
    tests.chain(more.iter().copied()).collect()
}
