//! The report as text: five lines, in which each "no" has its remedy behind it.

use core::fmt::{self, Write};

use crate::percpu::{SectionSupport, VouchedBy};
use crate::process::state::{Owner, Reason, State};
use crate::report::remedy::Remedy;
use crate::report::values::{Behaviour, Report, SliceAnswer};
use crate::sys::abi::{FEATURE_SIZE_MM_CID, FEATURE_SIZE_NODE_ID};

impl Report {
    /// The text in the caller's buffer, without a terminator. Returns the bytes that the whole text has: where that is more
    /// than `buffer` holds, the text ends at the end of the buffer.
    #[cold]
    pub fn write_to(&self, buffer: &mut [u8]) -> usize {
        let mut text = Cut { buffer, length: 0 };
        // A cut text refuses nothing.
        let _ = self.write(&mut text);
        text.length
    }

    fn write(&self, to: &mut impl Write) -> fmt::Result {
        self.write_owner(to)?;
        self.write_registration(to)?;
        self.write_thread(to)?;
        self.write_sections(to)?;
        to.write_str("slice extension: ")?;
        to.write_str(match self.slice {
            SliceAnswer::On => "on",
            SliceAnswer::NotAsked => "off, not asked for",
            SliceAnswer::NotRegistered => "off, this runtime has not registered the thread",
            SliceAnswer::TooShort => "off, the registration is too short for it",
            SliceAnswer::Refused => "off, refused by the kernel",
        })?;
        end_line(to, self.slice_remedy())
    }

    fn write_owner(&self, to: &mut impl Write) -> fmt::Result {
        to.write_str("owner: ")?;
        to.write_str(match self.owner {
            None if !self.is_initialized => "undecided, not initialized",
            None => "undecided, no registration has succeeded",
            Some(Owner::Nobody) => "nobody",
            Some(Owner::Libc) => "libc",
            Some(Owner::Runtime) => "this runtime",
        })?;
        match self.reason {
            // Where a libc is said to own rseq, and shows no area.
            Some(Reason::Taken) => to.write_str(", which does not show its area")?,
            Some(reason) => {
                to.write_str(", ")?;
                to.write_str(reason.as_str())?;
            }
            None => {}
        }
        to.write_str("\n")
    }

    fn write_registration(&self, to: &mut impl Write) -> fmt::Result {
        to.write_str("registration: ")?;
        if self.length != 0 {
            to.write_str("length ")?;
            write_number(to, self.length)?;
            to.write_str(", ")?;
        }
        let Some(behaviour) = self.behaviour else {
            return to.write_str("none to be seen\n");
        };
        to.write_str("feature size ")?;
        write_number(to, self.feature_size)?;
        to.write_str(match self.feature_size {
            FEATURE_SIZE_MM_CID.. => " (cpu, node, concurrency id)",
            FEATURE_SIZE_NODE_ID.. => " (cpu, node)",
            _ => " (cpu)",
        })?;
        to.write_str(match behaviour {
            Behaviour::Legacy => ", legacy behaviour\n",
            Behaviour::Linux7 => ", behaviour of Linux 7\n",
        })
    }

    fn write_thread(&self, to: &mut impl Write) -> fmt::Result {
        to.write_str("thread: ")?;
        to.write_str(match self.state {
            State::Unregistered if self.owner == Some(Owner::Libc) => {
                "no hook has run here, and the libc registers its threads itself"
            }
            State::Unregistered => "unregistered, nobody has tried",
            State::Registered(Owner::Libc) => "registered by the libc",
            State::Registered(_) => "registered by this runtime",
            State::Unavailable(_) => "without rseq, ",
            State::Exiting => "exiting",
            State::Lent => "lent to a vfork child",
        })?;
        if let State::Unavailable(reason) = self.state {
            to.write_str(reason.as_str())?;
        }
        if let Some(errno) = self.errno {
            to.write_str(", errno ")?;
            write_number(to, errno.raw().into())?;
        }
        end_line(to, self.thread_remedy())
    }

    fn write_sections(&self, to: &mut impl Write) -> fmt::Result {
        to.write_str("sections: ")?;
        to.write_str(match self.sections {
            SectionSupport::NotAsked => "off, not asked for",
            SectionSupport::Allowed => "allowed",
            SectionSupport::KnownBad => "off, this kernel does not abort them",
            SectionSupport::Unknown => "off, the kernel does not tell its version",
            SectionSupport::NotAborted => "off, one was committed that should have been aborted",
        })?;
        to.write_str(match self.vouched_by {
            VouchedBy::Nobody => "",
            VouchedBy::Name => ", by the kernel's name",
            VouchedBy::Probe => ", by a probe",
        })?;
        end_line(to, self.section_remedy())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

/// A text that is cut where its buffer ends, and counted to its own end.
struct Cut<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl Cut<'_> {
    /// Not inlined: a loop over this one would be made a call of memcpy, which a libc may not have yet.
    #[inline(never)]
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.buffer.get_mut(self.length) {
            *place = byte;
        }
        self.length = self.length.wrapping_add(1);
    }
}

impl Write for Cut<'_> {
    /// Not inlined either: there are some twenty calls.
    #[inline(never)]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.push(byte);
        }
        Ok(())
    }
}

#[inline(never)]
fn end_line(to: &mut impl Write, remedy: Option<Remedy>) -> fmt::Result {
    if let Some(remedy) = remedy {
        to.write_str("; ")?;
        to.write_str(remedy.as_str())?;
    }
    to.write_str("\n")
}

/// In decimal. Without `core::fmt`, which is larger than the whole report.
#[inline(never)]
fn write_number(to: &mut impl Write, number: u32) -> fmt::Result {
    let mut divisor = 1_000_000_000;
    while divisor > 0 {
        let digit = (number / divisor % 10) as usize;
        if number >= divisor || divisor == 1 {
            to.write_str("0123456789".get(digit..=digit).unwrap_or_default())?;
        }
        divisor /= 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        let rows = [
            (0, "0"),
            (9, "9"),
            (10, "10"),
            (32, "32"),
            (4095, "4095"),
            (100_000, "100000"),
            (u32::MAX, "4294967295"),
        ];
        for (number, expected) in rows {
            let mut text = [0; 16];
            let mut cut = Cut {
                buffer: &mut text,
                length: 0,
            };
            assert_eq!(write_number(&mut cut, number), Ok(()));
            let length = cut.length;
            assert_eq!(text.get(..length), Some(expected.as_bytes()));
        }
    }
}
