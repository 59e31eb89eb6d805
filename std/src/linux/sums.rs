//! The parts of a counter that critical sections add to.

use rseq_rt::percpu::Slots;
use rseq_rt::structures::{Counter, CounterSlot};

use super::{as_static, thread};
use crate::cpus::possible_cpus;
use crate::lazy::{Array, Lazy};

/// The parts: one for each possible CPU, made at the first addition.
pub(crate) struct Sums(Lazy<Parts>);

struct Parts {
    /// `None` if this number of slots is not possible.
    counter: Option<Counter<'static>>,
    /// The slots of the counter, dropped after it.
    _slots: Array<CounterSlot>,
}

impl Parts {
    fn new() -> Self {
        let slots = Array::new(possible_cpus(), CounterSlot::new);
        // SAFETY: as_static (1): the counter goes first.
        let counter = Slots::new(unsafe { as_static(&slots) }).map(Counter::over);
        Self {
            counter: counter.ok(),
            _slots: slots,
        }
    }
}

impl Sums {
    pub(crate) const fn new() -> Self {
        Self(Lazy::new())
    }

    /// Adds if the calling thread runs sections. Otherwise changes nothing.
    #[inline(always)]
    pub(crate) fn add(&self, value: u64) -> bool {
        // SAFETY: sections (1) used at once.
        let Some(here) = (unsafe { thread::sections() }) else {
            return false;
        };
        match &self.0.get(Parts::new, |_| {}).counter {
            Some(counter) => {
                counter.add(here, value as usize);
                true
            }
            None => false,
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        let counter = self.0.peek().and_then(|parts| parts.counter.as_ref());
        counter.map_or(0, |counter| counter.sum() as u64)
    }
}
