//! The table of kernels that guests boot on: origin of the image, machine, and expectations.

use crate::arch::Arch::{self, Aarch64, Riscv64, X86_64};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// By every `cargo xtask test`.
    EveryRun,
    /// With `--all-kernels`, or if `--kernel` names it.
    Weekly,
}

/// The kernel's source package, and the suites that have it, in order of preference.
pub const SOURCE: &str = "linux-source-7.2";
pub const SOURCE_SUITES: &[&str] = &["forky", "trixie-backports"];

/// A kernel image, shared by several systems.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Image {
    /// Its folder in the store, together with the CPU.
    pub name: &'static str,
    pub from: From,
}

/// The origin of an image.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// The image that a flavour's package depends on, from the first of `suites` with a version of the line.
    Suites {
        flavour: Flavour,
        /// The first numbers of its version.
        line: Line,
        /// The suites, in order of preference.
        suites: &'static [&'static str],
    },
    /// The highest patch level of a line that a suite still keeps in separate packages.
    Kept {
        /// E.g. `7.0`.
        line: &'static str,
        /// The highest patch level allowed.
        at_most: u32,
    },
    /// Built from the distribution's source, on `tinyconfig` and the fragments in `tests-qemu/kernels`.
    Source {
        package: &'static str,
        suites: &'static [&'static str],
    },
}

/// A line of versions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// Any from 7.0 on.
    Newest,
    Of(u32, u32),
}

impl Line {
    /// Whether `version` belongs to the line.
    pub fn takes(&self, version: &str) -> bool {
        match (self, numbers(version).as_slice()) {
            (Line::Newest, [major, ..]) => *major >= 7,
            (Line::Of(major, minor), [a, b, ..]) => (a, b) == (major, minor),
            _ => false,
        }
    }
}

/// The leading numbers of a version: 7, 2 and 12 of `7.2.12-1`.
pub fn numbers(version: &str) -> Vec<u32> {
    let end = version
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(version.len());
    let parts = version[..end].split('.');
    parts.map_while(|part| part.parse().ok()).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// The small image for virtual machines, if any.
    Cloud,
    /// PREEMPT_RT.
    Realtime,
    Pages16k,
}

impl Flavour {
    /// The suffix of its packages' names.
    pub fn suffix(self, arch: Arch) -> String {
        match (self, arch) {
            (Flavour::Cloud, Riscv64) => "riscv64".to_owned(),
            (Flavour::Cloud, arch) => format!("cloud-{}", arch.debian()),
            (Flavour::Realtime, arch) => format!("rt-{}", arch.debian()),
            (Flavour::Pages16k, arch) => format!("{}-16k", arch.debian()),
        }
    }
}

/// A kernel on a machine.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct System {
    /// Its name for `--kernel`.
    pub name: &'static str,
    pub arch: Arch,
    pub image: &'static Image,
    pub tier: Tier,
    /// `-smp`
    pub cpus: &'static str,
    /// Further emulator options.
    pub machine: &'static [&'static str],
    /// Further kernel parameters.
    pub append: &'static str,
    /// Substrings of the `family::test` names that run; empty: all.
    pub tests: &'static [&'static str],
    /// Substrings of the suite tests that must not be skipped: the purpose of the system.
    pub must_run: &'static [&'static str],
    /// Whether a run without it has failed.
    pub required: bool,
}

impl System {
    const fn new(name: &'static str, arch: Arch, image: &'static Image) -> Self {
        Self {
            name,
            arch,
            image,
            tier: Tier::EveryRun,
            cpus: "2",
            machine: &[],
            append: "",
            tests: &[],
            must_run: &[],
            required: true,
        }
    }

    /// A system of the weekly tier, without which a run is complete.
    const fn weekly(name: &'static str, arch: Arch, image: &'static Image) -> Self {
        let mut system = Self::new(name, arch, image).optional();
        system.tier = Tier::Weekly;
        system
    }

    const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    const fn cpus(mut self, cpus: &'static str) -> Self {
        self.cpus = cpus;
        self
    }

    const fn machine(mut self, machine: &'static [&'static str]) -> Self {
        self.machine = machine;
        self
    }

    const fn append(mut self, append: &'static str) -> Self {
        self.append = append;
        self
    }

    const fn tests(mut self, tests: &'static [&'static str]) -> Self {
        self.tests = tests;
        self
    }

    const fn must_run(mut self, tests: &'static [&'static str]) -> Self {
        self.must_run = tests;
        self
    }

    /// Whether the test `family::test` runs here.
    pub fn runs(&self, family: &str, test: &str) -> bool {
        let name = format!("{family}::{test}");
        self.tests.is_empty() || self.tests.iter().any(|part| name.contains(part))
    }

    /// Whether the suite's test must not be skipped here.
    pub fn must_run_test(&self, test: &str) -> bool {
        self.must_run.iter().any(|part| test.contains(part))
    }

    /// Whether it is the newest kernel with default settings.
    pub fn is_newest(&self) -> bool {
        self.name == NEWEST.name
    }
}

const fn packaged(
    name: &'static str,
    flavour: Flavour,
    line: Line,
    suites: &'static [&'static str],
) -> Image {
    let from = From::Suites {
        flavour,
        line,
        suites,
    };
    Image { name, from }
}

const fn kept(line: &'static str, at_most: u32) -> Image {
    let from = From::Kept { line, at_most };
    Image { name: line, from }
}

#[rustfmt::skip] // a table
mod images {
    use super::{Flavour::{Cloud, Pages16k, Realtime}, From, Image, Line, kept, packaged};

    pub static NEWEST: Image = packaged("newest", Cloud, Line::Newest, &["forky", "sid"]);
    pub static V6_12: Image = packaged("6.12", Cloud, Line::Of(6, 12), &["bookworm-backports", "trixie-security", "trixie"]);
    pub static V6_1: Image = packaged("6.1", Cloud, Line::Of(6, 1), &["bookworm-security", "bookworm"]);
    pub static NEWEST_RT: Image = packaged("newest-rt", Realtime, Line::Newest, &["forky", "sid"]);
    pub static V6_12_RT: Image = packaged("6.12-rt", Realtime, Line::Of(6, 12), &["trixie-security", "trixie", "bookworm-backports"]);
    pub static V6_1_RT: Image = packaged("6.1-rt", Realtime, Line::Of(6, 1), &["bookworm-security", "bookworm"]);
    pub static NEWEST_16K: Image = packaged("newest-16k", Pages16k, Line::Newest, &["forky", "sid"]);
    pub static V7_3: Image = packaged("7.3", Cloud, Line::Of(7, 3), &["trixie-backports"]);
    pub static V7_3_RC: Image = packaged("7.3-rc", Cloud, Line::Of(7, 3), &["experimental"]);
    pub static V6_18: Image = kept("6.18", u32::MAX);
    pub static V6_19: Image = kept("6.19", u32::MAX);
    // 7.0.14 aborts sections again.
    pub static V7_0: Image = kept("7.0", 13);
    pub static V7_1: Image = kept("7.1", u32::MAX);
    pub static SLICE: Image = Image {
        name: "slice",
        from: From::Source { package: super::SOURCE, suites: super::SOURCE_SUITES },
    };
}

use images::*;

/// For a kernel that does not abort sections: the guard, and the fault that it guards against.
const GUARDED: &[&str] = &[
    "demo::",
    "conform::",
    "suite::percpu/known-bad",
    "suite::structures/counter",
    "suite::structures/list",
    "suite::structures/buffer",
    "suite::structures/bytes-",
];
/// For a kernel with the slice extension: the extension, and everything that it may affect.
const SLICED: &[&str] = &[
    "demo::",
    "conform::",
    "suite::slice/",
    "suite::basic",
    "suite::areas/",
    "suite::lifetime/release",
    "suite::linux7/",
    "capi::slice/",
    "selftests::",
];

#[rustfmt::skip] // a table
pub const SYSTEMS: &[System] = &[
    System::new("newest", X86_64, &NEWEST).cpus("4"),
    System::new("newest", Aarch64, &NEWEST),
    System::new("newest", Riscv64, &NEWEST),
    System::new("6.12", X86_64, &V6_12),
    System::new("6.12", Aarch64, &V6_12),
    System::new("6.12", Riscv64, &V6_12).optional(),
    System::new("6.1", X86_64, &V6_1), // Debian has none for riscv64
    System::new("6.1", Aarch64, &V6_1),
    System::new("7.0", Aarch64, &V7_0).optional().tests(GUARDED).must_run(&["percpu/known-bad"]),
    System::new("slice", X86_64, &SLICE).optional().tests(SLICED).must_run(&["slice/armed", "slice/request", "slice/libc-area"]),
    System::new("newest-hotplug", Aarch64, &NEWEST).optional().cpus("4").tests(&["suite::hotplug/"]).must_run(&["hotplug/"]),

    System::weekly("slice", Riscv64, &SLICE).must_run(&["slice/armed", "slice/request"]),
    System::weekly("slice-all", X86_64, &SLICE).must_run(&["slice/armed", "slice/request"]),
    System::weekly("slice-debug", X86_64, &SLICE).append("rseq_debug=1").must_run(&["slice/armed", "slice/request"]),
    System::weekly("slice-off", X86_64, &SLICE).append("rseq_slice_ext=0"),
    System::weekly("newest-rt", X86_64, &NEWEST_RT),
    System::weekly("newest-rt", Aarch64, &NEWEST_RT),
    System::weekly("6.12-rt", X86_64, &V6_12_RT),
    System::weekly("6.12-rt", Aarch64, &V6_12_RT),
    System::weekly("6.1-rt", X86_64, &V6_1_RT),
    System::weekly("7.3", X86_64, &V7_3),
    System::weekly("7.3", Aarch64, &V7_3),
    System::weekly("7.3-rc", X86_64, &V7_3_RC),
    System::weekly("7.3-rc", Aarch64, &V7_3_RC),
    System::weekly("7.1", X86_64, &V7_1),
    System::weekly("7.1", Aarch64, &V7_1),
    System::weekly("7.0-all", X86_64, &V7_0),
    System::weekly("7.0-all", Aarch64, &V7_0).must_run(&["percpu/known-bad"]),
    System::weekly("6.19", X86_64, &V6_19),
    System::weekly("6.19", Aarch64, &V6_19).must_run(&["percpu/known-bad"]),
    System::weekly("6.18", X86_64, &V6_18),
    System::weekly("6.18", Aarch64, &V6_18),
    System::weekly("newest-1cpu", X86_64, &NEWEST).cpus("1"),
    System::weekly("newest-1cpu", Aarch64, &NEWEST).cpus("1"),
    System::weekly("newest-2of8", X86_64, &NEWEST).cpus("2,maxcpus=8"),
    System::weekly("newest-2of8", Aarch64, &NEWEST).cpus("8").append("maxcpus=2"),
    System::weekly("newest-64cpus", X86_64, &NEWEST).cpus("64").machine(&["-m", "1024"]).tests(&["demo::", "suite::structures/"]),
    System::weekly("newest-16k", Aarch64, &NEWEST_16K).machine(&["-cpu", "max"]),
    System::weekly("newest-numa", X86_64, &NEWEST).cpus("4").machine(NODES),
    System::weekly("newest-isolated", X86_64, &NEWEST).cpus("4").append("isolcpus=2,3 nohz_full=2,3"),
    System::weekly("newest-mutants", Aarch64, &NEWEST).tests(&["mutants::"]),
    System::weekly("newest-mutants", Riscv64, &NEWEST).tests(&["mutants::"]),
    System::weekly("newest-debug", X86_64, &NEWEST).append("rseq_debug=1"),
    System::weekly("newest-vector", Riscv64, &NEWEST).machine(&["-cpu", "rv64,v=true"]),
];

/// Two nodes with two CPUs each.
#[rustfmt::skip] // pairs
const NODES: &[&str] = &[
    "-m", "512",
    "-object", "memory-backend-ram,id=m0,size=256M", "-numa", "node,nodeid=0,cpus=0-1,memdev=m0",
    "-object", "memory-backend-ram,id=m1,size=256M", "-numa", "node,nodeid=1,cpus=2-3,memdev=m1",
];
