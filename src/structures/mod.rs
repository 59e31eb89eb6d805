//! Per-CPU structures on the critical sections: [`Counter`], [`FreeList`], [`Buffer`], [`Bytes`].
//!
//! Storage is the caller's: one slot for each possible CPU or concurrency id, and the structure itself, which holds the
//! overflow slot; both may be `static`. Nothing is allocated, and nothing calls the kernel but [`Fence`], and the drains that
//! take one. Every operation takes what [`Process::current`](crate::Process::current) answers, `None` included.
//!
//! # Who touches what
//! A thread that is registered writes to the slot of the CPU it runs on, by a critical section, without atomics.
//! Every other thread (unavailable, [`Exiting`](crate::State::Exiting), a vfork child under
//! [`lend`](crate::Thread::lend), any thread on a kernel whose sections are known to be broken, and one whose
//! section was aborted [`RESTARTS`](crate::percpu::RESTARTS) times) writes to the overflow slot, by atomics. No
//! slot is ever written by both means, so that registered and unregistered threads mix.
//!
//! # Signals
//! Every operation may be interrupted by a handler that uses the same structure: a section that is interrupted is
//! aborted and tried again, and the overflow paths are lock-free.
//!
//! # How many slots
//! By CPU, one more than the highest number in `/sys/devices/system/cpu/possible` (`0-7`: 8), which the runtime reads once:
//! *possible*, not online, since a CPU may come later and numbers may have holes. By concurrency id, the same number is always
//! enough. A thread whose number has no slot uses the overflow slot, so that too few is slow and never wrong.
//!
//! # Draining another CPU's slot
//! An atomic instruction from elsewhere is worth nothing against a section that has compared and not yet stored. So
//! the drain closes the slot (a mark that sections store nothing over), has the kernel abort every section in flight
//! ([`Fence`]: membarrier(2), `PRIVATE_EXPEDITED_RSEQ`), and looks again. The mark is there: whoever came before
//! the fence stored nothing behind the mark, whoever comes after it sees the mark, and the content is the
//! drain's. The mark is gone: a section stored over it in time, the content is still the slot's, and the drain
//! begins anew.
//!
//! # One process
//! Sections of two processes exclude each other on one CPU, but a concurrency id and the fence are of one process
//! alone: a structure in memory that is shared between processes is not supported.
//!
//! # In a fork child
//! The threads that are not there may have been anywhere: a slot that a drain had closed stays closed, and the overflow
//! slots wait for who had them in hand. `repair_in_fork_child`, which [`FreeList`], [`Buffer`] and [`Bytes`] have
//! and a [`Counter`] does not need, ends what they were doing: before the child's second thread, in a libc among the
//! other repairs after fork(2), in a program by pthread_atfork(3). The parent prepares nothing and waits for nobody.
//!
//! Items that were stored and not yet taken are still there; those that another thread had in hand at that moment are lost
//! to the child, as its stack is. Each repair says which those are. Sections need none: one that had not committed has changed
//! nothing, and the kernel keeps the registration of the thread that forked, and the process's for the [`Fence`].

mod buffer;
mod bytes;
mod counter;
mod free_list;
mod line;
mod link;

mod mark;
mod overflow;
mod thread;

pub use crate::percpu::{DrainError, Fence, Membarrier};
pub use crate::sys::cpus::CpuSet;
pub use buffer::{Buffer, BufferSlot, Full};
pub use bytes::{Bytes, BytesSlot, NotPushed};
pub use counter::{Counter, CounterSlot};
pub use free_list::{Chain, FreeList, ListSlot, Node};
pub use line::LINE;

pub use overflow::PopError;
pub use thread::ThreadSections;
