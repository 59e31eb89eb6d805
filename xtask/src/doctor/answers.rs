//! The answers of the kernel, or of a filter in front of it, to an unregistered thread; and the remedies.

use anyhow::Result;
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use crate::process::{End, command, run, set_glibc_rseq};

/// The answer of the kernel, or of a filter in front of it, to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Errno(i32),
    /// Success without effect.
    Pretended,
    /// The caller is killed by this signal.
    Killed(i32),
    /// The call was not made.
    NotAsked,
}

impl Answer {
    pub fn text(self) -> String {
        match self {
            Answer::Done => "yes".to_owned(),
            Answer::Errno(raw) => format!("no: {}", Errno::from_raw(raw)),
            Answer::Pretended => "no: success without effect".to_owned(),
            Answer::Killed(signal) => format!("no: the caller is killed by signal {signal}"),
            Answer::NotAsked => "-".to_owned(),
        }
    }
}

/// The answers to an unregistered thread.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Answers {
    /// A registration of 32 bytes.
    pub legacy: Answer,
    /// A registration of the feature size, where that is larger.
    pub whole: Answer,
    /// The same with the time-slice extension.
    pub slice: Answer,
    /// The membarrier(2) registration for the rseq fence.
    pub fence: Answer,
}

/// `struct rseq` with room for later fields.
#[repr(C, align(4096))]
struct Scratch([u32; 1024]);

/// The signature before an abort handler: glibc's RSEQ_SIG.
const SIGNATURE: u32 = match () {
    () if cfg!(target_arch = "aarch64") => 0xd428_bc00,
    () if cfg!(target_arch = "riscv64") => 0xf140_1073,
    () if cfg!(target_arch = "x86_64") => 0x5305_3053,
    // On other CPUs the crate does not run.
    () => 0,
};

const UNREGISTER: u32 = 1;
const SLICE_EXT_DEFAULT_ON: u32 = 2;
const MEMBARRIER_REGISTER_RSEQ: i32 = 1 << 8;

/// Registers the calling thread and undoes that.
fn registration(length: u32, flags: u32) -> Answer {
    let area = Box::leak(Box::new(Scratch([0; 1024])));
    area.0[1] = u32::MAX;
    let area = &raw mut *area;
    let rseq = |flags: u32| {
        // SAFETY: the area is leaked, so a registration that remains writes to memory that nobody else uses.
        unsafe { libc::syscall(libc::SYS_rseq, area, length, flags, SIGNATURE) }
    };
    let answer = Errno::result(rseq(flags));
    // SAFETY: the leaked area; volatile, since the kernel has written to it.
    let cpu = unsafe { (&raw const (*area).0[1]).read_volatile() };
    let undone = answer.is_ok().then(|| rseq(UNREGISTER));
    match answer {
        Err(errno) => Answer::Errno(errno as i32),
        Ok(_) if cpu == u32::MAX || undone != Some(0) => Answer::Pretended,
        Ok(_) => Answer::Done,
    }
}

/// An entry of the auxiliary vector, absent if 0.
pub fn auxv(kind: u64) -> Option<u32> {
    // SAFETY: getauxval(3) has no conditions.
    u32::try_from(unsafe { libc::getauxval(kind) })
        .ok()
        .filter(|&value| value != 0)
}

pub const AT_RSEQ_FEATURE_SIZE: u64 = 27;
pub const AT_RSEQ_ALIGN: u64 = 28;

impl Answers {
    pub fn ask() -> Self {
        let size = auxv(AT_RSEQ_FEATURE_SIZE).filter(|&size| size > 32);
        let longer = |flags| size.map_or(Answer::NotAsked, |size| registration(size, flags));
        // SAFETY: membarrier(2) touches no memory of this process.
        let fence = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_REGISTER_RSEQ, 0, 0) };
        Self {
            legacy: registration(32, 0),
            whole: longer(0),
            slice: longer(SLICE_EXT_DEFAULT_ON),
            fence: Errno::result(fence).map_or_else(|e| Answer::Errno(e as i32), |_| Answer::Done),
        }
    }

    /// The same from a child process, which a filter may kill.
    pub fn of_a_child() -> Result<Self> {
        let mut ask = command(std::env::current_exe()?);
        ask.args(["doctor", "--ask"]);
        let asked = run(set_glibc_rseq(&mut ask, false), 60)?;
        match asked.end {
            End::Signal(signal) => Ok(Self {
                legacy: Answer::Killed(signal),
                whole: Answer::NotAsked,
                slice: Answer::NotAsked,
                fence: Answer::NotAsked,
            }),
            _ => Ok(serde_json::from_str(&asked.check("the question")?)?),
        }
    }
}

/// The facts that determine the remedy.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    pub legacy: Answer,
    /// Whether auxv or the kernel's configuration shows rseq.
    pub kernel_has_rseq: bool,
    pub filters: bool,
}

impl Signs {
    /// Why a thread is refused, and the remedy; `None` if it is not.
    pub fn refusal(self) -> Option<(String, String)> {
        let number = libc::SYS_rseq;
        let allow = format!("allow rseq(2), number {number}");
        let why = self.legacy.text();
        let remedy = match self.legacy {
            Answer::Done | Answer::NotAsked => return None,
            Answer::Killed(_) => format!("killed by a filter: {allow}"),
            Answer::Errno(libc::EPERM | libc::EACCES) => format!("refused by a filter: {allow}"),
            Answer::Errno(libc::ENOSYS) if self.kernel_has_rseq => {
                format!("refused by a filter, or an emulator without it: {allow}")
            }
            Answer::Errno(libc::ENOSYS) if self.filters => {
                format!("kernel without CONFIG_RSEQ, or a filter that answers so: {allow}")
            }
            Answer::Errno(libc::ENOSYS) => {
                "kernel without CONFIG_RSEQ, or before 4.18: another kernel".to_owned()
            }
            Answer::Errno(libc::EINVAL) => {
                "somebody has registered the thread: look at LD_PRELOAD".to_owned()
            }
            Answer::Pretended => format!("a filter or an emulator answers 0: {allow}"),
            Answer::Errno(_) if self.filters => format!("refused by a filter: {allow}"),
            Answer::Errno(_) => "unknown to this tool: ask the machine's maintainer".to_owned(),
        };
        Some((why, remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_remedy() {
        let remedy = |legacy, kernel_has_rseq, filters| {
            let signs = Signs {
                legacy,
                kernel_has_rseq,
                filters,
            };
            signs
                .refusal()
                .map(|(_, remedy)| remedy)
                .unwrap_or_default()
        };
        let allow = format!("allow rseq(2), number {}", libc::SYS_rseq);
        assert_eq!(remedy(Answer::Done, true, true), "");
        let filter = format!("refused by a filter: {allow}");
        assert_eq!(remedy(Answer::Errno(libc::EPERM), true, true), filter);
        assert_eq!(remedy(Answer::Errno(libc::EACCES), false, false), filter);
        assert_eq!(
            remedy(Answer::Killed(libc::SIGSYS), true, true),
            format!("killed by a filter: {allow}")
        );
        let nosys = Answer::Errno(libc::ENOSYS);
        assert!(remedy(nosys, true, false).starts_with("refused by a filter"));
        assert!(remedy(nosys, false, true).ends_with(&allow));
        assert!(remedy(nosys, false, false).starts_with("kernel without CONFIG_RSEQ"));
        assert!(remedy(Answer::Errno(libc::EINVAL), true, false).contains("LD_PRELOAD"));
    }
}
