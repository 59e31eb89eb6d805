//! From the kernel's first instruction to `fn main(env: &Env) -> i32`.

use linux_raw_sys::auxvec::AT_PAGESZ;

use crate::sys::{mm, process};
use crate::{console, tcb};

/// What the kernel handed over: it stays where it is for the life of the program.
#[derive(Clone, Copy)]
pub struct Env {
    argc: usize,
    argv: *const *const u8,
    auxv: *const [usize; 2],
    pid1: bool,
}

// SAFETY: all of it points at memory that nobody writes.
unsafe impl Sync for Env {}

impl Env {
    /// Reads the initial stack.
    ///
    /// # Safety
    /// 1. `stack` is what the stack pointer was at the first instruction.
    unsafe fn new(stack: *const usize) -> Self {
        // SAFETY: 1.: argc, argv with a null, envp with a null, auxv up to AT_NULL.
        unsafe {
            let argc = stack.read();
            let argv = stack.add(1);
            let mut envp = argv.add(argc + 1);
            while envp.read() != 0 {
                envp = envp.add(1);
            }
            Self {
                argc,
                argv: argv.cast(),
                auxv: envp.add(1).cast(),
                pid1: process::getpid() == 1,
            }
        }
    }

    /// The arguments, the program's name first.
    pub fn args(&self) -> impl Iterator<Item = &'static [u8]> + use<> {
        let argv = self.argv;
        (0..self.argc).map(move |n| {
            // SAFETY: argc strings, each with its end.
            unsafe { core::ffi::CStr::from_ptr((*argv.add(n)).cast()) }.to_bytes()
        })
    }

    /// The argument after `name`.
    pub fn value_of(&self, name: &str) -> Option<&'static [u8]> {
        let mut args = self.args();
        args.find(|arg| *arg == name.as_bytes())?;
        args.next()
    }

    /// Is `name` one of the arguments?
    pub fn has(&self, name: &str) -> bool {
        self.args().any(|arg| arg == name.as_bytes())
    }

    /// argv as execve(2) wants it.
    pub fn argv(&self) -> *const *const u8 {
        self.argv
    }

    /// The environment, up to the null pointer.
    pub fn envp(&self) -> *const *const u8 {
        // SAFETY: argv has argc strings and a null.
        unsafe { self.argv.add(self.argc + 1) }
    }

    /// The auxiliary vector: pairs of key and value up to the key 0.
    pub fn auxv_ptr(&self) -> *const usize {
        self.auxv.cast()
    }

    /// One value of the auxiliary vector.
    pub fn auxv(&self, key: u32) -> Option<usize> {
        let mut at = self.auxv;
        loop {
            // SAFETY: pairs up to and including the key 0.
            let [k, value] = unsafe { at.read() };
            if k == key as usize && k != 0 {
                return Some(value);
            }
            if k == 0 {
                return None;
            }
            // SAFETY: this was not the last pair.
            at = unsafe { at.add(1) };
        }
    }

    /// Is this the init of a machine? Answers for the program as it was started,
    /// and the same in a forked child.
    pub fn is_pid1(&self) -> bool {
        self.pid1
    }
}

unsafe extern "Rust" {
    /// What [`entry!`](crate::entry!) makes of the program's main.
    safe fn rseq_rt_guests_main(env: &Env) -> i32;
}

/// Called by `_start`.
///
/// # Safety
/// 1. `stack` is what the stack pointer was at the first instruction.
pub unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: 1.
    let env = unsafe { Env::new(stack) };
    mm::set_page_size(env.auxv(AT_PAGESZ));
    // SAFETY: once, and no thread pointer was used before.
    unsafe { tcb::adopt_main() };
    if env.is_pid1() {
        console::open_for_init();
    }
    let code = rseq_rt_guests_main(&env);
    if env.is_pid1() {
        process::power_off();
    }
    process::exit_group(code)
}

/// Names the program's main: `entry!(main)` beside `fn main(env: &Env) -> i32`.
/// Init powers the machine off when it returns.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn rseq_rt_guests_main(env: &$crate::entry::Env) -> i32 {
            $main(env)
        }
    };
}
