//! The hooks that take an area, without their conditions: a test has one area for each thread, in scope as long as the
//! kernel writes to it, and uses one `Thread` of it at a time. A broken variant breaks that in an unsafe block of its own.

use rseq_rt::{Area, Error, Kernel, Process, Scoped, SignalMask, State, Thread};

pub trait Hooks<K: Kernel> {
    fn create<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error>;
    fn create_masked<'a>(
        &'a self,
        area: &'a Area,
        mask: &SignalMask,
    ) -> Result<Thread<'a, K>, Error>;
    fn ensure(&self, area: &Area) -> Result<State, Error>;
    fn scope<'a>(&'a self, area: &'a Area) -> Result<Scoped<'a, K>, Error>;
    fn thread_of<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error>;
}

impl<K: Kernel> Hooks<K> for Process<K> {
    fn create<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error> {
        // SAFETY: (1, 2, 3) as above.
        unsafe { self.on_thread_create(area) }
    }

    fn create_masked<'a>(
        &'a self,
        area: &'a Area,
        mask: &SignalMask,
    ) -> Result<Thread<'a, K>, Error> {
        // SAFETY: (1, 2, 3) as above.
        unsafe { self.on_thread_create_masked(area, mask) }
    }

    fn ensure(&self, area: &Area) -> Result<State, Error> {
        // SAFETY: (1, 2) as above.
        unsafe { self.ensure_registered(area) }
    }

    fn scope<'a>(&'a self, area: &'a Area) -> Result<Scoped<'a, K>, Error> {
        // SAFETY: (1, 2, 3) as above.
        unsafe { self.scoped(area) }
    }

    fn thread_of<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error> {
        // SAFETY: (1, 2) as above.
        unsafe { self.current_thread(area) }
    }
}
