//! The distribution's kernel source: a kernel built from it with rseq(2) options that packaged images lack, and its
//! rseq selftests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::kernel::{self, Kernel, fragments, made_of};
use super::packages;
use super::systems::{Image, SOURCE, SOURCE_SUITES};
use crate::arch::Arch;
use crate::context::Context;
use crate::install::Need;
use crate::outcome::tail;
use crate::process::{self, command, lock, output};

pub fn needs(arch: Arch) -> Vec<Need> {
    let why = "building a kernel with the slice extension";
    let mut needs: Vec<Need> = ["make", "gcc", "bison", "flex", "bc"]
        .map(|program| Need::new(program, &[program], why))
        .into();
    needs.push(Need::new("xz", &["xz-utils"], why));
    if arch == Arch::X86_64 {
        // Static keys, which the slice extension uses, need objtool there.
        needs.push(Need::new("/usr/include/gelf.h", &["libelf-dev"], why));
    }
    if Arch::host() != Some(arch) {
        needs.push(Need::new(
            arch.cross_linker(),
            &[arch.cross_linker_package()],
            why,
        ));
    }
    needs
}

/// Builds the image; fetches the source if it is not stored.
pub fn build(
    cx: &Context,
    image: &Image,
    (package, suites): (&str, &[&str]),
    arch: Arch,
) -> Result<Kernel> {
    let unmet = needs(arch).into_iter().find(|need| !need.met());
    if let Some(need) = unmet {
        bail!("{} is not installed, for {}", need.probe, need.why);
    }
    let (version, archive) = source(cx, package, suites)?;
    let made_of = made_of(&cx.root, arch, &version)?;
    let _step = cx.step(format!("building Linux {version} for {arch}"));
    let folder = tempfile::tempdir_in(cx.store())?;
    let (tree, out) = (folder.path().join("tree"), folder.path().join("out"));
    std::fs::create_dir_all(&tree)?;
    std::fs::create_dir_all(&out)?;
    let mut unpack = command("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(&tree);
    unpack.arg("--strip-components=1");
    finish(&mut unpack)?;

    let make = |target: &str| {
        let mut make = command("nice");
        make.args(["make", "--directory"]).arg(&tree);
        make.arg(format!("O={}", out.display()));
        make.arg(format!("ARCH={}", kernel_arch(arch)));
        if Arch::host() != Some(arch) {
            let linker = arch.cross_linker();
            let prefix = linker.strip_suffix("gcc").unwrap_or(&linker);
            make.arg(format!("CROSS_COMPILE={prefix}"));
        }
        // The image would otherwise contain who built it, where and when.
        make.args(["KBUILD_BUILD_USER=xtask", "KBUILD_BUILD_HOST=xtask"]);
        let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get());
        make.arg(format!("--jobs={jobs}")).arg(target);
        finish(&mut make)
    };
    make("tinyconfig")?;
    let mut merge = command(tree.join("scripts/kconfig/merge_config.sh"));
    merge.args(["-m", "-O"]).arg(&out).arg(out.join(".config"));
    merge.args(fragments(&cx.root, arch)).current_dir(&out);
    finish(&mut merge)?;
    make("olddefconfig")?;
    let (target, file) = target(arch);
    make(target)?;
    let kernel = Kernel {
        image: PathBuf::new(),
        version,
        package: format!("{package}, built"),
        made_of: Some(made_of),
    };
    kernel::keep(cx, &out.join(file), image, arch, kernel)
}

/// The kernel's name of the CPU.
fn kernel_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64",
        Arch::Aarch64 => "arm64",
        Arch::Riscv64 => "riscv",
    }
}

/// The make target, and the file that it makes.
fn target(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::X86_64 => ("bzImage", "arch/x86/boot/bzImage"),
        Arch::Aarch64 => ("Image", "arch/arm64/boot/Image"),
        Arch::Riscv64 => ("Image", "arch/riscv/boot/Image"),
    }
}

/// The source archive, kept for the other CPUs, and its version.
fn source(cx: &Context, package: &str, suites: &[&str]) -> Result<(String, PathBuf)> {
    let apt = packages::apt(cx)?;
    let apt = lock(&apt);
    let host = Arch::host().context("no package of this CPU")?.debian();
    let candidates = apt.candidates(&[&format!("{package}:{host}")])?;
    let offered = suites
        .iter()
        .find_map(|suite| candidates.iter().find(|one| one.suite == *suite));
    let version = &offered
        .with_context(|| format!("the mirror offers no {package} now"))?
        .version;
    let kept = cx
        .store()
        .join("kernels")
        .join(format!("{package}_{version}"));
    let archive = kept.join(format!("usr/src/{package}.tar.xz"));
    if !archive.is_file() {
        let _step = cx.step(format!("fetching {package} {version}"));
        apt.unpack(&format!("{package}:{host}={version}"), &kept)?;
    }
    Ok((version.clone(), archive))
}

/// The parts of the source that the rseq selftests need.
const SELFTESTS: [&str; 4] = [
    "*/tools/testing/selftests/rseq",
    "*/tools/testing/selftests/*.h",
    "*/tools/include",
    "*/tools/arch/*/include",
];

/// A kernel source tree with only the files for its rseq selftests; fetched if not stored.
pub fn selftests(cx: &Context) -> Result<PathBuf> {
    cx.once("selftests-source", || {
        let tree = cx.store().join("selftests-source");
        if tree.is_dir() {
            return Ok(tree);
        }
        if !cx.install {
            bail!(
                "the kernel's source is not in target/xtask, and --no-install forbids to fetch it"
            );
        }
        let (version, archive) = source(cx, SOURCE, SOURCE_SUITES)?;
        let _step = cx.step(format!("unpacking the selftests of Linux {version}"));
        let new = tree.with_extension("new");
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new)?;
        let mut unpack = command("tar");
        unpack.arg("-xf").arg(&archive).arg("-C").arg(&new);
        unpack.args(["--strip-components=1", "--wildcards"]);
        output(unpack.args(SELFTESTS), "tar", 3600)?;
        std::fs::rename(&new, &tree)?;
        Ok(tree)
    })
}

fn finish(command: &mut Command) -> Result<()> {
    let finished = process::run(command, 3600)?;
    if !finished.ok() {
        // make's last lines say where it was, rather than why it stopped.
        let why = finished
            .output
            .lines()
            .filter(|line| !line.starts_with("make"));
        let why: Vec<&str> = why.collect();
        bail!("the kernel does not build: {}", tail(&why.join("\n"), 3));
    }
    Ok(())
}
