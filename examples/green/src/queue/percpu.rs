//! A ring for each CPU: no atomic instruction on the way in or out.
//!
//! A thread that may run no section (every thread under qemu-user, and on kernels known to be broken), or that finds
//! the ring full, uses the overflow slots of two of the crate's lists. A list is last in, first out, so a green thread
//! that yields would stay on top for ever; therefore there are two:
//!
//! ```text
//! push ──> ring of this CPU ──> pop
//!     └──> fresh         turned ──> pop, and one into the ring for each that leaves it
//!            └─ when `turned` is empty, one by one: the oldest ends on top ─^
//! ```

use alloc::boxed::Box;
use core::ptr;

use rseq_rt::Area;
use rseq_rt::percpu::{CpuId, Current};
use rseq_rt::structures::{Fence, FreeList, ListSlot};

use super::RunQueue;
use super::ring::{CPUS, No, Rings};
use crate::carrier::RSEQ;
use crate::green::Ready;

type List = FreeList<'static, ()>;
type Here<'a> = Option<Current<'a, CpuId>>;

/// A run queue with a ring for each CPU.
pub struct PercpuQueue {
    rings: Option<Rings>,
    fresh: List,
    turned: List,
}

/// A list with only its overflow slot in use.
fn list() -> List {
    // SAFETY: new (1) slots of its own.
    unsafe { FreeList::new(Box::leak(Box::new([ListSlot::new()]))) }
}

#[cold]
#[inline(never)]
fn put(list: &List, green: Ready) {
    // SAFETY: push_ptr (1) the record lives until its green thread has ended, which a queued one has not; by `Ready` it
    // belongs to the list alone, and it runs on any carrier.
    unsafe { list.push_ptr(None::<Current<'_>>, green.into_node()) }
}

/// `None` also while another thread holds the list: that thread is awake and will find the nodes that it puts back.
fn take(list: &List) -> Option<Ready> {
    Ready::from_node(list.pop(None::<Current<'_>>).ok()?)
}

impl PercpuQueue {
    #[inline]
    fn overflow_looks_empty(&self) -> bool {
        self.turned.looks_empty(None) && self.fresh.looks_empty(None)
    }

    /// The oldest in the overflow slots. To find it, all of `fresh` but the last goes to `turned`.
    #[cold]
    #[inline(never)]
    fn pop_overflow(&self) -> Option<Ready> {
        if let Some(oldest) = take(&self.turned) {
            return Some(oldest);
        }
        let mut oldest = take(&self.fresh)?;
        while let Some(older) = take(&self.fresh) {
            put(&self.turned, oldest);
            oldest = older;
        }
        Some(oldest)
    }

    #[inline(always)]
    fn put_at_end(&self, here: Here<'_>, green: Ready) {
        let raw = green.into_raw();
        if let (Some(here), Some(rings)) = (here, &self.rings)
            && rings.push(here, raw.expose_provenance()).is_ok()
        {
            return;
        }
        // SAFETY: from_raw (1): the ring did not accept it.
        if let Some(green) = unsafe { Ready::from_raw(raw) } {
            put(&self.fresh, green);
        }
    }
}

impl PercpuQueue {
    /// Takes half of a CPU's ring: the first is for the caller, the others go to the ring of the caller's CPU.
    fn steal_from(&self, rings: &Rings, cpu: usize, here: Here<'_>) -> Option<Ready> {
        let mut first = None;
        rings.steal(cpu, |value| {
            // SAFETY: out_of_ring (1) stolen now, and once.
            let green = unsafe { out_of_ring(value) };
            if first.is_none() {
                first = green;
            } else if let Some(green) = green {
                // The slot being emptied is closed, so a push on that CPU goes to the overflow slot.
                self.put_at_end(here, green);
            }
        });
        first
    }
}

/// The green thread behind the value that came out of a ring.
///
/// # Safety
/// 1. This is the only call for it since it was pushed.
#[inline]
unsafe fn out_of_ring(value: usize) -> Option<Ready> {
    // SAFETY: from_raw (1) `put_at_end` exposed it, and (1).
    unsafe { Ready::from_raw(ptr::with_exposed_provenance_mut(value)) }
}

impl RunQueue for PercpuQueue {
    const NAME: &'static str = "percpu";

    fn new(_: usize) -> Self {
        Self {
            rings: Rings::leak(Fence::register()),
            fresh: list(),
            turned: list(),
        }
    }

    #[inline(always)]
    unsafe fn push(&self, area: &Area, green: Ready) {
        // SAFETY: current (1) is (1); (2) it is used at once, on the carrier's own stack or in a closure of `here`.
        let here = unsafe { RSEQ.current(area) };
        self.put_at_end(here, green);
    }

    #[inline(always)]
    unsafe fn pop(&self, area: &Area) -> Option<Ready> {
        // SAFETY: current (1) is (1); (2) as above.
        let here = unsafe { RSEQ.current(area) };
        let popped = match (here, &self.rings) {
            (Some(here), Some(rings)) => rings.pop(here),
            _ => Err(No::Ring),
        };
        // SAFETY: out_of_ring (1) popped a moment ago, and once.
        let first = popped.ok().and_then(|value| unsafe { out_of_ring(value) });
        if !self.overflow_looks_empty()
            && let Some(oldest) = self.pop_overflow()
        {
            if first.is_none() {
                return Some(oldest);
            }
            // There is room now. Otherwise the overflow slots would wait for an empty ring, perhaps for ever.
            self.put_at_end(here, oldest);
        }
        first
    }

    #[cold]
    unsafe fn steal(&self, area: &Area) -> Option<Ready> {
        let rings = self.rings.as_ref()?;
        // SAFETY: current (1) is (1); (2) as above.
        let here: Here<'_> = unsafe { RSEQ.current(area) };
        // The next CPU first, and the current one last: the carrier may just have come from elsewhere.
        let next = here.map_or(0, |here| here.id() + 1);
        let others = (0..CPUS).map(|step| (next + step) % CPUS);
        let mut others = others.filter(|&cpu| !rings.looks_empty(cpu));
        others.find_map(|cpu| self.steal_from(rings, cpu, here))
    }

    #[cold]
    unsafe fn rescue(&self, area: &Area, turn: u32) -> Option<Ready> {
        let rings = self.rings.as_ref()?;
        let cpu = turn as usize % CPUS;
        if !rings.is_left_behind(cpu) {
            return None;
        }
        // SAFETY: current (1) is (1); (2) as above.
        self.steal_from(rings, cpu, unsafe { RSEQ.current(area) })
    }

    fn is_empty(&self) -> bool {
        let all_empty = |rings: &Rings| (0..CPUS).all(|cpu| rings.looks_empty(cpu));
        self.overflow_looks_empty() && self.rings.as_ref().is_none_or(all_empty)
    }
}
