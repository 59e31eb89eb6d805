//! The three CPUs, and each one's name in every tool.

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

/// A CPU architecture the guests are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    #[value(name = "x86_64", alias = "amd64")]
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
    /// 64-bit RISC-V.
    #[value(name = "riscv64")]
    Riscv64,
}

impl Arch {
    /// All CPUs, in the order of every table.
    pub const ALL: [Arch; 3] = [Arch::X86_64, Arch::Aarch64, Arch::Riscv64];

    pub fn host() -> Option<Arch> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.name() == std::env::consts::ARCH)
    }

    /// The name in our output, and qemu's.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Riscv64 => "riscv64",
        }
    }

    pub fn target(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
            Arch::Riscv64 => "riscv64gc-unknown-linux-gnu",
        }
    }

    /// The CPU that was asked for, or this machine's.
    pub fn or_host(asked: Option<Arch>) -> anyhow::Result<Arch> {
        asked
            .or_else(Arch::host)
            .context("this machine is none of the three CPUs: name one with --arch")
    }

    /// Cargo's environment variable for the linker of this target.
    pub fn linker_variable(self) -> String {
        format!(
            "CARGO_TARGET_{}_LINKER",
            self.target().to_uppercase().replace('-', "_")
        )
    }

    /// The C compiler driver that links for it on another machine.
    pub fn cross_linker(self) -> String {
        format!("{}-linux-gnu-gcc", self.name())
    }

    /// A program of the compiler or the binutils for this CPU.
    pub fn tool(self, name: &str) -> String {
        if Arch::host() == Some(self) {
            name.to_owned()
        } else {
            format!("{}-linux-gnu-{name}", self.name())
        }
    }

    /// Debian's folder for this CPU's libc on a machine of another CPU.
    pub fn cross_libc(self) -> String {
        format!("/usr/{self}-linux-gnu/lib/libc.so.6")
    }

    pub fn cross_linker_package(self) -> String {
        format!("gcc-{}-linux-gnu", self.name().replace('_', "-"))
    }

    pub fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
            Arch::Riscv64 => "riscv64",
        }
    }

    pub fn user_emulator(self) -> String {
        format!("qemu-{self}")
    }

    pub fn system_emulator(self) -> String {
        format!("qemu-system-{self}")
    }

    /// Packages that may hold the system emulator, in order of preference (Debian 13 split riscv64 out of `-misc`).
    pub fn system_emulator_packages(self) -> &'static [&'static str] {
        match self {
            Arch::X86_64 => &["qemu-system-x86"],
            Arch::Aarch64 => &["qemu-system-arm"],
            Arch::Riscv64 => &["qemu-system-riscv", "qemu-system-misc"],
        }
    }

    /// The emulated machine, and the kernel's name for its serial console. x86_64 runs without cmpxchg16b: the software
    /// emulator of qemu 7.2 gets its flags wrong, and 6.12, whose allocator uses it, panicked in 11 of 25 boots with it
    /// and in none of 25 without. Its CPUs also share one thread: with a thread each, qemu before 8.1 may translate
    /// code that another CPU is changing and keep the stale result (6.12 panicked on the breakpoint of a patch
    /// completed long before). On two cores one thread is also faster. The other CPUs keep a thread each: there,
    /// waiting CPUs would take turns too.
    pub fn board(self) -> (&'static [&'static str], &'static str) {
        match self {
            Arch::X86_64 => (
                &[
                    "-machine",
                    "q35",
                    "-cpu",
                    "max,cx16=off",
                    "-accel",
                    "tcg,thread=single",
                ],
                "ttyS0",
            ),
            Arch::Aarch64 => (&["-machine", "virt", "-cpu", "cortex-a57"], "ttyAMA0"),
            Arch::Riscv64 => (&["-machine", "virt"], "ttyS0"),
        }
    }

    /// Whether one thread of the emulator runs all CPUs.
    pub fn emulates_in_one_thread(self) -> bool {
        self.board().0.contains(&"tcg,thread=single")
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
