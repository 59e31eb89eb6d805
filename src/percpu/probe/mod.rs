//! Does this kernel abort sections? Asked of the kernel, by a section that stands until it should have been aborted.

pub(crate) mod words;

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use words::{ABORTED, Stand};

use super::Fence;
use super::stand::stand;
use super::support::{Answer, VouchedBy};
use super::{CpuId, SectionSupport};
use crate::process::Process;
use crate::sys::abi::Rseq;
use crate::sys::cpus::CpuSet;
use crate::sys::error::Errno;
use crate::sys::kernel::{Kernel, Linux};
use crate::sys::syscall::{syscall0, syscall2, syscall3};
use crate::thread::area::Area;

/// An event that should abort a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cause {
    /// Another thread ran on the CPU.
    Preemption = 0,
    /// The thread was moved to another CPU.
    Migration = 1,
    /// A [`Fence`] from another CPU.
    Fence = 2,
    /// A signal with a handler, from another CPU.
    Signal = 3,
}

impl Cause {
    const ALL: [Self; 4] = [Self::Preemption, Self::Migration, Self::Fence, Self::Signal];

    fn decode(word: u32) -> Self {
        match word {
            1 => Self::Migration,
            2 => Self::Fence,
            3 => Self::Signal,
            _ => Self::Preemption,
        }
    }
}

/// A set of causes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Causes(u8);

impl Causes {
    /// Whether the cause is in the set.
    pub const fn has(self, cause: Cause) -> bool {
        self.0 >> cause as u8 & 1 != 0
    }

    fn add(&mut self, cause: Cause) {
        self.0 |= 1 << cause as u8;
    }
}

/// The result of a probe, the same for both threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Probed {
    /// The kernel aborted the section each time, for each of these causes. Preemption is one of them; the others need
    /// a second CPU that both threads may use, and a signal needs [`SectionProbe::with_signal`].
    Aborted(Causes),
    /// A section was committed though this had happened in it.
    Committed(Cause),
    /// One of the threads may run no section: there is no rseq, or it is not registered, exits, or is lent.
    Unavailable,
    /// Not known: no second thread came, the two could not be brought onto one CPU, or one of them did
    /// not get to run.
    Undecided,
}

impl Probed {
    fn encode(self) -> u32 {
        match self {
            Self::Aborted(Causes(causes)) => 1 | u32::from(causes) << 8,
            Self::Committed(cause) => 2 | (cause as u32) << 8,
            Self::Unavailable => 3,
            Self::Undecided => 4,
        }
    }

    fn decode(word: u32) -> Option<Self> {
        match word & 0xff {
            0 => None,
            1 => Some(Self::Aborted(Causes((word >> 8) as u8))),
            2 => Some(Self::Committed(Cause::decode(word >> 8))),
            3 => Some(Self::Unavailable),
            _ => Some(Self::Undecided),
        }
    }
}

/// The section leaves after so many turns in which nobody came: some 15 ms, more than the slice of a scheduler.
const TURNS: usize = 1 << 24;
/// So often each cause is to abort the section.
const ROUNDS: u32 = 8;
/// So many rounds at most, those that count for nothing included.
const TRIES: u32 = 64;
/// A cause that counted in none of so many rounds is left out, unless it is preemption.
const IN_VAIN: u32 = 4;
/// A thread that waits for the other one looks so often: some ten seconds.
const PATIENCE: u32 = 100_000;

/// State shared by the two threads of one probe: see [`Process::probe_sections`]. It serves one probe.
#[derive(Debug)]
pub struct SectionProbe {
    stand: Stand,
    /// A [`Probed`], or 0.
    outcome: AtomicU32,
    /// How many threads have come.
    joined: AtomicU32,
    /// Of the thread that stands: its number, and 1 more than that of its CPU.
    tid: AtomicU32,
    cpu: AtomicU32,
    /// The [`Cause`] of the round, and which round has begun, has ended, was acted in, and is left by both.
    cause: AtomicU32,
    begun: AtomicU32,
    ended: AtomicU32,
    acted: AtomicU32,
    left: AtomicU32,
    /// The last round whose cause the second thread can not bring about.
    refused: AtomicU32,
    /// How often the handler ran.
    handled: AtomicU32,
    signal: u32,
    patience: u32,
}

impl Default for SectionProbe {
    fn default() -> Self {
        Self::new()
    }
}

/// The other thread has ended the probe, or did not come.
struct Over;

impl SectionProbe {
    /// For one probe, without signals.
    pub const fn new() -> Self {
        const fn zero() -> AtomicU32 {
            AtomicU32::new(0)
        }
        Self {
            stand: Stand {
                here: zero(),
                released: zero(),
                committed: zero(),
            },
            outcome: zero(),
            joined: zero(),
            tid: zero(),
            cpu: zero(),
            cause: zero(),
            begun: zero(),
            ended: zero(),
            acted: zero(),
            left: zero(),
            refused: zero(),
            handled: zero(),
            signal: 0,
            patience: PATIENCE,
        }
    }

    /// Tests the abort by this signal too. Its handler is the caller's, calls [`Self::on_signal`] and returns, and the signal is
    /// open in both threads.
    pub const fn with_signal(mut self, signal: u32) -> Self {
        self.signal = signal;
        self
    }

    /// How long one thread waits for the other, in steps of at least 0.1 ms; some ten seconds unless it is set.
    pub const fn with_patience(mut self, steps: u32) -> Self {
        self.patience = steps;
        self
    }

    /// To be called by the handler of the signal.
    pub fn on_signal(&self) {
        self.handled.fetch_add(1, Release);
    }

    /// The first conclusion is both threads'.
    fn conclude(&self, found: Probed) -> Probed {
        let word = found.encode();
        match self.outcome.compare_exchange(0, word, AcqRel, Acquire) {
            Ok(_) => found,
            Err(first) => Probed::decode(first).unwrap_or(found),
        }
    }

    fn wait(&self, until: impl Fn() -> bool) -> Result<(), Over> {
        for _ in 0..self.patience {
            if until() {
                return Ok(());
            }
            if self.outcome.load(Acquire) != 0 {
                return Err(Over);
            }
            pause();
        }
        Err(Over)
    }

    /// The first thread: stands in a section, once a round.
    fn stands(&self, rseq: *const Rseq) -> Result<Probed, Over> {
        let Ok((cpu, _)) = Linux.getcpu() else {
            return Ok(Probed::Undecided);
        };
        let here = CpuSet::one(cpu);
        // SAFETY: syscall0 (1): touches no memory.
        let tid = unsafe { syscall0(sc::nr::GETTID) }.unwrap_or(0);
        self.tid.store(tid as u32, Relaxed);
        self.cpu.store(cpu + 1, Release);
        let (mut round, mut aborting) = (0, Causes(0));
        for cause in Cause::ALL {
            let mut counted = 0;
            for tried in 1..=TRIES {
                round += 1;
                // Each time: a migration may have come after the end of its round.
                if here.allow().is_err() {
                    return Ok(Probed::Undecided);
                }
                self.cause.store(cause as u32, Relaxed);
                self.begun.store(round, Release);
                // SAFETY: stand (1): the calling thread's, by `probe_sections` (1).
                let left = unsafe { stand(rseq, &self.stand, round, TURNS) };
                self.ended.store(round, Release);
                self.wait(|| self.left.load(Acquire) == round)?;
                if self.refused.load(Relaxed) == round {
                    break;
                }
                // Else it was something else that ended the section, or nothing.
                if self.acted.load(Relaxed) == round {
                    match left {
                        ABORTED => counted += 1,
                        _ if self.stand.committed.load(Relaxed) == round => {
                            return Ok(Probed::Committed(cause));
                        }
                        _ => {}
                    }
                }
                if counted == ROUNDS {
                    aborting.add(cause);
                    break;
                }
                // A signal that is blocked, say.
                if counted == 0 && tried == IN_VAIN && cause != Cause::Preemption {
                    break;
                }
            }
            if counted < ROUNDS && cause == Cause::Preemption {
                return Ok(Probed::Undecided);
            }
        }
        Ok(Probed::Aborted(aborting))
    }

    /// The second thread: does to the first one what should abort its section, and then releases it.
    fn acts(&self, allowed: CpuSet) -> Result<Probed, Over> {
        self.wait(|| self.cpu.load(Acquire) != 0)?;
        let cpu = self.cpu.load(Relaxed) - 1;
        let (here, there) = (CpuSet::one(cpu), allowed.iter().find(|&other| other != cpu));
        let fence = Fence::register();
        let mut round = 0;
        loop {
            self.wait(|| self.begun.load(Acquire) != round)?;
            round = self.begun.load(Relaxed);
            let cause = Cause::decode(self.cause.load(Relaxed));
            let place = match (cause, there) {
                (Cause::Preemption, _) => Some(here),
                (Cause::Signal, _) if self.signal == 0 => None,
                (_, there) => there.map(CpuSet::one),
            };
            match place {
                None => self.refused.store(round, Relaxed),
                Some(place) if place.allow().is_err() => {
                    if cause == Cause::Preemption {
                        return Ok(Probed::Undecided);
                    }
                    self.refused.store(round, Relaxed);
                }
                Some(_) => {
                    let is_over = || self.ended.load(Acquire) == round;
                    let stands = || self.stand.here.load(Acquire) == round;
                    self.wait(|| stands() || is_over())?;
                    if !is_over() {
                        match self.act(cause, &fence, cpu, there, &is_over) {
                            Ok(true) => self.acted.store(round, Relaxed),
                            Ok(false) => {}
                            Err(_) => self.refused.store(round, Relaxed),
                        }
                    }
                }
            }
            // Behind the act: whoever sees this in the section has been through it.
            self.stand.released.store(round, Release);
            self.wait(|| self.ended.load(Acquire) == round)?;
            self.left.store(round, Release);
        }
    }

    /// `false` if the section may have ended before. One that commits after this has stood through it: it was not released.
    fn act(
        &self,
        cause: Cause,
        fence: &Fence,
        cpu: u32,
        there: Option<u32>,
        is_over: &impl Fn() -> bool,
    ) -> Result<bool, Errno> {
        let tid = self.tid.load(Relaxed) as usize;
        match cause {
            // That this thread runs, on the CPU of one that stands in a section.
            Cause::Preemption => {}
            Cause::Migration => {
                let to = CpuSet::one(there.unwrap_or(cpu));
                let from = (&raw const to).expose_provenance();
                // SAFETY: syscall3 (1): reads the set, changes where the other thread runs, which was lent for that.
                unsafe { syscall3(sc::nr::SCHED_SETAFFINITY, tid, size_of::<CpuSet>(), from) }?;
            }
            Cause::Fence => {
                let fenced = fence.abort_sections::<CpuId>(cpu as usize);
                fenced.map_err(|_| Errno::NOSYS)?;
            }
            Cause::Signal => {
                let before = self.handled.load(Acquire);
                // SAFETY: syscall0 (1): touches no memory.
                let process = unsafe { syscall0(sc::nr::GETPID) }?;
                // SAFETY: syscall3 (1): the caller lent the thread and the signal.
                unsafe { syscall3(sc::nr::TGKILL, process, tid, self.signal as usize) }?;
                let ran = || self.handled.load(Acquire) != before;
                return Ok(self.wait(|| ran() || is_over()).is_ok() && ran());
            }
        }
        Ok(true)
    }
}

impl<K: Kernel> Process<K> {
    /// Asks the kernel whether it aborts sections, where [`Self::allow_sections`] asks for its name. Two threads call this
    /// with the same `probe`, before per-CPU data is used and before this memory is sealed; it returns in both with
    /// the same answer, within a second on a machine that is not busy.
    ///
    /// One of them stands in a section while the other one runs on the same CPU, and then moves it, fences it and signals
    /// it from another one. What is found stays: after [`Probed::Aborted`] sections are allowed whatever the name says,
    /// after [`Probed::Committed`] they are not ([`SectionSupport::NotAborted`]), and [`Self::vouched_by`] says `Probe`. Any
    /// other answer changes nothing.
    ///
    /// Whoever waits for the other thread gives up after some ten seconds. System calls, many: sched_setaffinity(2), by which the
    /// thread is bound to one CPU and goes back to what sched_getaffinity(2) said before, nanosleep(2), getcpu(2),
    /// gettid(2), getpid(2), membarrier(2), tgkill(2).
    ///
    /// # Safety
    /// 1. `area` is the one that the calling thread gave to the create hook, or to `ensure_registered`, and the thread does not
    ///    lend it meanwhile.
    pub unsafe fn probe_sections(&self, area: &Area, probe: &SectionProbe) -> Probed {
        let found = match self.registered_rseq(area) {
            None => probe.conclude(Probed::Unavailable),
            Some(rseq) => {
                let number = probe.joined.fetch_add(1, AcqRel);
                let before = CpuSet::allowed();
                let found = match (number, &before) {
                    (0, Ok(_)) => probe.stands(rseq.as_ptr()),
                    (1, Ok(allowed)) => probe.acts(*allowed),
                    // A third thread changes nothing.
                    (2.., _) => return Probed::Undecided,
                    (_, Err(_)) => Ok(Probed::Undecided),
                };
                let found = probe.conclude(found.unwrap_or(Probed::Undecided));
                if let Ok(before) = before {
                    let _ = before.allow();
                }
                found
            }
        };
        let support = match found {
            Probed::Aborted(_) => SectionSupport::Allowed,
            Probed::Committed(_) => SectionSupport::NotAborted,
            _ => return found,
        };
        let answer = Answer::new(support, VouchedBy::Probe);
        self.sections.store(answer.0, Relaxed);
        found
    }
}

/// At least 0.1 ms, in which others run.
fn pause() {
    let span: [i64; 2] = [0, 100_000];
    // SAFETY: syscall2 (1): reads the two words.
    let _ = unsafe { syscall2(sc::nr::NANOSLEEP, (&raw const span).expose_provenance(), 0) };
}

#[cfg(test)]
mod tests {
    use super::{Cause, Causes, Probed, SectionProbe};

    #[test]
    fn what_one_thread_writes_the_other_reads() {
        let mut causes = Causes(0);
        assert_eq!(Probed::decode(0), None);
        for cause in Cause::ALL {
            assert!(!causes.has(cause));
            causes.add(cause);
            assert!(causes.has(cause));
            for found in [Probed::Aborted(causes), Probed::Committed(cause)] {
                assert_eq!(Probed::decode(found.encode()), Some(found));
            }
        }
        for found in [Probed::Unavailable, Probed::Undecided] {
            assert_eq!(Probed::decode(found.encode()), Some(found));
        }
    }

    #[test]
    fn the_first_conclusion_is_both() {
        let probe = SectionProbe::new();
        let first = Probed::Committed(Cause::Fence);
        assert_eq!(probe.conclude(first), first);
        assert_eq!(probe.conclude(Probed::Undecided), first);
    }
}
