//! The system calls of this program.

use core::fmt;

use linux_raw_sys::general::{
    CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD,
    CLONE_VM, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE,
};
use sc::nr;

/// A thread of this process, whose end is reported in its clear-tid word.
pub const CLONE_FLAGS: usize = (CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_CHILD_CLEARTID) as usize;

/// The auxiliary vector: above argc, the arguments and the environment, each of which ends with a null.
///
/// # Safety
/// 1. `stack` is the stack pointer as the kernel set it.
pub unsafe fn auxv(stack: *const usize) -> *const [usize; 2] {
    // SAFETY: (1).
    unsafe {
        let arguments = stack.read();
        let mut word = stack.add(1 + arguments + 1);
        while word.read() != 0 {
            word = word.add(1);
        }
        word.add(1).cast()
    }
}

/// Zeroed memory.
pub fn map(length: usize) -> *mut u8 {
    let protection = (PROT_READ | PROT_WRITE) as usize;
    let flags = (MAP_PRIVATE | MAP_ANONYMOUS) as usize;
    // SAFETY: new memory at a place of the kernel's choice.
    let address = unsafe { sc::syscall6(nr::MMAP, 0, length, protection, flags, usize::MAX, 0) };
    assert!(address % 4096 == 0, "mmap(2)");
    core::ptr::with_exposed_provenance_mut(address)
}

pub fn sched_yield() {
    // SAFETY: touches no memory.
    unsafe { sc::syscall0(nr::SCHED_YIELD) };
}

pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { sc::syscall1(nr::EXIT_GROUP, status as usize) };
    }
}

/// Standard output.
pub struct Console;

impl Console {
    pub fn write(&self, text: &[u8]) {
        // SAFETY: reads the text.
        unsafe { sc::syscall3(nr::WRITE, 1, text.as_ptr().expose_provenance(), text.len()) };
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}
