//! The system's own description, queried before the first check.

use linux_raw_sys::auxvec::{AT_RSEQ_ALIGN, AT_RSEQ_FEATURE_SIZE};

use super::area::{Area, LEGACY};
use crate::entry::Env;
use crate::errno::Errno;
use crate::harness::forked;
use crate::sys::process::{self, Status, exit_group};
use crate::sys::sched::{self, CpuSet};
use crate::sys::{ptrace, rseq};

const REGISTER_PRIVATE_EXPEDITED_RSEQ: i32 = 256;

pub struct System<'a> {
    pub env: &'a Env,
    /// AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN, if present.
    pub feature_size: Option<usize>,
    pub align: Option<usize>,
    /// The answer to a registration of 32 bytes.
    pub rseq: Result<(), Errno>,
    pub ptrace: Result<(), Errno>,
    /// The answer to the registration for membarrier(2)'s rseq fence.
    pub fence: Result<(), Errno>,
    pub cpus: CpuSet,
}

/// The requirements of a check, besides rseq(2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// rseq(2) may be absent: the check reports that.
    NotEvenRseq,
    TwoCpus,
    Ptrace,
    PtraceAndTwoCpus,
    Fence,
}

impl<'a> System<'a> {
    pub fn ask(env: &'a Env) -> Self {
        Self {
            env,
            feature_size: env.auxv(AT_RSEQ_FEATURE_SIZE),
            align: env.auxv(AT_RSEQ_ALIGN),
            rseq: answer(|| Area::new().register(LEGACY)),
            ptrace: answer(ptrace::trace_me),
            fence: answer(|| rseq::membarrier(REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0)),
            cpus: sched::allowed().unwrap_or(CpuSet::empty()),
        }
    }

    /// The size of the fields that the kernel writes.
    pub fn fields(&self) -> usize {
        self.feature_size.unwrap_or(20)
    }

    /// The length from auxv.
    pub fn length(&self) -> u32 {
        (self.fields() as u32).max(LEGACY)
    }

    /// The lengths that a program may register; from Linux 7.0 on their rules differ. A check's notes are of the first.
    pub fn lengths(&self) -> impl Iterator<Item = u32> + use<> {
        let longer = Some(self.length()).filter(|&length| length > LEGACY);
        longer.into_iter().chain([LEGACY])
    }

    /// Those lengths, or 33 where no program needs it but the kernel accepts it: for quick checks of answers.
    pub fn taken_lengths(&self) -> impl Iterator<Item = u32> + use<> {
        let longer = self.length().max(LEGACY + 1);
        let taken = self.takes(longer, usize::MAX).is_ok();
        Some(longer).filter(|_| taken).into_iter().chain([LEGACY])
    }

    /// The answer to a registration of `length` bytes at an address aligned to `align`.
    pub fn takes(&self, length: u32, align: usize) -> Result<(), Errno> {
        let fine = match (length, self.fields()) {
            (LEGACY, _) => align >= 32,
            // 4.18 to 6.2.
            (_, ..24) => false,
            // 6.3 to 6.19.
            (_, 24..=32) => length > LEGACY && align >= 32,
            (_, fields) => length as usize >= fields && align >= self.align.unwrap_or(32),
        };
        if fine { Ok(()) } else { Err(Errno::INVAL) }
    }

    /// The reason why a check cannot run here.
    pub fn lacks(&self, needs: Needs) -> Option<&'static str> {
        let rseq = needs != Needs::NotEvenRseq && self.rseq.is_err();
        let ptrace = matches!(needs, Needs::Ptrace | Needs::PtraceAndTwoCpus);
        let fence = needs == Needs::Fence;
        let cpus = matches!(needs, Needs::TwoCpus | Needs::PtraceAndTwoCpus) || fence;
        [
            (rseq, "no rseq(2) here"),
            (ptrace && self.ptrace.is_err(), "no ptrace(2) here"),
            (
                fence && self.fence.is_err(),
                "no membarrier(2) with the fence of sections here",
            ),
            (cpus && self.cpus.count() < 2, "one CPU alone to run on"),
        ]
        .into_iter()
        .find_map(|(lacks, why)| lacks.then_some(why))
    }
}

/// The result of a call in its own process.
fn answer(call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    let status = forked(|| match call() {
        Ok(()) => exit_group(0),
        Err(errno) => exit_group(errno.0.min(255) as i32),
    });
    match status? {
        Status::Exited(0) => Ok(()),
        Status::Exited(errno) => Err(Errno(errno as u32)),
        _ => Err(Errno::FAULT),
    }
}

/// Passes the kernel's release to `look`.
pub fn release(look: impl FnOnce(&[u8])) {
    match process::uname() {
        Ok(name) => look(process::field(&name.release)),
        Err(_) => look(b"unknown"),
    }
}
