//! Which kernels may be trusted with critical sections.

use core::sync::atomic::Ordering::Relaxed;

use crate::process::Process;
use crate::sys::kernel::Kernel;

/// Whether the kernel supports critical sections, which is to abort them, as far as this process has found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SectionSupport {
    /// Nobody has asked yet ([`Process::allow_sections`]): none runs.
    NotAsked = 0,
    /// Threads that are registered run them.
    Allowed = 1,
    /// A known-bad kernel, Linux 6.19 to 7.0.13 on aarch64: it does not abort a section when the thread is preempted and
    /// another one runs on the same CPU. The ids are right there; every operation takes the overflow path.
    KnownBad = 2,
    /// On aarch64, a kernel that does not tell its version, and so might be one of those.
    Unknown = 3,
    /// [`Process::probe_sections`] saw a section committed that should have been aborted.
    NotAborted = 4,
}

/// The basis of the answer of [`Process::section_support`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VouchedBy {
    /// Nothing: nobody has asked.
    Nobody,
    /// [`Process::allow_sections`]: what is known of kernels of this name, and of this CPU.
    Name,
    /// [`Process::probe_sections`]: what this kernel does.
    Probe,
}

/// Both, as the process keeps them.
#[derive(Clone, Copy)]
pub(super) struct Answer(pub(super) u8);

impl Answer {
    /// The bit of a probe.
    const PROBE: u8 = 0x80;

    pub(super) fn new(support: SectionSupport, by: VouchedBy) -> Self {
        let probe = if by == VouchedBy::Probe {
            Self::PROBE
        } else {
            0
        };
        Self(support as u8 | probe)
    }

    #[inline(always)]
    fn support(self) -> SectionSupport {
        match self.0 & !Self::PROBE {
            1 => SectionSupport::Allowed,
            2 => SectionSupport::KnownBad,
            3 => SectionSupport::Unknown,
            4 => SectionSupport::NotAborted,
            _ => SectionSupport::NotAsked,
        }
    }

    fn vouched_by(self) -> VouchedBy {
        match self.0 {
            0 => VouchedBy::Nobody,
            byte if byte & Self::PROBE != 0 => VouchedBy::Probe,
            _ => VouchedBy::Name,
        }
    }
}

impl<K: Kernel> Process<K> {
    /// Asks whether this kernel can be trusted with sections, once, before per-CPU data is used.
    ///
    /// Not done by the hooks, which need no sections. Any thread may call it, again too; the answer is the
    /// same. It is what is known of the kernel's *name*: who can lend two threads asks the kernel itself
    /// ([`Self::probe_sections`]), before or instead. System calls: uname(2) on aarch64, none elsewhere.
    pub fn allow_sections(&self) -> SectionSupport {
        // The answer stays: what is asked later may be filtered, and this memory sealed.
        match self.section_support() {
            SectionSupport::NotAsked => {}
            known => return known,
        }
        let support = if cfg!(target_arch = "aarch64") {
            match self.kernel.release() {
                Ok(release) => SectionSupport::on_aarch64(&release),
                Err(_) => SectionSupport::Unknown,
            }
        } else {
            SectionSupport::Allowed
        };
        let answer = Answer::new(support, VouchedBy::Name);
        self.sections.store(answer.0, Relaxed);
        support
    }

    /// The result of [`Self::allow_sections`] or [`Self::probe_sections`].
    #[inline]
    pub fn section_support(&self) -> SectionSupport {
        self.answer().support()
    }

    /// Which of the two found it.
    pub fn vouched_by(&self) -> VouchedBy {
        self.answer().vouched_by()
    }

    #[inline(always)]
    pub(super) fn runs_sections(&self) -> bool {
        self.answer().support() == SectionSupport::Allowed
    }

    #[inline(always)]
    fn answer(&self) -> Answer {
        Answer(self.sections.load(Relaxed))
    }
}

impl SectionSupport {
    /// The meaning, on aarch64, of the release that uname(2) states.
    ///
    /// The version is the leading `MAJOR.MINOR[.PATCH]`, whatever a distribution puts behind it. A release
    /// candidate counts as the first release of its version, and 7.1's are not trusted: the fix came in their time.
    pub fn on_aarch64(release: &[u8]) -> Self {
        let mut rest = release;
        let (Some(major), Some(minor)) = (number(&mut rest), number(&mut rest)) else {
            return Self::Unknown;
        };
        // "6.19-rc3" has none.
        let patch = number(&mut rest).unwrap_or(0);
        let candidate = rest.windows(3).any(|part| part == b"-rc");
        match (major, minor) {
            // The UNAME26 personality shows these; no such kernel has rseq.
            (..=2, _) => Self::Unknown,
            (6, 19..) => Self::KnownBad,
            (7, 0) if patch <= 13 || (patch == 14 && candidate) => Self::KnownBad,
            (7, 1) if patch == 0 && candidate => Self::KnownBad,
            _ => Self::Allowed,
        }
    }
}

/// The decimal number at the start, and the dot behind it.
fn number(rest: &mut &[u8]) -> Option<u32> {
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
    if let Some((b'.', behind)) = rest.split_first() {
        *rest = behind;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::SectionSupport::{self, Allowed, KnownBad, NotAborted, NotAsked, Unknown};
    use super::{Answer, VouchedBy};

    #[test]
    fn an_answer_says_whose_it_is() {
        assert_eq!(Answer(0).support(), NotAsked);
        assert_eq!(Answer(0).vouched_by(), VouchedBy::Nobody);
        for support in [Allowed, KnownBad, Unknown, NotAborted] {
            for by in [VouchedBy::Name, VouchedBy::Probe] {
                let answer = Answer::new(support, by);
                assert_eq!((answer.support(), answer.vouched_by()), (support, by));
            }
        }
    }

    #[test]
    fn releases_of_every_kind() {
        let table: [(&str, SectionSupport); 32] = [
            // Before the change, and what is maintained of it.
            ("4.18.0", Allowed),
            ("5.10.0-33-arm64", Allowed),
            ("6.1.0-37-cloud-arm64", Allowed),
            ("6.12.43+deb13-arm64", Allowed),
            ("6.18.44-fc-v657", Allowed),
            ("6.18", Allowed),
            ("6.18.0-rc7", Allowed),
            // The range, and its ends.
            ("6.19-rc1", KnownBad),
            ("6.19.0-rc1-next-20251210", KnownBad),
            ("6.19", KnownBad),
            ("6.19.0", KnownBad),
            ("6.19.14-1-default", KnownBad),
            ("6.19.3-300.fc44.aarch64", KnownBad),
            ("6.20.1", KnownBad),
            ("7.0", KnownBad),
            ("7.0.0-rc3", KnownBad),
            ("7.0.0-14-generic", KnownBad),
            ("7.0.9+deb14-cloud-arm64", KnownBad),
            ("7.0.10", KnownBad),
            ("7.0.13", KnownBad),
            ("7.0.13-android17-0-g0123", KnownBad),
            ("7.0.14", Allowed),
            ("7.0.14-rc1", KnownBad),
            ("7.0.130", Allowed),
            ("7.1.0-rc4", KnownBad),
            ("7.1.0", Allowed),
            ("7.1-arch1-1", Allowed),
            ("7.2.12+deb14-cloud-arm64", Allowed),
            ("10.0.0", Allowed),
            // Nothing that tells.
            ("2.6.79-rc1", Unknown),
            ("linux", Unknown),
            ("", Unknown),
        ];
        for (release, expected) in table {
            let mut padded = [0; 65];
            padded[..release.len()].copy_from_slice(release.as_bytes());
            assert_eq!(SectionSupport::on_aarch64(&padded), expected, "{release}");
            assert_eq!(
                SectionSupport::on_aarch64(release.as_bytes()),
                expected,
                "{release}"
            );
        }
        for odd in [
            "7",
            "7.",
            ".19",
            "6.x",
            "99999999999999999999.1.1",
            "-1.2.3",
        ] {
            let _ = SectionSupport::on_aarch64(odd.as_bytes());
        }
        assert_eq!(SectionSupport::on_aarch64(b"7"), Unknown);
        assert_eq!(SectionSupport::on_aarch64(b"6.x"), Unknown);
    }
}
