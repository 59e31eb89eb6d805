//! The kernel's rseq selftests, from the distribution's kernel source, under the hooked musl: with musl as the owner of
//! rseq, with its switch off, and with our C operations under the selftests' names.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;
use crate::case::{Case, Family, Judged};
use crate::cell::{At, keep_console};
use crate::compiler::needs_with_libc;
use crate::console;
use crate::context::Context;
use crate::install::Need;
use crate::machine::place::{Machine, Place};
use crate::machine::{boot, selftests};
use crate::musl::{self, Release, Variant};
use crate::outcome::Missing;
use crate::process::{command, output, tool};

pub const FAMILY: Family = Family {
    name: "selftests",
    cases,
    needs,
};

fn place_of(at: At) -> Option<Place> {
    let place = at.place()?;
    (place.machine == Machine::Native || place.is_newest() || has_slices(place)).then_some(place)
}

/// Whether it is the kernel with the slice extension, where only the tests of that run.
fn has_slices(place: Place) -> bool {
    place.system().is_some_and(|system| system.name == "slice")
}

fn needs(cx: &Context, at: At) -> Vec<Need> {
    let Some(place) = place_of(at) else {
        return vec![];
    };
    let mut needs = place.needs();
    needs.extend(musl::needs(place.arch));
    needs.extend(needs_with_libc(cx, place.arch));
    let why = "unpacking the kernel's source";
    needs.push(Need::new("xz", &["xz-utils"], why));
    needs
}

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let Some(place) = place_of(at) else {
        return Ok(vec![]);
    };
    let mut names: Vec<String> = runs(place).into_iter().map(|run| run.0).collect();
    names.dedup();
    let cases = Case::together(names, move |cx, tests| run(cx, place, tests));
    let build = move |cx: &Context| built(cx, place.arch);
    Ok(cases.into_iter().map(|case| case.ahead(build)).collect())
}

fn run(cx: &Context, place: Place, tests: &[String]) -> Result<Vec<Judged>> {
    let folder = built(cx, place.arch)?;
    let of_slices = if has_slices(place) { "-slice" } else { "" };
    let list = folder.join(format!("list-{}{of_slices}", place.scale()));
    let wanted = runs(place).into_iter();
    let wanted = wanted.filter(|(test, _)| tests.contains(test));
    let lines: Vec<String> = wanted
        .map(|(test, run)| format!("{test} {run}\n"))
        .collect();
    std::fs::write(&list, lines.concat())?;
    let mut more: Vec<(&str, PathBuf)> = PROGRAMS
        .iter()
        .map(|program| (program.name, folder.join(program.name)))
        .collect();
    more.push(("list", list.clone()));
    let arguments = match place.boots() {
        true => vec![],
        false => vec![list.display().to_string()],
    };
    let run = boot::run(cx, place, &folder.join("run"), &more, &arguments)?.finished;
    keep_console(cx, "selftests", place, &run.output);
    let judged = console::judge(&run.output, tests, run.end, !place.boots());
    Ok(Judged::all(judged.tests, &run.output))
}

/// The code that registers the threads of a test program.
enum Registers {
    /// Musl; the tests accept an existing registration.
    Musl,
    /// The tests' own `rseq.c`, under MUSL_RSEQ=0.
    Itself,
}
use Registers::{Itself, Musl};

struct Program {
    name: &'static str,
    registers: Registers,
    source: &'static str,
    flags: &'static [&'static str],
}

const MM_CID: &str = "-DBUILDOPT_RSEQ_PERCPU_MM_CID";
const TWICE: &str = "-DRSEQ_COMPARE_TWICE";
const BENCHMARK: &str = "-DBENCHMARK";
const OURS: &str = "-includenames.h";
const DELAY: &str = "-DRSEQ_RT_DELAY";
const BROKEN: &str = "-DRSEQ_RT_BROKEN";
const OPERATIONS: &str = "basic_percpu_ops_test.c";
const SLICE: &str = "slice_test.c";
/// Whether the processes of the script of `slice_test` can have the extension.
const OPTIMIZED: &str = "check_optimized.c";
/// Leaves out a header that defines what this musl's `sys/prctl.h` defines.
const PRCTL: &str = "-D_LINUX_PRCTL_H";

#[rustfmt::skip] // a table
const PROGRAMS: [Program; 20] = [
    Program { name: "basic_test", registers: Musl, source: "basic_test.c", flags: &[] },
    Program { name: "basic_percpu_ops_test", registers: Musl, source: OPERATIONS, flags: &[] },
    Program { name: "basic_percpu_ops_mm_cid_test", registers: Musl, source: OPERATIONS, flags: &[MM_CID] },
    Program { name: "param_test", registers: Musl, source: "param_test.c", flags: &[] },
    Program { name: "param_test_compare_twice", registers: Musl, source: "param_test.c", flags: &[TWICE] },
    Program { name: "param_test_mm_cid", registers: Musl, source: "param_test.c", flags: &[MM_CID] },
    Program { name: "param_test_mm_cid_compare_twice", registers: Musl, source: "param_test.c", flags: &[MM_CID, TWICE] },
    Program { name: "param_test_benchmark", registers: Musl, source: "param_test.c", flags: &[BENCHMARK] },
    Program { name: "param_test_mm_cid_benchmark", registers: Musl, source: "param_test.c", flags: &[MM_CID, BENCHMARK] },
    Program { name: "off-syscall_errors_test", registers: Itself, source: "syscall_errors_test.c", flags: &[] },
    Program { name: "off-legacy_check", registers: Itself, source: "legacy_check.c", flags: &[] },
    Program { name: "off-check_optimized", registers: Itself, source: OPTIMIZED, flags: &[] },
    Program { name: "off-param_test", registers: Itself, source: "param_test.c", flags: &[] },
    Program { name: "slice_test", registers: Musl, source: SLICE, flags: &[PRCTL] },
    Program { name: "off-slice_test", registers: Itself, source: SLICE, flags: &[PRCTL] },
    Program { name: "ours-basic_percpu_ops_test", registers: Musl, source: OPERATIONS, flags: &[OURS] },
    Program { name: "ours-basic_percpu_ops_mm_cid_test", registers: Musl, source: OPERATIONS, flags: &[OURS, MM_CID] },
    Program { name: "ours-param_test", registers: Musl, source: "param_test.c", flags: &[OURS, DELAY] },
    Program { name: "ours-param_test_mm_cid", registers: Musl, source: "param_test.c", flags: &[OURS, DELAY, MM_CID] },
    Program { name: "broken-param_test", registers: Musl, source: "param_test.c", flags: &[OURS, BROKEN] },
];

/// The actions of `param_test`, by the names in `run_param_test.sh`: spinlock, list, buffer, copy, counter, membarrier.
const ACTIONS: [&str; 8] = ["s", "l", "b", "b -M", "m", "m -M", "i", "r"];

/// The delay loops of `param_test`, one per injection point.
const LOOPS: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Actions of `param_test` before a section: at every fourth, every second, or every one.
const BLOCKING: [&str; 3] = ["-r 200 -y", "-r 200 -k", "-r 100 -s 1"];

/// The tests and their runs, in running order: those of the kernel's scripts, with fewer repetitions. A booted machine
/// runs a short form.
fn runs(place: Place) -> Vec<(String, String)> {
    let boots = place.boots();
    let is_wanted = |program: &&Program| match has_slices(place) {
        true => [OPTIMIZED, SLICE].contains(&program.source),
        false => program.source != SLICE,
    };
    let mut runs = Vec::new();
    for program in PROGRAMS.iter().filter(is_wanted) {
        let name = program.name;
        let test = name.replacen('-', "/", 1);
        let off = match program.registers {
            Musl => "",
            Itself => "MUSL_RSEQ=0 ",
        };
        let mut push = |before: &str, arguments: String| {
            runs.push((test.clone(), format!("{before}{off}./{name}{arguments}")));
        };
        if program.source != "param_test.c" {
            push("", String::new());
        } else if program.flags.contains(&BROKEN) {
            if !boots {
                push("dies ", " -T i -t 12 -r 20000 -7 -1 -m 1 -y".to_owned());
                push("dies ", " -T l -t 12 -r 20000 -7 -1 -m 1 -y".to_owned());
            }
        } else {
            for how in ways(program, boots) {
                for action in ACTIONS {
                    push("", format!(" -T {action} -t 12 {how}"));
                }
            }
        }
    }
    runs
}

/// The option sets of each action of `param_test`.
fn ways(program: &Program, boots: bool) -> Vec<String> {
    let fixed = |ways: &[&str]| ways.iter().map(ToString::to_string).collect();
    if program.flags.contains(&BENCHMARK) {
        return fixed(&["-r 1000"]);
    }
    if let Itself = program.registers {
        // -L: registers the original 32 bytes, rather than the size that the kernel states.
        return fixed(&["-r 100", "-r 100 -L -9 -1 -m 2 -k"]);
    }
    if boots {
        return fixed(&["-r 100 -3 10000", "-r 100 -9 -1 -m 2 -k"]);
    }
    let mut ways = vec!["-r 200".to_owned()];
    ways.extend(LOOPS.map(|place| format!("-r 200 -{place} 10000")));
    for modulo in ["4", "2", "1"] {
        ways.extend(BLOCKING.map(|how| format!("{how} -9 -1 -m {modulo}")));
    }
    ways
}

/// Tests that are copied with fewer rounds, and how often that is said in each: 200 threads yield 100000 times each;
/// each of three variants takes 5 s.
const SHORTER: [(&str, &str, usize, &str); 2] = [
    (OPERATIONS, "100000", 1, "2000"),
    (SLICE, "5LL * NSEC_PER_SEC", 3, "NSEC_PER_SEC / 2"),
];

/// The folder with the programs, and with `run`, which executes a list of runs.
fn built(cx: &Context, arch: Arch) -> Result<PathBuf> {
    cx.once(format!("selftests/{arch}"), || {
        let tree = selftests(cx).map_err(|why| Missing::optional(format!("{why:#}")))?;
        let musl = musl::built(cx, Release::default(), arch, Variant::Hooked);
        let musl = musl.map_err(Missing::excused)?;
        let _step = cx.step(format!("building the kernel's selftests for {arch}"));
        let folder = cx.root.join("target/selftests").join(arch.name());
        std::fs::create_dir_all(&folder)?;
        kernel_headers(arch, &folder)?;
        let tests = tree.join("tools/testing/selftests");
        let ours = cx.root.join("tests-qemu/selftests");
        let modified = |file: &Path| file.metadata().and_then(|data| data.modified()).ok();
        let header = |name: &str| cx.root.join("include").join(name);
        let inputs = [
            musl.join("lib/libc.a"),
            header("rseq_rt_percpu.h"),
            header("rseq_rt_percpu_operations.h"),
            ours.join("names.h"),
            ours.join("owner.c"),
            ours.join("run.c"),
            // The compiler flags.
            std::env::current_exe()?,
        ];
        let newest = inputs.iter().map(|file| modified(file)).max().flatten();
        let compile = |name: &str, flags: &[&str], sources: &[PathBuf]| -> Result<()> {
            if modified(&folder.join(name)) > newest {
                return Ok(());
            }
            let mut compile = command(musl.join("bin/musl-gcc"));
            compile.args(["-std=gnu11", "-O2", "-w", "-static", "-pthread"]);
            // As in the selftests' makefile. The rest is missing from this musl and old headers, or gives threads a
            // stack with room for param_test's lists for 1024 CPUs.
            compile.arg("-D_GNU_SOURCE=");
            compile.args(["-DAT_RSEQ_FEATURE_SIZE=27", "-DAT_RSEQ_ALIGN=28"]);
            compile.args(["-Dstrerrorname_np=strerror", "-Wl,-z,stack-size=1048576"]);
            let include = [
                ours.clone(),
                cx.root.join("include"),
                tests.join("rseq"),
                tests.clone(),
                tree.join("tools/include"),
                tree.join(format!("tools/arch/{}/include", kernel_arch(arch))),
            ];
            compile.args(
                include
                    .iter()
                    .flat_map(|path| ["-I".as_ref(), path.as_os_str()]),
            );
            compile.arg("-idirafter").arg(folder.join("headers"));
            compile.args(flags).arg("-o").arg(folder.join(name));
            output(compile.args(sources), name, 300).map(drop)
        };
        compile("run", &[], &[ours.join("run.c")])?;
        for (source, long, times, short) in SHORTER {
            let text = std::fs::read_to_string(tests.join("rseq").join(source))?;
            ensure!(
                text.matches(long).count() == times,
                "{source} is another one"
            );
            std::fs::write(folder.join(source), text.replace(long, short))?;
        }
        for program in &PROGRAMS {
            let source = match program.source {
                OPERATIONS | SLICE => folder.join(program.source),
                source => tests.join("rseq").join(source),
            };
            let registration = match program.registers {
                Musl => ours.join("owner.c"),
                Itself => tests.join("rseq/rseq.c"),
            };
            compile(program.name, program.flags, &[source, registration])?;
        }
        Ok(folder)
    })
}

/// The kernel's name of the CPU in tools/arch.
fn kernel_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86",
        Arch::Aarch64 => "arm64",
        Arch::Riscv64 => "riscv",
    }
}

/// Links to this machine's kernel headers, which musl lacks, without the libc headers beside them.
fn kernel_headers(arch: Arch, folder: &Path) -> Result<()> {
    let headers = folder.join("headers");
    let _ = std::fs::remove_dir_all(&headers);
    std::fs::create_dir_all(&headers)?;
    let probe = folder.join("headers.c");
    std::fs::write(
        &probe,
        "#include <linux/types.h>\n#include <asm-generic/errno.h>\n",
    )?;
    let mut list = tool(&arch.tool("gcc"))?;
    let list = output(list.arg("-M").arg(&probe), "the kernel's headers", 60)?;
    for name in ["linux", "asm", "asm-generic"] {
        let inside = format!("/{name}/");
        let mut words = list.split_whitespace();
        let path = words.find_map(|word| Some(&word[..word.rfind(&inside)? + inside.len()]));
        let path = path.with_context(|| format!("no header in {name}/"))?;
        symlink(path, headers.join(name))?;
    }
    Ok(())
}
