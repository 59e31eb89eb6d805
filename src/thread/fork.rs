//! Children. fork(2) needs nothing; a child that shares memory needs the parent's area out of its reach.
//!
//! * **fork** (no `CLONE_VM`): the child inherits the registration of the thread that forked, at the
//!   same address. State, owner and length stay true; there is no hook to call, but where a handler forks during a
//!   loan: [`Process::repair_in_fork_child`].
//! * **vfork, posix_spawn, any `CLONE_VM` child without a TCB of its own**: the kernel
//!   starts it unregistered, while the shared area shows the parent's CPU, frozen. A child that registered
//!   and unregistered that area would overwrite ids that the kernel compares on
//!   Linux 7.0 and later, and get the *parent* killed. [`Thread::lend`] is the answer.
//! * **exec**: registration and memory are gone together.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use crate::process::Process;
use crate::process::state::State;
use crate::sys::kernel::Kernel;
use crate::sys::mask::SignalMask;
use crate::thread::Thread;
use crate::thread::area::Area;

/// The area of a thread is lent to a vfork child. Made in the parent before the child, ended in the parent after it.
///
/// Meanwhile, in both: reads go to getcpu(2), nothing registers or unregisters, and no time slice is extended.
/// A handler may lend again what is lent. Each of up to seven loans is a bit of its own, so that the area is in use again
/// when the last of them has ended, in whatever order. An eighth at a time changes nothing: it lasts as long as one of
/// the others.
#[must_use = "the area stays distrusted until this is dropped"]
#[derive(Debug)]
pub struct Lent<'t> {
    area: &'t Area,
    loan: u8,
    this_thread: PhantomData<*mut ()>,
}

impl<K: Kernel> Thread<'_, K> {
    /// Takes the area out of use around vfork(2) or a `CLONE_VM | CLONE_VFORK` clone. No system call.
    ///
    /// The parent is suspended until the child execs or exits, so the word in
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
    pub fn into_raw(self) -> u8 {
        ManuallyDrop::new(self).loan
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
        Self {
            area,
            loan: area.word.lend(),
            this_thread: PhantomData,
        }
    }

    /// The loan again. `None` if `raw` is not one of `area`'s as it stands; nothing is changed.
    ///
    /// # Safety
    /// 1. The calling thread, the owner of `area`, got `raw` from [`Lent::into_raw`], and has not ended that loan.
    /// 2. The child no longer shares the memory: it has executed another program, or ended.
    pub unsafe fn from_raw(area: &'t Area, raw: u8) -> Option<Self> {
        // 0 is the loan that changed nothing, and ends as it came.
        (raw == 0 || area.word.look().has_loan(raw)).then(|| Self {
            area,
            loan: raw,
            this_thread: PhantomData,
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.area.word.end_loan(self.loan);
    }
}

impl<K: Kernel> Process<K> {
    /// In a fork child: ends the loans that the thread had out when it forked, and asks the kernel what is true.
    ///
    /// A handler that forks between the loan and its end leaves a child that nobody will tell of that end; and if it
    /// was the vfork child that forked, one that is not registered although its parent is. Returns the state.
    ///
    /// When: first in every child of fork(2) or of a clone without `CLONE_VM`, if handlers may fork; it does nothing
    /// unless the area is lent. System calls: 0; up to 5 where it was lent.
    ///
    /// # Safety
    /// 1. 1. and 2. of [`Process::on_thread_create`].
    /// 2. The calling process is a fork child without `CLONE_VM`, and none of its own children shares its memory.
    /// 3. No loan that the thread had out is ended by the child any more.
    pub unsafe fn repair_in_fork_child(&self, area: &Area) -> State {
        if area.word.reclaim() {
            let mask = SignalMask::block_all_on(&self.kernel);
            // The child has inherited the registration, unless it is the vfork child's: a filter's refusal does not end it.
            area.word.resolve(self.register(area).or_written());
            if let Ok(mask) = mask {
                let _ = mask.restore_on(&self.kernel);
            }
        }
        area.state()
    }
}
