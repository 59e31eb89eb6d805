//! The process's rseq and the calling thread's area, as in a runtime.

use rseq_rt::percpu::{Current, Index};
use rseq_rt::{Area, Config, Process, State};

pub static RSEQ: Process = Process::new();

thread_local! {
    // No destructor, so that access is an offset from the thread pointer. A libc keeps it until the task is gone.
    static AREA: Area = const { Area::new() };
}

/// `init` with auxv from the libc's `getauxval`, and permission to run sections.
pub fn init() {
    // SAFETY: getauxval only reads.
    let auxv = |kind| match unsafe { libc::getauxval(kind) } {
        0 => None,
        value => Some(value as usize),
    };
    let (feature_size, align) = (27, 28);
    let config = Config::new(auxv(feature_size), auxv(align));
    // Already initialised by an earlier group of this process.
    let _ = RSEQ.init(config);
    RSEQ.allow_sections();
}

/// The calling thread's area.
#[inline]
pub fn area() -> &'static Area {
    // SAFETY: the reference stays on the thread that owns the storage.
    AREA.with(|area| unsafe { &*std::ptr::from_ref(area) })
}

/// Registers the calling thread, if that is allowed.
pub fn register() -> State {
    // SAFETY: ensure_registered (1) the thread's own storage, which its libc frees after the task is gone.
    let state = unsafe { RSEQ.ensure_registered(area()) };
    state.expect("init has run")
}

/// The calling thread, if it may run sections: fetched anew for one operation, as in a runtime.
#[inline]
pub fn current<I: Index>() -> Option<Current<'static, I>> {
    // SAFETY: Process::current (1) the thread's own area; (2) nothing here lends, ends or switches.
    unsafe { RSEQ.current(area()) }
}
