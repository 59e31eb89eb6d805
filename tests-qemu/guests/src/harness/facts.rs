//! The capabilities of the machine, determined before the first test.

use linux_raw_sys::auxvec::{AT_RSEQ_ALIGN, AT_RSEQ_FEATURE_SIZE};
use linux_raw_sys::general::{__NR_seccomp, SIGSEGV};
use linux_raw_sys::ptrace::SECCOMP_GET_ACTION_AVAIL;

use rseq_rt::Area;
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

#[derive(Clone, Copy)]
pub struct Needs {
    what: u32,
    cpus: u32,
}

impl Needs {
    pub const NOTHING: Self = Self { what: 0, cpus: 1 };
    pub const RSEQ: Self = Self::bit(0);
    /// rseq(2) takes length 33: its rules are those of 7.x.
    pub const V2: Self = Self::bit(1).and(Self::RSEQ);
    pub const PTRACE: Self = Self::bit(2);
    pub const SECCOMP: Self = Self::bit(3);
    /// A kernel, rather than qemu-user.
    pub const REAL_KERNEL: Self = Self::bit(4);
    pub const NATIVE: Self = Self::bit(5);

    const fn bit(bit: u32) -> Self {
        Self {
            what: 1 << bit,
            cpus: 1,
        }
    }

    pub const fn and(self, other: Self) -> Self {
        Self {
            what: self.what | other.what,
            cpus: if self.cpus > other.cpus {
                self.cpus
            } else {
                other.cpus
            },
        }
    }

    /// At least `count` CPUs.
    pub const fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    pub(super) fn missing(&self, facts: &Facts, scale: Scale) -> Option<&'static str> {
        let needs = |other: Self| self.what & other.what == other.what;
        #[rustfmt::skip] // a table
        let rows = [
            (needs(Self::NATIVE) && scale != Scale::Native, "this is not the native host"),
            (needs(Self::REAL_KERNEL) && scale == Scale::User, "qemu-user is not a real kernel"),
            (needs(Self::RSEQ) && facts.rseq.is_err(), "rseq(2) does not work here"),
            (needs(Self::V2) && facts.feature_size < 33, "the kernel's feature size is below 33"),
            (needs(Self::PTRACE) && facts.ptrace.is_err(), "ptrace(2) does not work here"),
            (needs(Self::SECCOMP) && facts.seccomp.is_err(), "seccomp(2) does not work here"),
            (self.cpus > facts.cpus, "there are too few CPUs"),
        ];
        rows.into_iter()
            .find_map(|(missing, why)| missing.then_some(why))
    }
}

#[derive(Clone, Copy)]
pub struct Facts {
    /// AT_RSEQ_FEATURE_SIZE, or 20.
    pub feature_size: usize,
    /// AT_RSEQ_ALIGN, or 32.
    pub align: usize,
    /// The answer to a valid registration, in a separate child.
    pub rseq: Result<(), Errno>,
    /// The answer to PTRACE_TRACEME.
    pub ptrace: Result<(), Errno>,
    /// Whether a filter may answer an errno.
    pub seccomp: Result<(), Errno>,
    /// The CPUs that this process may use.
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

/// The result of a call that must leave no trace in this process.
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

fn register_scratch() -> Result<(), Errno> {
    let area = Area::new();
    let at = (&raw const area).cast_mut().cast();
    // SAFETY: an area on this stack, unregistered before it goes, or with the process.
    unsafe {
        rseq(at, 32, 0, SIGNATURE)?;
        rseq(at, 32, 1, SIGNATURE)
    }
}

/// Stores another number to cpu_id, and makes the kernel check it.
fn store_to_scratch() -> Result<(), Errno> {
    let area = Area::new();
    let at: *mut u8 = (&raw const area).cast_mut().cast();
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
