//! Which kernels may be trusted with critical sections.

use core::sync::atomic::Ordering::Relaxed;

use crate::kernel::Kernel;
use crate::process::Process;

/// Does this process run critical sections?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Sections {
    /// Nobody has asked yet ([`Process::allow_sections`]): none runs.
    NotAsked = 0,
    /// Threads that are registered run them.
    Allowed = 1,
    /// A known-bad kernel, Linux 6.19 to 7.0.13 on aarch64: it does not abort a section when the thread is preempted and
    /// another one runs on the same CPU. The ids are right there; every operation takes the overflow path.
    KnownBad = 2,
    /// On aarch64, a kernel that does not tell its version, and so might be one of those.
    Unknown = 3,
}

impl<K: Kernel> Process<K> {
    /// Asks whether this kernel can be trusted with sections, once, before per-CPU data is used.
    ///
    /// Not done by the hooks, which need no sections. Any thread may call it, again too; the answer is the
    /// same. System calls: uname(2) on aarch64, none elsewhere.
    pub fn allow_sections(&self) -> Sections {
        let sections = if cfg!(target_arch = "aarch64") {
            match self.kernel.release() {
                Ok(release) => Sections::on_aarch64(&release),
                Err(_) => Sections::Unknown,
            }
        } else {
            Sections::Allowed
        };
        self.sections.store(sections as u8, Relaxed);
        sections
    }

    /// What [`Self::allow_sections`] found.
    #[inline]
    pub fn sections(&self) -> Sections {
        Sections::decode(self.sections.load(Relaxed))
    }
}

impl Sections {
    fn decode(byte: u8) -> Self {
        match byte {
            1 => Self::Allowed,
            2 => Self::KnownBad,
            3 => Self::Unknown,
            _ => Self::NotAsked,
        }
    }

    /// What the release that uname(2) states means on aarch64.
    ///
    /// The version is the leading `MAJOR.MINOR[.PATCH]`, whatever a distribution puts behind it. A release
    /// candidate counts as the first release of its version, and 7.1's are not trusted: the fix came in their time.
    pub fn on_aarch64(release: &[u8]) -> Self {
        let mut rest = release;
        let (Some(major), Some(minor)) = (number(&mut rest, true), number(&mut rest, true)) else {
            return Self::Unknown;
        };
        // "6.19-rc3" has none.
        let patch = number(&mut rest, true).unwrap_or(0);
        let candidate = rest.windows(3).any(|part| part == b"-rc");
        match (major, minor) {
            // What the UNAME26 personality shows, and nothing that has rseq.
            (..=2, _) => Self::Unknown,
            (6, 19..) => Self::KnownBad,
            (7, 0) if patch <= 13 => Self::KnownBad,
            (7, 1) if patch == 0 && candidate => Self::KnownBad,
            _ => Self::Allowed,
        }
    }
}

/// The decimal number at the start, and the dot behind it.
fn number(rest: &mut &[u8], dot: bool) -> Option<u32> {
    let mut value: Option<u32> = None;
    while let Some((&digit @ b'0'..=b'9', behind)) = rest.split_first() {
        let before = value.unwrap_or(0);
        value = Some(
            before
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0')),
        );
        *rest = behind;
    }
    if let (true, Some((b'.', behind))) = (dot, rest.split_first()) {
        *rest = behind;
    }
    value
}
