//! From the kernel's first instruction to `fn main(env: &Env) -> i32`.

#[cfg(target_arch = "aarch64")]
use core::ptr;
#[cfg(target_arch = "aarch64")]
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use linux_raw_sys::auxvec::AT_PAGESZ;

use crate::sys::{mm, process};
use crate::{console, tcb};

/// Arguments, environment and auxiliary vector, which stay in place for the life of the program.
#[derive(Clone, Copy)]
pub struct Env {
    argc: usize,
    argv: *const *const u8,
    auxv: *const [usize; 2],
    pid1: bool,
}

// SAFETY: it points only at memory that nobody writes.
unsafe impl Sync for Env {}

impl Env {
    /// # Safety
    /// 1. `stack` is the stack pointer at the first instruction.
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

    /// Whether `name` is one of the arguments.
    pub fn has(&self, name: &str) -> bool {
        self.args().any(|arg| arg == name.as_bytes())
    }

    /// argv for execve(2).
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

    /// A value of the auxiliary vector.
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

    /// Whether this is the init of a machine: as the program was started, and the same in a forked child.
    pub fn is_pid1(&self) -> bool {
        self.pid1
    }
}

/// A constructor, with a libc's arguments.
type Constructor = unsafe extern "C" fn(i32, *const *const u8, *const *const u8);

unsafe extern "C" {
    static __init_array_start: [Constructor; 0];
    static __init_array_end: [Constructor; 0];
}

/// Calls the constructors. aarch64 has one: the compiler's outline atomics query the CPU's features.
///
/// # Safety
/// 1. Once, before anything that a constructor prepares is used.
unsafe fn construct(env: &Env) {
    let mut at = (&raw const __init_array_start).cast::<Constructor>();
    let end = (&raw const __init_array_end).cast();
    while at != end {
        // SAFETY: the linker's array; called once by (1).
        unsafe {
            (*at)(env.argc as i32, env.argv, env.envp());
            at = at.add(1);
        }
    }
}

/// For [`getauxval`].
#[cfg(target_arch = "aarch64")]
static AUXV: AtomicPtr<[usize; 2]> = AtomicPtr::new(ptr::null_mut());

/// For the compiler's outline atomics, which use a libc's elsewhere.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
extern "C" fn getauxval(key: usize) -> usize {
    let mut at = AUXV.load(Relaxed).cast_const();
    if at.is_null() {
        return 0;
    }
    // SAFETY: the kernel's vector: pairs up to and including the key 0.
    unsafe {
        while (*at)[0] != 0 && (*at)[0] != key {
            at = at.add(1);
        }
        (*at)[1]
    }
}

unsafe extern "Rust" {
    /// Defined by [`entry!`](crate::entry!).
    safe fn rseq_rt_guests_main(env: &Env) -> i32;
}

/// Called by `_start`.
///
/// # Safety
/// 1. `stack` is the stack pointer at the first instruction.
pub unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: 1.
    let env = unsafe { Env::new(stack) };
    mm::set_page_size(env.auxv(AT_PAGESZ));
    #[cfg(target_arch = "aarch64")]
    AUXV.store(env.auxv.cast_mut(), Relaxed);
    // SAFETY: once, and no thread pointer was used before; construct (1) no atomic was used that a constructor chooses.
    unsafe {
        tcb::adopt_main();
        construct(&env);
    }
    if env.is_pid1() {
        console::open_for_init();
    }
    let code = rseq_rt_guests_main(&env);
    if env.is_pid1() {
        process::power_off();
    }
    process::exit_group(code)
}

/// Names the program's main: `entry!(main)` beside `fn main(env: &Env) -> i32`. Init powers the machine off when it
/// returns. A release image with a reachable panic links only with a second argument, the function that a panic calls.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!(@main $main);
        /// Without optimisation, unreachable panics are linked as well.
        #[cfg(debug_assertions)]
        #[unsafe(no_mangle)]
        fn rseq_rt_guests_a_panic_is_reachable(_: &core::panic::PanicInfo<'_>) -> ! {
            $crate::sys::process::exit_group(101)
        }
    };
    ($main:path, $panic:path) => {
        $crate::entry!(@main $main);
        #[unsafe(no_mangle)]
        fn rseq_rt_guests_a_panic_is_reachable(info: &core::panic::PanicInfo<'_>) -> ! {
            $panic(info)
        }
    };
    (@main $main:path) => {
        #[unsafe(no_mangle)]
        fn rseq_rt_guests_main(env: &$crate::entry::Env) -> i32 {
            $main(env)
        }
    };
}
