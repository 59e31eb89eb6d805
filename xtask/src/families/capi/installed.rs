//! Installed files are found by the usual tools.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::arch::Arch;
use crate::context::Context;
use crate::outcome::Outcome;
use crate::process::{command, optional_tool, output};
use crate::staticlib::{self, Emit, Layout, Plan};

/// The program built with the flags that were found.
const PROGRAM: &str = "tests-qemu/capi/header.c";

/// A package in the making, with the distribution's library folder.
pub fn pkg_config(cx: &Context, arch: Arch) -> Result<()> {
    let work = tempfile::tempdir()?;
    let (stage, libdir) = (work.path(), "lib/of-this-cpu");
    let layout = Layout::installed("/opt/rt".as_ref(), libdir.as_ref(), Some(stage))?;
    let mut flags = Vec::new();
    for (trio, ask) in [
        (false, "rseq_rt >= 0.1"),
        (true, "rseq_rt_trio"),
        (false, "rseq_rt_library"),
    ] {
        staticlib::make(cx, Plan { arch, trio }, Emit::Archive, &layout)?;
        let mut found = optional_tool("pkg-config")?;
        found.args(["--cflags", "--libs", ask]).env(
            "PKG_CONFIG_PATH",
            stage.join("opt/rt").join(libdir).join("pkgconfig"),
        );
        let said = output(&mut found, "pkg-config", 60)?;
        for named in ["-I/opt/rt/include", "-L/opt/rt/lib/of-this-cpu"] {
            ensure!(said.contains(named), "{ask}: {said}");
        }
        flags.push(said);
    }
    ensure!(flags[1].contains("-DRSEQ_RT_TRIO"), "{}", flags[1]);
    let moved = flags[0].replace("/opt/rt", &stage.join("opt/rt").display().to_string());
    let file = stage.join("program");
    let mut link = optional_tool("gcc")?;
    link.arg(cx.root.join(PROGRAM)).arg("-o").arg(&file);
    output(link.args(moved.split_whitespace()), "the link", 120)?;
    output(&mut command(&file), "the program", 120)?;
    Ok(())
}

/// A prefix, and a folder that is moved after it was filled.
pub fn cmake(cx: &Context, arch: Arch) -> Result<()> {
    optional_tool("cmake")?;
    let work = tempfile::tempdir()?;
    let work = work.path();
    let plan = Plan { arch, trio: false };
    let prefix = work.join("prefix");
    let installed = Layout::installed(&prefix, "lib".as_ref(), None)?;
    staticlib::make(cx, plan, Emit::Archive, &installed)?;
    find_package(cx, work, &prefix)?;

    let (first, then) = (work.join("first"), work.join("then"));
    staticlib::make(cx, plan, Emit::Asm, &Layout::folder(&first))?;
    std::fs::rename(&first, &then)?;
    let Err(refused) = find_package(cx, work, &then) else {
        bail!("it is found without its archive");
    };
    let (_, said) = Outcome::of(&refused, true);
    let said: Vec<_> = said.split_whitespace().collect();
    ensure!(said.join(" ").contains("is to be made first"), "{said:?}");
    std::fs::create_dir_all(then.join("lib"))?;
    std::fs::copy(plan.archive(&prefix), plan.archive(&then))?;
    find_package(cx, work, &then)?;
    Ok(())
}

/// Builds and runs a CMake project that asks for the package there.
fn find_package(cx: &Context, work: &Path, prefix: &Path) -> Result<()> {
    let project = format!(
        "cmake_minimum_required(VERSION 3.13)\n\
         project(user C)\n\
         find_package(rseq_rt 0.1 REQUIRED)\n\
         add_executable(program {})\n\
         target_link_libraries(program rseq_rt::rseq_rt)\n",
        cx.root.join(PROGRAM).display()
    );
    std::fs::write(work.join("CMakeLists.txt"), project)?;
    let build = work.join("build");
    let _ = std::fs::remove_dir_all(&build);
    let mut configure = optional_tool("cmake")?;
    configure.arg("-S").arg(work).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    output(&mut configure, "cmake", 120)?;
    let mut make = optional_tool("cmake")?;
    output(make.arg("--build").arg(&build), "cmake --build", 120)?;
    output(&mut command(build.join("program")), "the program", 120).map(drop)
}
