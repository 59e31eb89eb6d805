//! The calls of the real kernel, for the kernels that tests simulate.

/// Inside an `impl Kernel`: the calls that are Linux's own whatever the test changes of rseq(2), the release and the trio.
#[macro_export]
macro_rules! other_calls_of_linux {
    () => {
        fn set_signal_mask(&self, mask: u64) -> Result<u64, ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::set_signal_mask(&::rseq_rt::Linux, mask)
        }

        fn getcpu(&self) -> Result<(u32, u32), ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::getcpu(&::rseq_rt::Linux)
        }

        fn futex_wait(
            &self,
            word: &::core::sync::atomic::AtomicU32,
            expected: u32,
        ) -> Result<(), ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::futex_wait(&::rseq_rt::Linux, word, expected)
        }

        fn slice_yield(&self) -> Result<bool, ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::slice_yield(&::rseq_rt::Linux)
        }

        fn probe_write(
            &self,
            address: *const ::core::sync::atomic::AtomicU32,
        ) -> Result<(), ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::probe_write(&::rseq_rt::Linux, address)
        }

        unsafe fn thread_pointer(&self) -> *const u8 {
            // SAFETY: thread_pointer (1) is the caller's.
            unsafe { ::rseq_rt::Kernel::thread_pointer(&::rseq_rt::Linux) }
        }
    };
}

/// A release as uname(2) states it.
pub fn release(name: &[u8]) -> [u8; 65] {
    core::array::from_fn(|n| name.get(n).copied().unwrap_or(0))
}
