//! The C programs of `tests-qemu/musl`: their tests, and how they are compiled.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::context::Context;
use crate::musl::{self, Release, Variant};
use crate::process::{command, output};

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Static,
    /// With the libc and a library of its own beside it.
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

/// The sources with tests, in the order of their lists in `main.c`.
const SOURCES: [(&str, &str); 10] = [
    ("main.c", include_str!("../../../../tests-qemu/musl/main.c")),
    (
        "everywhere.c",
        include_str!("../../../../tests-qemu/musl/everywhere.c"),
    ),
    (
        "exits.c",
        include_str!("../../../../tests-qemu/musl/exits.c"),
    ),
    (
        "halfway.c",
        include_str!("../../../../tests-qemu/musl/halfway.c"),
    ),
    (
        "handlers.c",
        include_str!("../../../../tests-qemu/musl/handlers.c"),
    ),
    ("off.c", include_str!("../../../../tests-qemu/musl/off.c")),
    (
        "sandbox.c",
        include_str!("../../../../tests-qemu/musl/sandbox.c"),
    ),
    (
        "sealed.c",
        include_str!("../../../../tests-qemu/musl/sealed.c"),
    ),
    (
        "spawn.c",
        include_str!("../../../../tests-qemu/musl/spawn.c"),
    ),
    (
        "storm.c",
        include_str!("../../../../tests-qemu/musl/storm.c"),
    ),
];

/// The name of the position-independent static program.
pub const PIE: &str = "static-pie";

/// The names that stand in the lists of the sources.
pub fn names() -> impl Iterator<Item = &'static str> {
    let lines = SOURCES.into_iter().flat_map(|(_, text)| text.lines());
    lines.filter_map(|line| line.strip_prefix("\t{ \"")?.split('"').next())
}

const LIBRARY: &str = "liblibrary.so";

#[derive(Clone)]
pub struct Programs {
    arch: Arch,
    folder: PathBuf,
    musl: PathBuf,
}

impl Programs {
    /// Our musl for `arch` and both programs, built if need be; `boots`: for a machine where they stand in `/`.
    pub fn build(cx: &Context, release: Release, arch: Arch, boots: bool) -> Result<Programs> {
        // Machines boot side by side.
        let key = format!("musl-programs/{release:?}/{arch}/{boots}");
        cx.once(key, || Programs::compile(cx, release, arch, boots))
    }

    fn compile(cx: &Context, release: Release, arch: Arch, boots: bool) -> Result<Programs> {
        let programs = Programs::open_of(cx, release, arch, Variant::Hooked)?;
        programs.link(cx, Kind::Static)?;
        let mut library = programs.compiler(cx);
        library.args(["-fPIC", "-shared", "-o"]);
        library.arg(programs.folder.join(LIBRARY));
        finish(library.arg(source(cx, "library.c")))?;
        let mut shared = programs.compiler(cx);
        shared.args(["-DSHARED", "-DLINK=\"shared\"", "-o"]);
        shared.arg(programs.folder.join(program_name(Kind::Shared, boots)));
        shared.args(sources(cx));
        shared.arg("-L").arg(&programs.folder).arg("-llibrary");
        if boots {
            shared.env("MUSL_LDSO_DIR", "/lib");
            let mut shell = programs.compiler(cx);
            shell.args(["-static", "-o"]);
            shell.arg(programs.folder.join("sh"));
            finish(shell.arg(source(cx, "sh.c")))?;
        } else {
            shared.arg(format!("-Wl,-rpath,{}", programs.folder.display()));
        }
        finish(&mut shared)?;
        Ok(programs)
    }

    /// The musl and a folder for programs under it.
    pub fn open(cx: &Context, arch: Arch, variant: Variant) -> Result<Programs> {
        Programs::open_of(cx, Release::default(), arch, variant)
    }

    fn open_of(cx: &Context, release: Release, arch: Arch, variant: Variant) -> Result<Programs> {
        let musl = musl::built(cx, release, arch, variant)?;
        let store = release.within(&cx.root.join(format!("target/musl/{arch}")));
        let folder = store.join(format!("programs-{}", variant.name()));
        std::fs::create_dir_all(&folder)?;
        Ok(Programs { arch, folder, musl })
    }

    /// Links the tests, the library among them, into one static program.
    pub fn link(&self, cx: &Context, kind: Kind) -> Result<PathBuf> {
        let program = self.path(kind);
        let mut link = self.compiler(cx);
        link.args(["-static", "-o"]).arg(&program);
        link.args(sources(cx)).arg(source(cx, "library.c"));
        finish(&mut link)?;
        Ok(program)
    }

    /// The same as a position-independent one that relocates itself.
    pub fn link_pie(&self, cx: &Context) -> Result<PathBuf> {
        let program = self.folder.join(PIE);
        let mut link = self.compiler(cx);
        link.args(["-static-pie", "-fPIE", "-DLINK=\"static-pie\"", "-o"]);
        link.arg(&program);
        link.args(sources(cx)).arg(source(cx, "library.c"));
        finish(&mut link)?;
        Ok(program)
    }

    /// Compiles one source into a static program of its own.
    pub fn single(&self, cx: &Context, name: &str) -> Result<PathBuf> {
        let program = self.folder.join(name);
        let mut link = self.compiler(cx);
        link.args(["-static", "-o"]).arg(&program);
        link.arg(source(cx, &format!("{name}.c")));
        finish(&mut link)?;
        Ok(program)
    }

    /// The program for this machine, or for user mode.
    pub fn path(&self, kind: Kind) -> PathBuf {
        self.folder.join(program_name(kind, false))
    }

    /// `musl-gcc`.
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

    /// The files beside the static program on a booted machine.
    pub fn beside(&self) -> Vec<(&'static str, PathBuf)> {
        let loader = match self.arch {
            Arch::X86_64 => "lib/ld-musl-x86_64.so.1",
            Arch::Aarch64 => "lib/ld-musl-aarch64.so.1",
            Arch::Riscv64 => "lib/ld-musl-riscv64.so.1",
        };
        let shared = self.folder.join(program_name(Kind::Shared, true));
        vec![
            ("shared", shared),
            (loader, self.musl.join("lib/libc.so")),
            ("lib/liblibrary.so", self.folder.join(LIBRARY)),
            ("bin/sh", self.folder.join("sh")),
        ]
    }

    fn compiler(&self, cx: &Context) -> Command {
        let mut compiler = command(self.gcc());
        compiler.args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]);
        compiler.arg("-pthread").current_dir(&cx.root);
        compiler
    }
}

fn program_name(kind: Kind, boots: bool) -> &'static str {
    match (kind, boots) {
        (Kind::Static, _) => "static",
        (Kind::Shared, false) => "shared",
        (Kind::Shared, true) => "shared-booted",
    }
}

fn source(cx: &Context, name: &str) -> PathBuf {
    cx.root.join("tests-qemu/musl").join(name)
}

fn sources(cx: &Context) -> impl Iterator<Item = PathBuf> + '_ {
    let names = SOURCES
        .into_iter()
        .map(|(name, _)| name)
        .chain(["filter.c", "rseq.c"]);
    names.map(|name| source(cx, name))
}

fn finish(command: &mut Command) -> Result<()> {
    output(command, "the program does not compile", 300).map(drop)
}
