//! Determines the owner of rseq under the libc that it is linked against, on the main thread and on others.
//!
//! ```text
//! ownership EXPECTED [foreign]
//! ```
//!
//! `EXPECTED` is `libc`, `runtime`, `nobody` or `taken`. With `foreign`, an area without symbols is registered first,
//! as tcmalloc does. Exit status: 0, or the number of the failed check (see [`Check`]). A program without `std`, so
//! that one compiler builds it for any libc.
#![no_std]
#![no_main]

mod scratch;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::AtomicI32;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::structures::CpuSet;
use rseq_rt::{Area, Config, Error, Exit, ExitMode, Kernel, Linux, Owner, Process, Reason, State};

use crate::scratch::{ScratchArea, registration_of_thread};

static RSEQ: Process = Process::new();
static MAIN_AREA: Area = Area::new();
static FOREIGN_AREA: ScratchArea = ScratchArea::new();
static THREAD_STATUS: AtomicI32 = AtomicI32::new(0);

const THREADS: usize = 8;

/// The possible failures, with their exit status.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Check {
    Usage = 2,
    ForeignRegistration = 3,
    Init = 4,
    Owner = 5,
    CreateHook = 6,
    StateOfThread = 7,
    CpuAgrees = 8,
    TrioChanged = 9,
    ForeignGone = 10,
    Release = 11,
    LeftRegistered = 12,
    ThreadCreate = 13,
    LazyState = 14,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Libc,
    Runtime,
    Nobody,
    Taken,
}

impl Expected {
    fn parse(word: &CStr) -> Option<Self> {
        match word.to_bytes() {
            b"libc" => Some(Self::Libc),
            b"runtime" => Some(Self::Runtime),
            b"nobody" => Some(Self::Nobody),
            b"taken" => Some(Self::Taken),
            _ => None,
        }
    }

    /// After the main thread's create hook. A taken thread decides nothing for the others.
    fn owner(self) -> Option<Owner> {
        match self {
            Self::Libc => Some(Owner::Libc),
            Self::Runtime => Some(Owner::Runtime),
            Self::Nobody => Some(Owner::Nobody),
            Self::Taken => None,
        }
    }

    /// The expectation for threads that are not taken.
    fn of_others(self) -> Self {
        match self {
            Self::Taken => Self::Runtime,
            other => other,
        }
    }

    fn accepts(self, state: State) -> bool {
        match self {
            Self::Libc => state == State::Registered(Owner::Libc),
            Self::Runtime => state == State::Registered(Owner::Runtime),
            Self::Nobody => matches!(
                state,
                State::Unavailable(Reason::NoSyscall | Reason::Filtered)
            ),
            Self::Taken => state == State::Unavailable(Reason::Taken),
        }
    }

    /// Whether a foreign area is registered on every thread.
    fn is_foreign_everywhere(self) -> bool {
        self == Self::Libc
    }
}

/// # Safety
/// 1. Called by the libc's start code.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let argument = |index: c_int| {
        // SAFETY: below argc, argv holds C strings; the libc guarantees that (1).
        (index < argc).then(|| unsafe { CStr::from_ptr(*argv.wrapping_add(index as usize)) })
    };
    let Some(expected) = argument(1).and_then(Expected::parse) else {
        return Check::Usage as c_int;
    };
    let foreign = argument(2).is_some_and(|word| word.to_bytes() == b"foreign");
    run(expected, foreign).map_or_else(|check| check as c_int, |()| 0)
}

fn run(expected: Expected, foreign: bool) -> Result<(), Check> {
    if foreign {
        FOREIGN_AREA
            .register()
            .map_err(|_| Check::ForeignRegistration)?;
    }
    let trio_before = Linux.libc_trio();

    // SAFETY: getauxval only reads; 0 for an absent type.
    let auxv = |kind| match unsafe { libc::getauxval(kind) } {
        0 => None,
        value => Some(value as usize),
    };
    RSEQ.init(Config::new(auxv(27), auxv(28)))
        .map_err(|_| Check::Init)?;
    check_thread(&MAIN_AREA, expected, foreign)?;
    if RSEQ.owner() != expected.owner() {
        return Err(Check::Owner);
    }
    run_threads(expected.of_others())?;
    if RSEQ.owner() != expected.of_others().owner() {
        return Err(Check::Owner);
    }

    if Linux.libc_trio() != trio_before {
        return Err(Check::TrioChanged);
    }
    if foreign && !FOREIGN_AREA.is_registered() {
        return Err(Check::ForeignGone);
    }
    Ok(())
}

/// One thread's life under the hooks: create, read on every CPU, release, and nothing foreign changed.
fn check_thread(area: &Area, expected: Expected, foreign: bool) -> Result<(), Check> {
    // SAFETY: (1, 2) the area is this thread's and is released below; (3) it stays here.
    let thread = unsafe { RSEQ.on_thread_create(area) }.map_err(|_| Check::CreateHook)?;
    if !expected.accepts(thread.state()) {
        return Err(Check::StateOfThread);
    }
    // SAFETY: (1, 2) as above.
    if unsafe { RSEQ.ensure_registered(area) } != Ok(thread.state()) {
        return Err(Check::LazyState);
    }
    check_cpus(area)?;
    // The thread may live on: this runtime has nothing registered any more.
    match (thread.on_exit(ExitMode::Release), expected) {
        (Exit::Kept(kept), Expected::Taken) if kept.why() == Some(Error::Taken) => {}
        (Exit::Released(_), Expected::Libc | Expected::Runtime | Expected::Nobody) => {}
        _ => return Err(Check::Release),
    }
    // Signals stay blocked, as the exit hook leaves them: this program uses none.
    let registered = registration_of_thread();
    match (foreign || expected.is_foreign_everywhere(), registered) {
        (true, false) => Err(Check::ForeignGone),
        (false, true) => Err(Check::LeftRegistered),
        _ => Ok(()),
    }
}

fn check_cpus(area: &Area) -> Result<(), Check> {
    let allowed = CpuSet::allowed().unwrap_or_default();
    for cpu in allowed.iter() {
        let moved = CpuSet::one(cpu).allow();
        if moved.is_ok() && RSEQ.current_cpu(area) != Ok(cpu) {
            return Err(Check::CpuAgrees);
        }
    }
    let _ = allowed.allow();
    Ok(())
}

extern "C" fn thread_main(argument: *mut c_void) -> *mut c_void {
    // SAFETY: run_threads passes a live `Expected`, and joins before that ends.
    let expected = unsafe { *argument.cast::<Expected>() };
    // On the stack, which the libc unmaps: released before the return, or never registered.
    let area = Area::new();
    if let Err(check) = check_thread(&area, expected, false) {
        THREAD_STATUS.store(check as i32, Relaxed);
    }
    ptr::null_mut()
}

fn run_threads(expected: Expected) -> Result<(), Check> {
    let mut argument = expected;
    let mut threads = [None; THREADS];
    for thread in &mut threads {
        let mut id = 0;
        // SAFETY: `argument` outlives the threads, which are joined below.
        let failed = unsafe {
            libc::pthread_create(
                &raw mut id,
                ptr::null(),
                thread_main,
                (&raw mut argument).cast(),
            )
        };
        *thread = (failed == 0).then_some(id);
    }
    for thread in threads {
        let id = thread.ok_or(Check::ThreadCreate)?;
        // SAFETY: each thread is joined once.
        unsafe { libc::pthread_join(id, ptr::null_mut()) };
    }
    match THREAD_STATUS.load(Relaxed) {
        0 => Ok(()),
        status => {
            // SAFETY: ends the process with a thread's verdict.
            unsafe { libc::_exit(100 + status) }
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}
