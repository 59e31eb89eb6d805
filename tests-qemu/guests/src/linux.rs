//! The calls of the real kernel, for simulated kernels of tests.

/// Inside an `impl Kernel`: implements the named calls by Linux's own.
#[macro_export]
macro_rules! calls_of_linux {
    (@ rseq) => {
        unsafe fn rseq(
            &self,
            area: *const ::rseq_rt::abi::Rseq,
            length: u32,
            flags: u32,
            signature: u32,
        ) -> Result<(), ::rseq_rt::Errno> {
            // SAFETY: rseq (1) is this function's (1).
            unsafe { ::rseq_rt::Kernel::rseq(&::rseq_rt::Linux, area, length, flags, signature) }
        }
    };
    (@ set_signal_mask) => {
        fn set_signal_mask(&self, mask: u64) -> Result<u64, ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::set_signal_mask(&::rseq_rt::Linux, mask)
        }
    };
    (@ getcpu) => {
        fn getcpu(&self) -> Result<(u32, u32), ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::getcpu(&::rseq_rt::Linux)
        }
    };
    (@ futex_wait) => {
        fn futex_wait(
            &self,
            word: &::core::sync::atomic::AtomicU32,
            expected: u32,
        ) -> Result<(), ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::futex_wait(&::rseq_rt::Linux, word, expected)
        }
    };
    (@ slice_yield) => {
        fn slice_yield(&self) -> Result<bool, ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::slice_yield(&::rseq_rt::Linux)
        }
    };
    (@ slice_extension) => {
        fn set_slice_extension(&self, on: bool) -> Result<(), ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::set_slice_extension(&::rseq_rt::Linux, on)
        }

        fn slice_extension(&self) -> Result<bool, ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::slice_extension(&::rseq_rt::Linux)
        }
    };
    (@ probe_write) => {
        fn probe_write(
            &self,
            address: *const ::core::sync::atomic::AtomicU32,
        ) -> Result<(), ::rseq_rt::Errno> {
            ::rseq_rt::Kernel::probe_write(&::rseq_rt::Linux, address)
        }
    };
    (@ libc_trio) => {
        fn libc_trio(&self) -> Option<::rseq_rt::Trio> {
            ::rseq_rt::Kernel::libc_trio(&::rseq_rt::Linux)
        }
    };
    (@ thread_pointer) => {
        unsafe fn thread_pointer(&self) -> *const u8 {
            // SAFETY: thread_pointer (1) is the caller's.
            unsafe { ::rseq_rt::Kernel::thread_pointer(&::rseq_rt::Linux) }
        }
    };
    ($($call:ident)+) => {
        $($crate::calls_of_linux!(@ $call);)+
    };
}

/// Inside an `impl Kernel`: all calls but rseq(2) and the release are Linux's own. There is no libc, and so no trio.
#[macro_export]
macro_rules! other_calls_of_linux {
    () => {
        $crate::calls_of_linux!(set_signal_mask getcpu futex_wait slice_yield slice_extension probe_write libc_trio thread_pointer);
    };
}

/// A release string as returned by uname(2).
pub fn release(name: &[u8]) -> [u8; 65] {
    core::array::from_fn(|n| name.get(n).copied().unwrap_or(0))
}
