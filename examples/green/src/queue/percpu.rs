//! A queue for each CPU, of the crate's lists: no atomic instruction on the way in or out.
//!
//! A list is last in, first out, and a green thread that yields would find itself on top for ever. So each CPU has two:
//!
//! ```text
//! push ──> fresh          pop <── turned
//!            └──── when `turned` is empty, one by one: the oldest ends on top ────^
//! ```
//!
//! Both lists have an overflow slot, which serves all carriers that may run no section: under qemu-user and on
//! kernels known to be bad the whole queue is there.

use alloc::boxed::Box;

use rseq_rt::Area;
use rseq_rt::percpu::{CpuId, Current};
use rseq_rt::structures::{Chain, Fence, FreeList, ListSlot, Nothing};

use super::RunQueue;
use crate::carrier::RSEQ;
use crate::green::Ready;

/// CPUs with a slot; a carrier on a later one uses the overflow slot.
const CPUS: usize = 64;

type List = FreeList<'static, ()>;
type Here<'a> = Option<Current<'a, CpuId>>;

/// The queue.
pub struct PercpuQueue {
    fresh: List,
    turned: List,
    fence: Fence,
}

fn list() -> List {
    let slots: &'static [ListSlot; CPUS] = Box::leak(Box::new([const { ListSlot::new() }; CPUS]));
    FreeList::new(slots)
}

/// Gives `green` to a list.
#[inline]
fn put(list: &List, here: Here<'_>, green: Ready) {
    // SAFETY: push_ptr (1) the record lives until its green thread has ended, which a queued one has not; it is the
    // list's alone by `Ready`, and runs on any carrier.
    unsafe { list.push_ptr(here, green.into_node()) }
}

impl PercpuQueue {
    /// From `fresh` to `turned`; the last one, which is the oldest, is not put down first.
    #[inline]
    fn turn(&self, here: Here<'_>) -> Result<Ready, Nothing> {
        let mut oldest = self.take_fresh(here)?;
        while let Ok(older) = self.take_fresh(here) {
            put(&self.turned, here, oldest);
            oldest = older;
        }
        Ok(oldest)
    }

    #[inline]
    fn take_fresh(&self, here: Here<'_>) -> Result<Ready, Nothing> {
        let node = self.fresh.pop(here)?;
        Ready::from_node(node).ok_or(Nothing::Empty)
    }

    /// Keeps the first of `taken`; the others are shared between this CPU and whoever finds nothing on its own.
    fn share(&self, here: Here<'_>, taken: Chain<'static, ()>) -> Option<Ready> {
        let mut taken = taken.filter_map(Ready::from_node);
        let first = taken.next();
        for (number, green) in taken.enumerate() {
            put(&self.fresh, here.filter(|_| number % 2 == 0), green);
        }
        first
    }
}

impl RunQueue for PercpuQueue {
    const NAME: &'static str = "percpu";

    fn new(_: usize) -> Self {
        Self {
            fresh: list(),
            turned: list(),
            fence: Fence::register(),
        }
    }

    #[inline]
    unsafe fn push(&self, area: &Area, green: Ready) {
        // SAFETY: current (1) is (1); (2) it is used at once, on the carrier's own stack or in a closure of `here`.
        let here = unsafe { RSEQ.current(area) };
        put(&self.fresh, here, green);
    }

    #[inline]
    unsafe fn pop(&self, area: &Area) -> Option<Ready> {
        // SAFETY: current (1) is (1); (2) as above.
        let here = unsafe { RSEQ.current(area) };
        match self.turned.pop(here) {
            Ok(node) => Ready::from_node(node),
            Err(_) => self.turn(here).ok(),
        }
    }

    #[cold]
    unsafe fn steal(&self, area: &Area) -> Option<Ready> {
        // SAFETY: current (1) is (1); (2) as above.
        let here = unsafe { RSEQ.current(area) };
        // The next CPU first, and the own one last: the carrier may just have come from elsewhere. A slot that is being
        // emptied by somebody else is passed over.
        let next = here.map_or(0, |here| here.id() + 1);
        for cpu in (0..CPUS).map(|step| (next + step) % CPUS) {
            for list in [&self.turned, &self.fresh] {
                if list.looks_empty(Some(cpu)) {
                    continue;
                }
                if let Ok(taken) = list.take(cpu, &self.fence)
                    && let Some(green) = self.share(here, taken)
                {
                    return Some(green);
                }
            }
        }
        None
    }

    fn is_empty(&self) -> bool {
        let lists = [&self.turned, &self.fresh];
        let everywhere = || (0..CPUS).map(Some).chain([None]);
        lists
            .iter()
            .all(|list| everywhere().all(|index| list.looks_empty(index)))
    }
}
