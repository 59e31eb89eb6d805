//! The owner of rseq under a real libc: one program, linked against each libc at each LTO level, with the libc's own
//! registration on and off.

mod older;

use std::path::PathBuf;

use anyhow::Result;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler::{self, CORE, Compiler};
use crate::context::Context;
use crate::install::Need;
use crate::process::{command, output, set_glibc_rseq, tool};

pub use older::OLDER_LIBC;

pub const FAMILY: Family = Family {
    name: "ownership",
    cases,
    needs,
};

/// A libc, and how to link against it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link {
    name: &'static str,
    /// The compiler driver, which selects the libc.
    driver: &'static str,
    flags: &'static str,
    /// Whether this libc registers rseq when enabled.
    registers: bool,
}

/// A static link resolves the libc and the compiler's own library against each other.
const STATIC: &str = "-Ctarget-feature=+crt-static -Crelocation-model=static \
                      -Clink-args=-Wl,-Bstatic,--start-group,-lc,-lgcc,-lgcc_eh,--end-group";
const STATIC_PIE: &str = "-Ctarget-feature=+crt-static \
                          -Clink-args=-Wl,-Bstatic,--start-group,-lc,-lgcc,-lgcc_eh,--end-group";

#[rustfmt::skip] // a table
static LINKS: [Link; 5] = [
    Link { name: "glibc-dynamic", driver: "gcc", flags: "", registers: true },
    Link { name: "glibc-static", driver: "gcc", flags: STATIC, registers: true },
    Link { name: "glibc-static-pie", driver: "gcc", flags: STATIC_PIE, registers: true },
    Link { name: "musl-dynamic", driver: "musl-gcc", flags: "", registers: false },
    Link { name: "musl-static", driver: "musl-gcc", flags: STATIC, registers: false },
];

/// LTO levels, by Cargo's names.
const LTO: [&str; 3] = ["off", "thin", "fat"];

/// The expected owner, and the circumstances.
struct Expected {
    name: &'static str,
    /// Whether the libc's registration is enabled.
    libc_on: bool,
    arguments: &'static [&'static str],
}

const ON: Expected = Expected {
    name: "libc-owns",
    libc_on: true,
    arguments: &["libc"],
};
const OFF: Expected = Expected {
    name: "runtime-owns",
    libc_on: false,
    arguments: &["runtime"],
};
const HIDDEN: Expected = Expected {
    name: "hidden-owner",
    libc_on: false,
    arguments: &["taken", "foreign"],
};

fn cases_of(link: &Link) -> &'static [Expected] {
    match link.registers {
        true => &[ON, OFF, HIDDEN],
        false => &[OFF, HIDDEN],
    }
}

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Libcs(arch) = at else {
        return Ok(vec![]);
    };
    let mut cases = Vec::new();
    for link in &LINKS {
        for lto in LTO {
            let case = |case: &'static Expected| {
                let name = format!("{}/lto-{lto}/{}", link.name, case.name);
                let case = Case::new(name, move |cx| judge(cx, arch, link, lto, case));
                case.in_job(format!("ownership under {}", link.name))
            };
            cases.extend(cases_of(link).iter().map(case));
        }
    }
    Ok(cases)
}

fn needs(_: &Context, _: At) -> Vec<Need> {
    let why = "the ownership tests";
    vec![
        Need::new("gcc", &["gcc", "libc6-dev"], why),
        Need::new("musl-gcc", &["musl-tools"], why),
    ]
}

fn judge(cx: &Context, arch: Arch, link: &Link, lto: &str, case: &Expected) -> Result<()> {
    let mut owned = command(build(cx, arch, link, lto)?);
    set_glibc_rseq(owned.args(case.arguments), case.libc_on);
    // The exit status is the number of the failed check: tests-qemu/ownership/src/main.rs.
    output(&mut owned, "the program", 120)?;
    Ok(())
}

fn build(cx: &Context, arch: Arch, link: &Link, lto: &str) -> Result<PathBuf> {
    cx.once(format!("ownership/{}-{lto}", link.name), || {
        tool(link.driver)?;
        let folder = format!("target/ownership/{}-{lto}", link.name);
        let folder = cx.root.join(folder);
        let mut cargo = Compiler::Current.cargo("build", CORE, arch.target());
        // Per target, so that build scripts, which run on the host, are not linked against the libc under test.
        cargo
            .args(["--quiet", "--package", "ownership"])
            .env("CARGO_TARGET_DIR", &folder)
            .env("CARGO_PROFILE_RELEASE_LTO", lto)
            .env(
                "RUSTFLAGS",
                format!("-Clinker={} {}", link.driver, link.flags),
            );
        compiler::build(cx, arch, cargo, link.name)?;
        Ok(folder.join(arch.target()).join("release/ownership"))
    })
}
