//! The descriptor address that a section leaves in the area, cleared before its code is unmapped.

use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::compiler_fence;

use crate::process::Process;
use crate::sys::abi::{Rseq, field};
use crate::sys::kernel::Kernel;
use crate::thread::area::Area;

impl<K: Kernel> Process<K> {
    /// Forgets the calling thread's last section, whoever has registered the thread, so that the memory of the section may go:
    /// before dlclose(3) of a shared object that has sections, and before generated code with sections is unmapped.
    ///
    /// A section that has ended, or was left by an early exit, leaves the address of its descriptor in the area. The kernel reads
    /// the descriptor when it next preempts, migrates or signals the thread, and kills the process if it cannot. So *each*
    /// thread that has run a section of that object calls this, after its last one and before the object goes. Nobody
    /// can do it in its place: an area is stored to by its own thread alone, and a fence ([`Fence`](super::Fence)) has the kernel
    /// look at the threads that run, not at those that sleep. A thread that has ended needs nothing, nor does one whose exit hook
    /// has answered [`Exit::Released`](crate::Exit::Released), unless a libc owns rseq.
    ///
    /// One store. Async-signal-safe; under a loan and behind the exit hook too. A thread that is not registered has nothing to forget.
    ///
    /// # Safety
    /// 1. `area` is the one that the calling thread gave to the create hook, or to `ensure_registered`.
    pub unsafe fn prepare_unload(&self, area: &Area) {
        if let Some(rseq) = self.read_by_kernel(area) {
            let rseq_cs = field::<u64>(rseq, offset_of!(Rseq, rseq_cs));
            // SAFETY: (1): the calling thread's area, which is there while the thread is, and in which every user of rseq stores to
            // this field. Volatile: the kernel reads it.
            unsafe { rseq_cs.write_volatile(0) };
        }
        // The caller may unmap the descriptor next: that stays behind the store.
        compiler_fence(SeqCst);
    }
}
