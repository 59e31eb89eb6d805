//! The packages as a registry distributes them: their contents, built and tested from nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::arch::Arch;
use crate::case::Case;
use crate::compiler::{self, CORE, Compiler, cargo, finish};
use crate::context::Context;
use crate::process::{command, output};

/// The packages, and the files that each must contain: Cargo drops unlisted ones.
const PACKAGES: [(&str, &[&str]); 2] = [
    (
        "rseq-rt",
        &[
            "src/",
            "arch/",
            "linker/",
            "README.md",
            "COPYRIGHT",
            "LICENSE-",
        ],
    ),
    (
        "rseq-rt-std",
        &["src/", "README.md", "COPYRIGHT", "LICENSE-"],
    ),
];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("package", contents),
        Case::new("package/tests", |cx| {
            tests(&Unpacked::new(cx)?, "rseq-rt", &[])
        }),
        Case::new("package/std", |cx| {
            let unpacked = Unpacked::new(cx)?;
            // On the other package in place of the registry's.
            let patch = format!(
                "patch.crates-io.rseq-rt.path={:?}",
                unpacked.path("rseq-rt")
            );
            tests(&unpacked, "rseq-rt-std", &["--config", &patch])
        }),
    ];
    for arch in Arch::ALL {
        let name = format!("package/build/{arch}");
        cases.push(Case::new(name, move |cx| build(cx, arch)));
    }
    cases
}

/// All packages, each unpacked outside of the repository, so that nothing in it is found by accident.
struct Unpacked {
    folder: TempDir,
    target: PathBuf,
}

impl Unpacked {
    fn new(cx: &Context) -> Result<Self> {
        let target = cx.root.join("target/embed/package");
        let arguments = ["package", "--quiet", "--offline", "--allow-dirty"];
        let mut pack = cargo(cx, None, &arguments);
        pack.args(["--no-verify", "--target-dir"]).arg(&target);
        for (name, _) in PACKAGES {
            pack.args(["--package", name]);
        }
        finish(pack)?.check("package")?;
        let folder = tempfile::tempdir()?;
        for (name, _) in PACKAGES {
            let version = version(cx, name)?;
            let file = format!("{name}-{version}.crate");
            let mut unpack = command("tar");
            unpack.arg("-xzf").arg(target.join("package").join(file));
            output(unpack.arg("-C").arg(folder.path()), "tar", 60)?;
            let unpacked = folder.path().join(format!("{name}-{version}"));
            fs::rename(unpacked, folder.path().join(name))?;
        }
        Ok(Self { folder, target })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `cargo` in the package of that name, offline.
    fn cargo(&self, name: &str, mut cargo: Command) -> Command {
        cargo
            .current_dir(self.path(name))
            .env("CARGO_TERM_COLOR", "never")
            .arg("--offline")
            .arg("--target-dir")
            .arg(&self.target);
        cargo
    }
}

fn version(cx: &Context, name: &str) -> Result<String> {
    let mut ask = cargo(cx, None, &["pkgid", "--offline", "--package", name]);
    let id = output(&mut ask, "pkgid", 60)?;
    let (_, version) = id
        .trim()
        .rsplit_once(['#', '@'])
        .with_context(|| id.clone())?;
    Ok(version.to_owned())
}

fn contents(cx: &Context) -> Result<String> {
    let unpacked = Unpacked::new(cx)?;
    let mut counts = Vec::new();
    for (name, wanted) in PACKAGES {
        let files = files(&unpacked.path(name))?;
        for start in wanted {
            let there = files.iter().any(|file| file.starts_with(start));
            ensure!(there, "not in the package {name}: {start}");
        }
        let folder = unpacked.path(name);
        for page in files.iter().filter(|file| file.ends_with(".md")) {
            let page = folder.join(page);
            let text = fs::read_to_string(&page)?;
            for link in links(&text) {
                let there = page.with_file_name(link).exists();
                let page = page.display();
                ensure!(
                    there,
                    "a link of {page} leads out of the package {name}: {link}"
                );
            }
        }
        counts.push(format!("{name}: {} files", files.len()));
    }
    Ok(counts.join(", "))
}

/// All files below `folder`, by relative path.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(one) = folders.pop() {
        for entry in fs::read_dir(one)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder)?.display().to_string());
            }
        }
    }
    Ok(files)
}

/// The relative links of a Markdown text.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Unit tests and the examples of the documentation, README's among them.
fn tests(unpacked: &Unpacked, name: &str, arguments: &[&str]) -> Result<String> {
    let mut counts = Vec::new();
    for kind in ["--lib", "--doc"] {
        let mut test = Compiler::program();
        test.args(["test", kind]).args(arguments);
        counts.push(passed(unpacked.cargo(name, test))?);
    }
    Ok(counts.join(", "))
}

/// The count of a `cargo test` of one program, which must have run some.
fn passed(test: Command) -> Result<String> {
    let said = finish(test)?.check("test")?;
    let result = said.lines().find_map(|line| {
        let counts = line.trim().strip_prefix("test result: ok. ")?;
        counts.split(';').next()
    });
    let count = result.context("it ran no test")?;
    ensure!(!count.starts_with("0 "), "it ran no test");
    Ok(count.to_owned())
}

fn build(cx: &Context, arch: Arch) -> Result<()> {
    let compiler = compiler::find(cx, arch)?;
    let unpacked = Unpacked::new(cx)?;
    for features in ["--all-features", "--no-default-features"] {
        let mut build = compiler.cargo("build", CORE, arch.target());
        build.args(["--lib", features]);
        finish(unpacked.cargo("rseq-rt", build))?.check("build")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::links;

    #[test]
    fn relative_links_alone() {
        let text =
            "[a](docs/a.md) [b](https://b.example/c) [`c`](d/e.c#f), [g](#h)\n[i]: j\n[k](l.md)";
        assert_eq!(links(text), ["docs/a.md", "d/e.c", "l.md"]);
    }
}
