//! One task of the fake kernel: its registration, and the kernel's record of the ids.

use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::abi::Rseq;

/// The kernel's state after a successful rseq(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    pub area: *const Rseq,
    pub length: u32,
    pub signature: u32,
}

/// The fields that only the kernel may store to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ids {
    pub cpu_id_start: u32,
    pub cpu_id: i32,
    pub node_id: u32,
    pub mm_cid: u32,
}

/// The crate's mask: SIGSYS stays open.
pub const ALL_BUT_SIGSYS: u64 = !(1 << 30);

/// Whether all signals are blocked, except possibly SIGSYS.
pub fn is_blocked(mask: u64) -> bool {
    mask | !ALL_BUT_SIGSYS == u64::MAX
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Task {
    pub registration: Option<Registration>,
    /// The kernel's last write.
    pub written: Ids,
    pub mask: u64,
    pub cpu: u32,
}

impl Task {
    pub fn new(mask: u64, cpu: u32) -> Self {
        Self {
            registration: None,
            written: Ids::default(),
            mask,
            cpu,
        }
    }

    pub fn node(&self) -> u32 {
        node_of(self.cpu)
    }

    /// Whether the kernel writes to this area for this task.
    pub fn is_registered_at(&self, area: *const Rseq) -> bool {
        self.registration.is_some_and(|it| it.area == area)
    }
}

/// Two CPUs per node, so that the two numbers differ.
pub fn node_of(cpu: u32) -> u32 {
    cpu / 2
}

impl Ids {
    pub fn read(area: &Rseq) -> Self {
        Self {
            cpu_id_start: area.cpu_id_start.load(Relaxed),
            cpu_id: area.cpu_id.load(Relaxed),
            node_id: area.node_id.load(Relaxed),
            mm_cid: area.mm_cid.load(Relaxed),
        }
    }

    /// Only the fields below `fills` bytes exist for this kernel.
    pub fn write(self, area: &Rseq, fills: usize) {
        area.cpu_id_start.store(self.cpu_id_start, Relaxed);
        area.cpu_id.store(self.cpu_id, Relaxed);
        if fills >= 24 {
            area.node_id.store(self.node_id, Relaxed);
        }
        if fills >= 28 {
            area.mm_cid.store(self.mm_cid, Relaxed);
        }
    }
}
