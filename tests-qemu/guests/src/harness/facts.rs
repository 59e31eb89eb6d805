//! The abilities of the machine, found out before the first test.

use linux_raw_sys::auxvec::{AT_RSEQ_ALIGN, AT_RSEQ_FEATURE_SIZE};
use linux_raw_sys::general::{__NR_seccomp, SIGSEGV};
use linux_raw_sys::ptrace::SECCOMP_GET_ACTION_AVAIL;

use rseq_rt::arch::SIGNATURE;

use super::{Scale, child};
use crate::arch;
use crate::entry::Env;
use crate::errno::Errno;
use crate::println;
use crate::sys::process::{self, Status};
use crate::sys::raw::syscall;
use crate::sys::rseq::rseq;
use crate::sys::sched::CpuSet;
use crate::sys::{ptrace, sched};

/// The needs of a test.
#[derive(Clone, Copy)]
pub struct Needs {
    rseq: bool,
    v2: bool,
    ptrace: bool,
    seccomp: bool,
    real_kernel: bool,
    native: bool,
    cpus: u32,
}

impl Needs {
    pub const NOTHING: Self = Self {
        rseq: false,
        v2: false,
        ptrace: false,
        seccomp: false,
        real_kernel: false,
        native: false,
        cpus: 1,
    };
    pub const RSEQ: Self = Self {
        rseq: true,
        ..Self::NOTHING
    };
    /// rseq(2) works and takes length 33: its rules are those of 7.x.
    pub const V2: Self = Self {
        v2: true,
        ..Self::RSEQ
    };
    pub const PTRACE: Self = Self {
        ptrace: true,
        ..Self::NOTHING
    };
    pub const SECCOMP: Self = Self {
        seccomp: true,
        ..Self::NOTHING
    };
    /// Not qemu-user.
    pub const REAL_KERNEL: Self = Self {
        real_kernel: true,
        ..Self::NOTHING
    };
    pub const NATIVE: Self = Self {
        native: true,
        ..Self::NOTHING
    };

    pub const fn and(self, other: Self) -> Self {
        Self {
            rseq: self.rseq || other.rseq,
            v2: self.v2 || other.v2,
            ptrace: self.ptrace || other.ptrace,
            seccomp: self.seccomp || other.seccomp,
            real_kernel: self.real_kernel || other.real_kernel,
            native: self.native || other.native,
            cpus: if self.cpus > other.cpus {
                self.cpus
            } else {
                other.cpus
            },
        }
    }

    pub const fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    pub(super) fn missing(&self, facts: &Facts, scale: Scale) -> Option<&'static str> {
        let needs_native = self.native && scale != Scale::Native;
        let needs_kernel = self.real_kernel && scale == Scale::User;
        [
            (needs_native, "this is not the native host"),
            (needs_kernel, "qemu-user is not a real kernel"),
            (
                self.rseq && facts.rseq.is_err(),
                "rseq(2) does not work here",
            ),
            (
                self.v2 && facts.feature_size < 33,
                "the kernel's feature size is below 33",
            ),
            (
                self.ptrace && facts.ptrace.is_err(),
                "ptrace(2) does not work here",
            ),
            (
                self.seccomp && facts.seccomp.is_err(),
                "seccomp(2) does not work here",
            ),
            (self.cpus > facts.cpus, "there are too few CPUs"),
        ]
        .into_iter()
        .find_map(|(missing, why)| missing.then_some(why))
    }
}

/// The abilities of the machine.
#[derive(Clone, Copy)]
pub struct Facts {
    /// AT_RSEQ_FEATURE_SIZE, or 20.
    pub feature_size: usize,
    /// AT_RSEQ_ALIGN, or 32.
    pub align: usize,
    /// The answer to a valid registration, in a child of its own.
    pub rseq: Result<(), Errno>,
    /// The answer to PTRACE_TRACEME.
    pub ptrace: Result<(), Errno>,
    /// Whether a filter may answer an errno.
    pub seccomp: Result<(), Errno>,
    /// How many CPUs this process may use.
    pub cpus: u32,
    /// Whether a store to the ids is fatal with length 32 too: the kernel's own checker, `rseq_debug=1`.
    pub strict: bool,
}

impl Facts {
    pub(super) fn find(env: &Env) -> Self {
        Self {
            feature_size: env.auxv(AT_RSEQ_FEATURE_SIZE).unwrap_or(20),
            align: env.auxv(AT_RSEQ_ALIGN).unwrap_or(32),
            rseq: probe(register_scratch),
            ptrace: probe(ptrace::trace_me),
            seccomp: probe(filters),
            cpus: sched::allowed().map_or(1, |set| set.count()),
            strict: child::forked(|| {
                process::no_core_dump();
                let _ = store_to_scratch();
            }) == Ok(Status::Killed(SIGSEGV as i32)),
        }
    }

    pub(super) fn print(&self) {
        if let Ok(name) = process::uname() {
            println!(
                "@fact kernel {}",
                process::field(&name.release).escape_ascii()
            );
        }
        println!("@fact arch {}", arch::NAME);
        println!("@fact cpus {}", self.cpus);
        println!("@fact feature_size {}", self.feature_size);
        println!("@fact align {}", self.align);
        if self.strict {
            println!("@fact mode debug");
        }
        for (call, answer) in [
            ("rseq", self.rseq),
            ("ptrace", self.ptrace),
            ("seccomp", self.seccomp),
        ] {
            match answer {
                Ok(()) => println!("@fact {call} live"),
                Err(errno) => println!("@fact {call} {errno}"),
            }
        }
    }
}

/// The answer of a call that must not leave a trace in this process.
fn probe(call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    match child::forked(|| {
        if let Err(errno) = call() {
            process::exit_group(errno.0 as i32);
        }
    })? {
        Status::Exited(0) => Ok(()),
        Status::Exited(errno) => Err(Errno(errno as u32)),
        _ => Err(Errno::FAULT),
    }
}

/// An area that ends with its process.
#[repr(C, align(64))]
struct Scratch([u32; 16]);

fn register_scratch() -> Result<(), Errno> {
    let mut area = Scratch([0; 16]);
    let at = (&raw mut area).cast();
    // SAFETY: an area on this stack, unregistered before it goes, or with the process.
    unsafe {
        rseq(at, 32, 0, SIGNATURE)?;
        rseq(at, 32, 1, SIGNATURE)
    }
}

/// Stores another number to cpu_id, and makes the kernel look at it.
fn store_to_scratch() -> Result<(), Errno> {
    let mut area = Scratch([0; 16]);
    let at: *mut u8 = (&raw mut area).cast();
    let cpus = sched::allowed()?;
    // SAFETY: an area on this stack, unregistered before it goes, or with the process; cpu_id is its second word.
    unsafe {
        rseq(at, 32, 0, SIGNATURE)?;
        at.cast::<u32>().add(1).write_volatile(0x7777);
        for cpu in cpus.iter() {
            sched::allow(0, &CpuSet::one(cpu))?;
        }
        rseq(at, 32, 1, SIGNATURE)
    }
}

fn filters() -> Result<(), Errno> {
    let errno = 0x0005_0000_u32;
    // SAFETY: reads the action.
    unsafe { syscall!(__NR_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const errno) }.map(drop)
}
