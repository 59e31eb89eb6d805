//! Who owns rseq under a real libc: one program, linked against each of them,
//! at each level of link-time optimisation, with the libc's own registration on and off.

use std::path::PathBuf;
use std::time::Duration;

use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::compiler::Compiler;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};
use crate::process::{self, command};

/// The family.
pub struct Ownership;

const NAME: &str = "ownership";

/// A libc and a way to link against it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link {
    name: &'static str,
    /// The driver: a libc is chosen by its compiler.
    driver: &'static str,
    flags: &'static str,
    /// Whether this libc registers rseq when it is let.
    registers: bool,
}

/// A static link resolves the libc and the compiler's own library against each other.
const LINKS: [Link; 5] = [
    Link {
        name: "glibc-dynamic",
        driver: "gcc",
        flags: "",
        registers: true,
    },
    Link {
        name: "glibc-static",
        driver: "gcc",
        flags: "-Ctarget-feature=+crt-static -Crelocation-model=static \
                -Clink-args=-Wl,-Bstatic,--start-group,-lc,-lgcc,-lgcc_eh,--end-group",
        registers: true,
    },
    Link {
        name: "glibc-static-pie",
        driver: "gcc",
        flags: "-Ctarget-feature=+crt-static \
                -Clink-args=-Wl,-Bstatic,--start-group,-lc,-lgcc,-lgcc_eh,--end-group",
        registers: true,
    },
    Link {
        name: "musl-dynamic",
        driver: "musl-gcc",
        flags: "",
        registers: false,
    },
    Link {
        name: "musl-static",
        driver: "musl-gcc",
        flags: "-Ctarget-feature=+crt-static -Crelocation-model=static \
                -Clink-args=-Wl,-Bstatic,--start-group,-lc,-lgcc,-lgcc_eh,--end-group",
        registers: false,
    },
];

/// Levels of link-time optimisation, as Cargo names them.
const LTO: [&str; 3] = ["off", "thin", "fat"];

/// What is expected under which circumstances.
struct Case {
    name: &'static str,
    /// Whether the libc is let.
    libc_on: bool,
    arguments: &'static [&'static str],
}

fn cases(link: Link) -> &'static [Case] {
    const ON: Case = Case {
        name: "libc-owns",
        libc_on: true,
        arguments: &["libc"],
    };
    const OFF: Case = Case {
        name: "runtime-owns",
        libc_on: false,
        arguments: &["runtime"],
    };
    const HIDDEN: Case = Case {
        name: "hidden-owner",
        libc_on: false,
        arguments: &["taken", "foreign"],
    };
    if link.registers {
        &[ON, OFF, HIDDEN]
    } else {
        &[OFF, HIDDEN]
    }
}

impl Family for Ownership {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        if self.list(lab, selection).is_empty() {
            return Vec::new();
        }
        let why = "the ownership tests";
        vec![
            Need::new("gcc", &["gcc", "libc6-dev"], why),
            Need::new("musl-gcc", &["musl-tools"], why),
        ]
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let Some(cell) = cell(selection) else {
            return Vec::new();
        };
        let mut listed = Vec::new();
        for link in LINKS {
            for lto in LTO {
                for case in cases(link) {
                    let test = test_name(link, lto, case);
                    if selection.wants(NAME, &test) {
                        listed.push((cell.clone(), test));
                    }
                }
            }
        }
        listed
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let listed = self.list(lab, selection);
        let mut jobs = Vec::new();
        for link in LINKS {
            let tests: Vec<String> = listed
                .iter()
                .filter(|(_, test)| test.starts_with(&format!("{}/", link.name)))
                .map(|(_, test)| test.clone())
                .collect();
            if let (false, Some(cell)) = (tests.is_empty(), cell(selection)) {
                jobs.push(Job::alone(
                    format!("ownership under {}", link.name),
                    move || run(lab, &cell, link, &tests),
                ));
            }
        }
        jobs
    }
}

/// The host's own libcs: the cell exists where the host's CPU is wanted and no kernel was asked for.
pub(super) fn cell(selection: &Selection) -> Option<Cell> {
    let arch = Arch::host()?;
    (selection.wants_arch(arch) && selection.wants_kernel_free()).then(|| Cell {
        order: 9,
        label: format!("{arch}/libcs"),
    })
}

fn test_name(link: Link, lto: &str, case: &Case) -> String {
    format!("{}/lto-{lto}/{}", link.name, case.name)
}

fn run(lab: &Lab, cell: &Cell, link: Link, wanted: &[String]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for lto in LTO {
        let cases = cases(link)
            .iter()
            .map(|case| (case, test_name(link, lto, case)))
            .filter(|(_, name)| wanted.contains(name));
        let mut program = None;
        for (case, name) in cases {
            let program = program.get_or_insert_with(|| build(lab, link, lto));
            let outcome = match program {
                Err(verdict) => Outcome::new(cell, NAME, name, verdict.clone()),
                Ok(program) => judge(cell, name, program, case),
            };
            outcomes.push(outcome);
        }
    }
    outcomes
}

fn build(lab: &Lab, link: Link, lto: &str) -> Result<PathBuf, Verdict> {
    if which::which(link.driver).is_err() {
        return Err(Verdict::Missing(format!("no {} here", link.driver)));
    }
    let arch = Arch::host().ok_or(Verdict::Missing("not one of the three CPUs".to_owned()))?;
    let folder = lab
        .root
        .join(format!("target/ownership/{}-{lto}", link.name));
    // Per target, so that build scripts, which run on the host, are not linked against the libc under test.
    let mut cargo = Compiler::Current.build();
    cargo
        .current_dir(&lab.root)
        .args(["--quiet", "--release", "--package", "ownership"])
        .args(["--target", arch.target()])
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_PROFILE_RELEASE_LTO", lto)
        .env(
            "RUSTFLAGS",
            format!("-Clinker={} {}", link.driver, link.flags),
        );
    let built = process::run(&mut cargo, Duration::from_secs(600))
        .map_err(|error| Verdict::Missing(error.to_string()))?;
    if !built.ok() {
        return Err(Verdict::Failed(format!("does not link: {}", built.tail(6))));
    }
    Ok(folder.join(arch.target()).join("release/ownership"))
}

fn judge(cell: &Cell, name: String, program: &PathBuf, case: &Case) -> Outcome {
    let tunable = format!("glibc.pthread.rseq={}", u8::from(case.libc_on));
    let mut owned = command(program);
    owned.args(case.arguments).env("GLIBC_TUNABLES", tunable);
    match process::run(&mut owned, Duration::from_secs(120)) {
        Err(error) => Outcome::new(cell, NAME, name, Verdict::Failed(error.to_string())),
        Ok(finished) => {
            let verdict = if finished.ok() {
                Verdict::Passed(String::new())
            } else {
                // The status is the number of the check: tests-qemu/ownership/src/main.rs.
                Verdict::Failed(finished.end.to_string())
            };
            Outcome::new(cell, NAME, name, verdict)
                .with_console(&finished.output)
                .took(finished.elapsed)
        }
    }
}
