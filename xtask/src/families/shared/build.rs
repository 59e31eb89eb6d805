//! The builds of family `shared`: libraries that bring rseq, readers that do not, programs that load them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::cases::Libc;
use super::libraries::{LIBRARIES, Library, OBJECTS, PLUGINS, PROGRAMS, WITHOUT_AREA};
use crate::arch::Arch;
use crate::context::Context;
use crate::musl::{self, Release, Variant};
use crate::process::{optional_tool, output};
use crate::staticlib;

/// A libc, selected by its compiler, and the archive for its CPU.
#[derive(Clone)]
pub struct Build {
    pub arch: Arch,
    pub libc: Libc,
    gcc: String,
    /// The build folder.
    pub out: PathBuf,
    /// The output of `cargo xtask staticlib`.
    pub capi: PathBuf,
    sources: PathBuf,
}

impl Build {
    /// A build folder, and the archive.
    pub fn open(cx: &Context, arch: Arch, libc: Libc) -> Result<Self> {
        let gcc = match libc {
            Libc::Musl => "musl-gcc".to_owned(),
            Libc::MuslOn => {
                let musl = musl::built(cx, Release::default(), arch, Variant::Hooked)?;
                musl.join("bin/musl-gcc").display().to_string()
            }
            Libc::GlibcOff | Libc::GlibcOn => arch.tool("gcc"),
        };
        let folder = format!("target/shared/{arch}-{}", libc.name());
        let out = cx.root.join(folder);
        std::fs::create_dir_all(&out)?;
        Ok(Self {
            arch,
            libc,
            gcc,
            out,
            capi: staticlib::built(cx, arch, false)?,
            sources: cx.root.join("tests-qemu/shared"),
        })
    }

    pub fn everything(&self) -> Result<()> {
        for library in &LIBRARIES {
            // Only musl needs the dynamic form for late loading.
            if self.libc.is_musl() || !library.file.ends_with("-dynamic.so") {
                self.library(library)?;
            }
        }
        self.library(&WITHOUT_AREA)?;
        for object in &OBJECTS {
            self.object(object)?;
        }
        for (file, sources, links) in PROGRAMS {
            self.link(file, &["-rdynamic"], sources, links)?;
        }
        self.plugins()?;
        self.grown("", "-UAS_DATA")?;
        self.grown("-as-data", "-DAS_DATA")?;
        self.link(
            "order-static",
            &["-static"],
            &["order.c", "likelibrseq.c", "trap.c", "form"],
            &[],
        )?;
        self.link(
            "storm-static",
            &["-static"],
            &["storm.c", "trap.c", "form"],
            &[],
        )
    }

    /// Copies of one plug-in under different names, which a loader takes for different plug-ins.
    fn plugins(&self) -> Result<()> {
        for (library, name) in [("liba.so", "area"), (WITHOUT_AREA.file, "no-area")] {
            for number in 0..PLUGINS {
                let copy = self.out.join(format!("plugin-{name}-{number:02}.so"));
                std::fs::copy(self.out.join(library), copy)?;
            }
        }
        Ok(())
    }

    /// A program linked with a table and run with a longer one.
    fn grown(&self, kind: &str, how: &str) -> Result<()> {
        let file = format!("libgrows{kind}.so");
        let before = format!("libgrows{kind}-before.so");
        let soname = format!("-Wl,-soname,{file}");
        let shared = ["-fPIC", "-shared", how, soname.as_str()];
        self.link(&before, &shared, &["grows.c"], &[])?;
        self.link(
            &file,
            &[&shared[..], &["-DGROWN"]].concat(),
            &["grows.c"],
            &[],
        )?;
        // Code that takes a copy relocation.
        let program = ["-fno-pie", "-no-pie", how];
        self.link(&format!("grown{kind}"), &program, &["grown.c"], &[&before])
    }

    fn object(&self, (file, sources, knows): &(&str, &[&str], &[&str])) -> Result<()> {
        let weak = if file.contains("weak") {
            "-DWEAK"
        } else {
            "-UWEAK"
        };
        self.link(file, &["-fPIC", "-shared", weak], sources, knows)
    }

    /// The subset built for another CPU.
    pub fn for_elsewhere(&self) -> Result<()> {
        for library in &LIBRARIES[..2] {
            self.library(library)?;
        }
        self.object(&OBJECTS[0])?;
        let (file, sources, links) = PROGRAMS[1];
        self.link(file, &["-rdynamic"], sources, links)
    }

    pub fn compiler(&self) -> Result<Command> {
        let mut compiler = optional_tool(&self.gcc)?;
        compiler
            .args(["-std=gnu99", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
            .arg("-I")
            .arg(self.capi.join("include"));
        Ok(compiler)
    }

    /// The words that pkg-config prints.
    pub fn asked(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let mut ask = optional_tool("pkg-config")?;
        ask.args(arguments)
            .env("PKG_CONFIG_PATH", self.capi.join("lib/pkgconfig"));
        let said = output(&mut ask, "pkg-config", 120)?;
        Ok(said.split_whitespace().map(str::to_owned).collect())
    }

    /// The two objects of a library: its own, and the form's.
    fn objects(&self, file: &str, library: &Library) -> Result<[PathBuf; 2]> {
        let form = self.capi.join("share/rseq_rt/rseq_rt_library.c");
        let objects = ["own", "form"].map(|part| self.out.join(format!("{file}.{part}.o")));
        for (source, object) in [self.sources.join(library.source), form]
            .iter()
            .zip(&objects)
        {
            let mut compile = self.compiler()?;
            compile.args(["-fPIC", "-c", "-o"]).arg(object);
            compile.arg(format!("-DNAME={}", library.name));
            compile.args(library.flags.split_whitespace());
            output(compile.arg(source), file, 120)?;
        }
        Ok(objects)
    }

    fn library(&self, library: &Library) -> Result<()> {
        let omitted = if library.deletable {
            "nodelete"
        } else {
            "nothing"
        };
        self.library_without(omitted, library)
    }

    /// The first library, without the version script.
    pub fn library_without_script(&self) -> Result<()> {
        let file = "liba-without.so";
        self.library_without(
            "version-script",
            &Library {
                file,
                ..LIBRARIES[0]
            },
        )
    }

    /// Linked with exactly pkg-config's flags, except for one.
    fn library_without(&self, omitted: &str, library: &Library) -> Result<()> {
        let file = library.file;
        let mut link = self.compiler()?;
        link.args(["-fPIC", "-shared", "-o"])
            .arg(self.out.join(file));
        link.arg(format!("-Wl,-soname,{file}"));
        link.args(self.objects(file, library)?)
            .args(library.links.split_whitespace());
        if library.broken {
            link.arg(self.sources.join("broken.c"));
        }
        if let Some(needed) = library.needs {
            link.args(["-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN"]);
            link.arg(self.out.join(needed));
        }
        let flags = self.asked(&["--libs", library.package])?;
        link.args(flags.iter().filter(|flag| !flag.contains(omitted)));
        output(&mut link, file, 120).map(drop)
    }

    fn link(&self, file: &str, flags: &[&str], sources: &[&str], links: &[&str]) -> Result<()> {
        let mut link = self.compiler()?;
        link.arg("-o").arg(self.out.join(file)).args(flags);
        for source in sources {
            if *source == "form" {
                let form = Library {
                    flags: "-DRSEQ_RT_LIBRARY_NO_EXPORT",
                    ..LIBRARIES[0]
                };
                let objects = self.objects(file, &form)?;
                // In a program: the archive, and the libraries that the form needs.
                link.args(objects).args(self.asked(&["--libs", "rseq_rt"])?);
            } else {
                link.arg(self.sources.join(source));
            }
        }
        let has_soname = flags.iter().any(|flag| flag.contains("-soname"));
        if !flags.contains(&"-shared") {
            link.arg("-pthread");
        } else if !has_soname {
            link.arg(format!("-Wl,-soname,{file}"));
        }
        link.args(["-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN"]);
        link.args(links.iter().map(|library| self.out.join(library)));
        if sources.contains(&"load.c") {
            link.arg("-ldl");
        }
        output(&mut link, file, 120).map(drop)
    }
}

/// The lines of the worked example in the header.
pub fn example(header: &Path) -> Result<String> {
    let text = std::fs::read_to_string(header)?;
    let lines = text
        .lines()
        .skip_while(|line| !line.contains("// counter.c"))
        .map_while(|line| line.strip_prefix(" *     "));
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}
