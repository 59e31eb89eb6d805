//! The system call itself, for each number of arguments.
//!
//! Never inlined: `sc` does not tell the compiler that a riscv64 `ecall` may clobber the vector registers; across a
//! function boundary the compiler assumes nothing about them.

use crate::errno::Errno;

/// The kernel's answer as a value or an errno.
pub fn check(answer: usize) -> Result<usize, Errno> {
    match answer.wrapping_neg() {
        errno @ 1..4096 => Err(Errno(errno as u32)),
        _ => Ok(answer),
    }
}

/// The kernel's answer where the value has no meaning.
pub fn done(answer: usize) -> Result<(), Errno> {
    check(answer).map(drop)
}

macro_rules! call {
    ($($name:ident $sc:ident $($arg:ident)*;)*) => {$(
        /// The system call `nr`; errors as -errno.
        ///
        /// # Safety
        /// 1. The call's effect on memory and on the process is sound with these arguments.
        #[inline(never)]
        #[allow(clippy::too_many_arguments)] // the kernel takes six
        pub unsafe fn $name(nr: u32, $($arg: usize),*) -> usize {
            // SAFETY: 1.
            unsafe { sc::$sc(nr as usize, $($arg),*) }
        }
    )*};
}

call! {
    call0 syscall0;
    call1 syscall1 a;
    call2 syscall2 a b;
    call3 syscall3 a b c;
    call4 syscall4 a b c d;
    call5 syscall5 a b c d e;
    call6 syscall6 a b c d e f;
}

/// An argument of [`syscall!`].
pub(crate) trait Argument {
    fn word(self) -> usize;
}

macro_rules! argument {
    ($($int:ty)*) => {$(
        impl Argument for $int {
            fn word(self) -> usize {
                self as usize
            }
        }
    )*};
}

argument!(i32 u32 u64 usize);

impl<T> Argument for *const T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> Argument for *mut T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

/// A system call with numbers and pointers as arguments. Returns its value or its errno.
macro_rules! syscall {
    (@ $call:ident $nr:expr $(, $argument:expr)*) => {
        $crate::sys::raw::check($crate::sys::raw::$call(
            $nr $(, $crate::sys::raw::Argument::word($argument))*
        ))
    };
    ($nr:expr) => { syscall!(@ call0 $nr) };
    ($nr:expr, $a:expr) => { syscall!(@ call1 $nr, $a) };
    ($nr:expr, $a:expr, $b:expr) => { syscall!(@ call2 $nr, $a, $b) };
    ($nr:expr, $a:expr, $b:expr, $c:expr) => { syscall!(@ call3 $nr, $a, $b, $c) };
    ($nr:expr, $a:expr, $b:expr, $c:expr, $d:expr) => { syscall!(@ call4 $nr, $a, $b, $c, $d) };
    ($nr:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        syscall!(@ call5 $nr, $a, $b, $c, $d, $e)
    };
    ($nr:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        syscall!(@ call6 $nr, $a, $b, $c, $d, $e, $f)
    };
}
pub(crate) use syscall;
