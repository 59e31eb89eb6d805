//! `cargo xtask doctor`, compared with the answers that a C program gets.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler::needs;
use crate::context::Context;
use crate::outcome::Missing;
use crate::process::{command, optional_tool, output, run, set_glibc_rseq};

pub const FAMILY: Family = Family {
    name: "doctor",
    cases,
    needs: |cx, at| match at {
        At::Libcs(arch) => needs(cx, arch),
        _ => vec![],
    },
};

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Libcs(_) = at else {
        return Ok(vec![]);
    };
    Ok(vec![
        Case::new("machine/libc-owns", |cx| machine(cx, true)),
        Case::new("machine/tunable-off", |cx| machine(cx, false)),
        Case::new("filter/eperm", |cx| filter(cx, 1, "refused by a filter")),
        Case::new("filter/enosys", |cx| filter(cx, 38, "refused by a filter")),
        Case::new("filter/kills", |cx| filter(cx, 0, "killed by a filter")),
        Case::new("pid/libc-owns", |cx| threads(cx, "wait", true)),
        Case::new("pid/tunable-off", |cx| threads(cx, "wait", false)),
        Case::new("pid/own", |cx| threads(cx, "own", false)),
        Case::new("pid/nobody", nobody),
    ])
}

/// The C program of `tests-qemu/doctor`, built once.
fn program(cx: &Context) -> Result<PathBuf> {
    cx.once("doctor/program", || {
        let file = cx.store().join("doctor-program");
        let mut compile = optional_tool("gcc")?;
        compile.args(["-O1", "-Wall", "-Wextra", "-Werror", "-std=gnu99"]);
        compile.args(["-pthread", "-o"]).arg(&file);
        for source in ["doctor/doctor.c", "capi/filter.c"] {
            compile.arg(cx.root.join("tests-qemu").join(source));
        }
        output(&mut compile, "does not compile", 120)?;
        Ok(file)
    })
}

fn doctor() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

fn json(mut started: Command) -> Result<Value> {
    let said = output(&mut started, "the doctor", 120)?;
    serde_json::from_str(&said).with_context(|| said)
}

/// The errno of a registration, and `__rseq_size`.
fn asked(program: &Path, libc_on: bool) -> Result<(i64, u64)> {
    let mut ask = command(program);
    let said = output(set_glibc_rseq(ask.arg("ask"), libc_on), "the question", 60)?;
    let (answer, size) = said.trim().split_once(' ').context(said.clone())?;
    Ok((answer.parse()?, size.parse()?))
}

fn remedies(document: &Value) -> Result<Vec<&str>> {
    let programs = document["programs"].as_array().context("no programs")?;
    let remedies: Vec<&str> = programs
        .iter()
        .filter_map(|one| one["remedy"].as_str())
        .collect();
    ensure!(remedies.len() == 3, "{programs:?}");
    Ok(remedies)
}

fn machine(cx: &Context, libc_on: bool) -> Result<()> {
    let program = program(cx)?;
    let mut look = command(doctor()?);
    set_glibc_rseq(look.args(["doctor", "--json"]), libc_on);
    let document = json(look)?;
    // The asking thread is unregistered, whatever glibc does elsewhere.
    let (errno, _) = asked(&program, false)?;
    let legacy = &document["kernel"]["answers"]["legacy"];
    let agrees = match errno {
        0 => legacy == "done",
        errno => legacy["errno"] == errno,
    };
    ensure!(
        agrees,
        "the kernel answers {errno}, the doctor says {legacy}"
    );
    let (_, size) = asked(&program, libc_on)?;
    let said = document["libc"]["rseq_size"].as_u64().unwrap_or(0);
    ensure!(
        said == size,
        "__rseq_size is {size}, the doctor says {said}"
    );
    let owns = remedies(&document)?[0] == "glibc owns: nothing to do";
    ensure!(owns == (size != 0), "{document}");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(
        document["kernel"]["release"] == release.trim(),
        "{document}"
    );
    Ok(())
}

/// Under a filter that answers rseq(2) with that errno, or kills.
fn filter(cx: &Context, errno: i32, remedy: &str) -> Result<()> {
    let program = program(cx)?;
    if asked(&program, false)?.0 != 0 {
        return Err(Missing::optional("rseq(2) is refused here in any case"));
    }
    let mut look = command(&program);
    look.args(["refuse", &errno.to_string()]).arg(doctor()?);
    let document = json({
        set_glibc_rseq(look.args(["doctor", "--json"]), false);
        look
    })?;
    let number = document["sandbox"]["rseq_number"].as_i64();
    let allow = format!("allow rseq(2), number {}", number.context("no number")?);
    for said in remedies(&document)? {
        let names_it = said.starts_with(remedy) && said.ends_with(&allow);
        ensure!(names_it, "the remedy is {said}");
    }
    Ok(())
}

/// A running process of two threads, compared with its own output.
fn threads(cx: &Context, what: &str, libc_on: bool) -> Result<()> {
    let mut waits = command(program(cx)?);
    set_glibc_rseq(waits.arg(what), libc_on);
    let mut child = waits.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let compared = (|| {
        let mut said = String::new();
        let output = child.stdout.take().context("a pipe")?;
        BufReader::new(output).read_line(&mut said)?;
        compare(&said, child.id(), what)
    })();
    // It also ends at the end of its input.
    let _ = child.kill();
    child.wait()?;
    compared
}

fn compare(said: &str, pid: u32, what: &str) -> Result<()> {
    let (address, signature) = said.trim().split_once(' ').context(said.to_owned())?;
    let is_registered = address != "0";
    if what == "own" && !is_registered {
        return Err(Missing::optional("rseq(2) is refused here"));
    }
    let mut look = command(doctor()?);
    look.args(["doctor", "--json", "--pid", &pid.to_string()]);
    let looked = run(&mut look, 60)?;
    if looked.output.contains("ptrace(2)") || looked.output.contains("does not tell") {
        return Err(Missing::optional(looked.output.trim()));
    }
    let document: Value = serde_json::from_str(&looked.check("the doctor")?)?;
    let threads = document["threads"].as_array().context("no threads")?;
    // The owners of the main thread and of the other one.
    let owners = match (is_registered, what) {
        (false, _) => ["nobody", "nobody"],
        (true, "own") => ["another", "nobody"],
        (true, _) => ["libc", "libc"],
    };
    ensure!(threads.len() == owners.len(), "{document}");
    for thread in threads {
        let is_main = thread["tid"] == pid;
        let owner = owners[usize::from(!is_main)];
        let is_registered = owner != "nobody";
        ensure!(thread["owner"] == owner, "{document}");
        ensure!(thread["registered"] == is_registered, "{document}");
        let size = thread["size"].as_u64().unwrap_or(0);
        ensure!((size >= 32) == is_registered, "{document}");
        if is_registered {
            ensure!(thread["signature"] == signature, "{document}");
        }
        if is_registered && is_main {
            ensure!(thread["address"] == address, "{document}");
        }
    }
    Ok(())
}

/// A missing process is reported as such.
fn nobody(_: &Context) -> Result<()> {
    let mut look = command(doctor()?);
    // Above every pid that the kernel assigns.
    look.args(["doctor", "--json", "--pid", "2147483647"]);
    let looked = run(&mut look, 60)?;
    let said = looked.output.contains("no process 2147483647");
    ensure!(!looked.ok() && said, "{}", looked.output);
    Ok(())
}
