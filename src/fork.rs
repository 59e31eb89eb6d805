//! Children. fork(2) needs nothing; a child that shares memory needs the parent's area out of its reach.
//!
//! * **fork** (no `CLONE_VM`): the child inherits the registration of the thread that forked, at the
//!   same address. State, owner and length stay true; there is no hook to call.
//! * **vfork, posix_spawn, any `CLONE_VM` child without a TCB of its own**: the kernel
//!   starts it unregistered, while the shared area shows the parent's CPU, frozen. A child that registered
//!   and unregistered that area would overwrite ids that the kernel compares on
//!   Linux 7.0 and later, and get the *parent* killed. [`Thread::lend`] is the answer.
//! * **exec**: registration and memory are gone together.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use crate::area::Area;
use crate::kernel::Kernel;
use crate::state::State;
use crate::thread::Thread;

/// The area of a thread is lent to a vfork child. Made in the parent before the child, ended in the parent after it.
///
/// Meanwhile, in both: reads go to getcpu(2), nothing registers or unregisters, and no time slice is extended.
/// A handler may lend again what is lent: the outer loan is the one that counts, and ends last.
#[must_use = "the area stays distrusted until this is dropped"]
#[derive(Debug)]
pub struct Lent<'t> {
    area: &'t Area,
    before: u8,
    slice: bool,
    this_thread: PhantomData<*mut ()>,
}

impl<K: Kernel> Thread<'_, K> {
    /// Takes the area out of use around vfork(2) or a `CLONE_VM | CLONE_VFORK` clone. No system call.
    ///
    /// The parent is suspended until the child execs or exits, so the state byte in
    /// the shared memory serves both, and the child has nothing to undo.
    pub fn lend(&self) -> Lent<'_> {
        // SAFETY: Lent::of (1) a thread has its own area.
        unsafe { Lent::of(self.area()) }
    }
}

impl Lent<'_> {
    /// Back in the parent: the state is what it was.
    pub fn end(self) {}

    /// The loan as a number, for an interface that cannot carry the value over the child. The area stays lent.
    pub fn into_raw(self) -> u16 {
        let loan = ManuallyDrop::new(self);
        u16::from(loan.before) | u16::from(loan.slice) << 8
    }
}

impl<'t> Lent<'t> {
    /// A loan of an area that has no [`Thread`] yet: its thread registers lazily, later or never.
    ///
    /// Without it the child could be the one that registers, by a handler, say; and the parent would believe it was
    /// itself.
    ///
    /// # Safety
    /// 1. `area` is the calling thread's, and it uses no other one.
    pub unsafe fn of(area: &'t Area) -> Self {
        let before = area.state_byte();
        area.set_state_byte(before | State::LENT);
        // The child's request would be a store to the parent's area.
        let slice = area.has_slice_extension();
        area.set_slice_extension(false);
        Self {
            area,
            before,
            slice,
            this_thread: PhantomData,
        }
    }

    /// The loan again. `None` if `raw` is not one of `area`'s as it stands; nothing is changed.
    ///
    /// # Safety
    /// 1. The calling thread, the owner of `area`, got `raw` from [`Lent::into_raw`], and has not ended that loan.
    /// 2. The child no longer shares the memory: it has executed another program, or ended.
    pub unsafe fn from_raw(area: &'t Area, raw: u16) -> Option<Self> {
        let [before, slice] = raw.to_le_bytes();
        let is_that_loan = slice <= 1 && area.state_byte() == before | State::LENT;
        // A state that is itself a loan would never end.
        (is_that_loan && before & State::LENT == 0).then(|| Self {
            area,
            before,
            slice: slice != 0,
            this_thread: PhantomData,
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // The outer loan ends it for both.
        if self.before & State::LENT == 0 {
            self.area.set_slice_extension(self.slice);
            self.area.set_state_byte(self.before);
        }
    }
}
