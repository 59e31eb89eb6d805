//! The program under test: one process, two areas, and the proofs that its threads hold.

use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::{Area, ClearTid, Config, Gone, Process, Scoped, Thread};

use crate::fake::machine::THREADS;
use crate::fake::task::Ids;
use crate::fake::{Answers, Generation, Machine, rseq_of};

/// One combination of everything that is constant while the program runs.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub generation: Generation,
    pub answers: Answers,
    pub config: Config,
    /// The mask with which each thread starts.
    pub mask: u64,
    /// Whether signals are delivered wherever they are open.
    pub signals: bool,
}

/// The objects that a thread holds.
pub enum Life<'a> {
    /// No hook has run, or only lazy registration.
    Bare,
    Live(Thread<'a, &'a Machine>),
    Scoped(Scoped<'a, &'a Machine>),
    /// After *keep*, or a release that was refused.
    Kept,
    Gone(Gone<'a>),
}

impl Life<'_> {
    pub fn is_exiting(&self) -> bool {
        matches!(self, Self::Kept | Self::Gone(_))
    }

    fn code(&self) -> u64 {
        match self {
            Self::Bare => 0,
            Self::Live(_) => 1,
            Self::Scoped(_) => 2,
            Self::Kept => 3,
            Self::Gone(_) => 4,
        }
    }
}

pub struct World<'a> {
    pub scenario: &'a Scenario,
    pub machine: &'a Machine,
    pub process: &'a Process<&'a Machine>,
    pub areas: &'a [Area; THREADS],
    pub clear_tids: &'a [ClearTid; THREADS],
    pub lives: [Life<'a>; THREADS],
    pub initialized: bool,
    /// Threads replaced by new ones in this step.
    pub renewed: [bool; THREADS],
}

impl World<'_> {
    /// A hash of everything that determines the continuation.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Hash::new();
        hash.add(u64::from(self.initialized));
        hash.add(match self.process.owner() {
            None => 0,
            Some(owner) => 1 + owner as u64,
        });
        hash.add(u64::from(self.process.length()));
        hash.add(self.process.reason().map_or(0, |reason| reason as u64));
        hash.add(u64::from(self.machine.until_filter()));
        for thread in 0..THREADS {
            let area = &self.areas[thread];
            hash.add(self.lives[thread].code());
            hash.add_bytes(format_state(area));
            hash.add(u64::from(area.has_slice_extension()));
            hash.add(area.errno().map_or(0, |errno| u64::from(errno.raw())));
            let Ids {
                cpu_id_start,
                cpu_id,
                node_id,
                mm_cid,
            } = Ids::read(rseq_of(area));
            hash.add(u64::from(cpu_id_start) << 32 | u64::from(cpu_id as u32));
            hash.add(u64::from(node_id) << 32 | u64::from(mm_cid));
            hash.add(rseq_of(area).rseq_cs.load(Relaxed));
            let task = self.machine.task(thread);
            let registration = task.registration;
            hash.add(registration.map_or(0, |it| u64::from(it.length)));
            hash.add(u64::from(task.is_registered_at(rseq_of(area))));
            hash.add(task.mask);
            hash.add(u64::from(task.cpu));
        }
        hash.0
    }
}

/// The variants of `State`, distinguished without allocation.
fn format_state(area: &Area) -> [u8; 2] {
    use rseq_rt::State::*;
    match area.state() {
        Unregistered => [0, 0],
        Registered(owner) => [1, owner as u8],
        Unavailable(reason) => [2, reason as u8],
        Exiting => [3, 0],
        Lent => [4, 0],
    }
}

/// FNV-1a over words, with the high half folded in.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
        self.0 = self.0.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 ^= self.0 >> 32;
    }

    fn add_bytes(&mut self, bytes: [u8; 2]) {
        self.add(u64::from(u16::from_le_bytes(bytes)));
    }
}
