//! The system call instruction, one wrapper per number of arguments.
//!
//! `#[inline(never)]` is load-bearing, not style: `sc` states too few clobbers
//! for a riscv64 `ecall` (vector registers), and a real call makes the compiler
//! assume that every caller-saved register is lost, which is what the kernel
//! promises on all three CPUs. The answer is told apart outside of it: a number is returned in a register, a `Result` in
//! memory.

use linux_raw_sys::general as nr;

use crate::sys::error::Errno;

const _: () = {
    assert!(sc::nr::RSEQ == nr::__NR_rseq as usize);
    assert!(sc::nr::RT_SIGPROCMASK == nr::__NR_rt_sigprocmask as usize);
    assert!(sc::nr::GETCPU == nr::__NR_getcpu as usize);
    assert!(sc::nr::FUTEX == nr::__NR_futex as usize);
    assert!(sc::nr::SET_TID_ADDRESS == nr::__NR_set_tid_address as usize);
    assert!(sc::nr::MUNMAP == nr::__NR_munmap as usize);
    assert!(sc::nr::UNAME == nr::__NR_uname as usize);
    assert!(sc::nr::EXIT == nr::__NR_exit as usize);
    assert!(sc::nr::MEMBARRIER == nr::__NR_membarrier as usize);
    assert!(sc::nr::SCHED_GETAFFINITY == nr::__NR_sched_getaffinity as usize);
    assert!(sc::nr::SCHED_SETAFFINITY == nr::__NR_sched_setaffinity as usize);
    assert!(sc::nr::NANOSLEEP == nr::__NR_nanosleep as usize);
    assert!(sc::nr::GETPID == nr::__NR_getpid as usize);
    assert!(sc::nr::GETTID == nr::__NR_gettid as usize);
    assert!(sc::nr::TGKILL == nr::__NR_tgkill as usize);
    assert!(sc::nr::PRCTL == nr::__NR_prctl as usize);
    assert!(sc::nr::OPENAT == nr::__NR_openat as usize);
    assert!(sc::nr::READ == nr::__NR_read as usize);
    assert!(sc::nr::CLOSE == nr::__NR_close as usize);
};

macro_rules! wrappers {
    ($($name:ident($($argument:ident),*);)*) => {$(
        /// # Safety
        /// 1. The call does to memory, signals and the thread only what the caller may do.
        #[inline]
        pub(crate) unsafe fn $name(number: usize, $($argument: usize),*) -> Result<usize, Errno> {
            /// # Safety
            /// 1. The outer function's.
            #[cold]
            #[inline(never)]
            unsafe fn call(number: usize, $($argument: usize),*) -> usize {
                // SAFETY: (1) is the outer function's condition.
                unsafe { sc::$name(number, $($argument),*) }
            }
            // SAFETY: (1) is this function's own condition.
            Errno::check(unsafe { call(number, $($argument),*) })
        }
    )*};
}

wrappers! {
    syscall0();
    syscall2(a, b);
    syscall3(a, b, c);
    syscall4(a, b, c, d);
    syscall6(a, b, c, d, e, f);
}
