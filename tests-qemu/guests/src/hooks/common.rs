//! Steps that most tests of the hooks share.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Release};

use rseq_rt::percpu::{Current, Index};
use rseq_rt::{
    Area, ClearTid, Config, Error, Kernel, Owner, Process, Scoped, SignalMask, State, Thread,
};

use crate::harness::Ctx;
use crate::hooked::{self, Body, Hooked, RSEQ};
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::{futex, sched};
use crate::witness;

#[track_caller]
pub fn init(ctx: &Ctx) {
    init_with(hooked::config(ctx.env));
}

#[track_caller]
pub fn init_with(config: Config) {
    assert_eq!(RSEQ.init(config), Ok(None));
}

/// The main thread after its create hook.
#[track_caller]
pub fn main_thread(ctx: &Ctx) -> Thread<'static> {
    main_thread_with(hooked::config(ctx.env))
}

#[track_caller]
pub fn main_thread_with(config: Config) -> Thread<'static> {
    init_with(config);
    // SAFETY: adopt_main (1) `init` succeeds once per process, and tests call this on the main thread.
    unsafe { hooked::adopt_main() }.unwrap()
}

pub fn is_ours(state: State) -> bool {
    state == State::Registered(Owner::Runtime)
}

/// The main thread, registered by the runtime.
#[track_caller]
pub fn registered_main(ctx: &Ctx) -> Thread<'static> {
    let main = main_thread(ctx);
    assert!(is_ours(main.state()));
    main
}

/// An area on its own page, for the life of the process.
#[track_caller]
pub fn area_on_a_page() -> &'static Area {
    let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
    // SAFETY: zeroed, aligned, never unmapped: an unregistered area.
    unsafe { &*page.cast::<Area>() }
}

/// The area as rseq(2) and the memory calls take it.
pub fn at(area: &Area) -> *mut u8 {
    area.as_rseq().cast_mut().cast()
}

/// The hooks that take an area, without their conditions: an area of these tests belongs to one thread for that
/// thread's life, and does not move. A broken variant violates that elsewhere, in its own unsafe block.
pub trait Hooks<K: Kernel> {
    fn create<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error>;
    fn create_masked<'a>(
        &'a self,
        area: &'a Area,
        mask: &SignalMask,
    ) -> Result<Thread<'a, K>, Error>;
    fn ensure(&self, area: &Area) -> Result<State, Error>;
    fn scope<'a>(&'a self, area: &'a Area) -> Result<Scoped<'a, K>, Error>;
    fn thread_of<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error>;
    fn current_of<'a, I: Index>(&'a self, area: &'a Area) -> Option<Current<'a, I>>;
}

impl<K: Kernel> Hooks<K> for Process<K> {
    fn create<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error> {
        // SAFETY: (1, 2, 3) as the trait states.
        unsafe { self.on_thread_create(area) }
    }

    fn create_masked<'a>(
        &'a self,
        area: &'a Area,
        mask: &SignalMask,
    ) -> Result<Thread<'a, K>, Error> {
        // SAFETY: (1, 2, 3) as the trait states.
        unsafe { self.on_thread_create_masked(area, mask) }
    }

    fn ensure(&self, area: &Area) -> Result<State, Error> {
        // SAFETY: (1, 2) as the trait states.
        unsafe { self.ensure_registered(area) }
    }

    fn scope<'a>(&'a self, area: &'a Area) -> Result<Scoped<'a, K>, Error> {
        // SAFETY: (1, 2, 3) as the trait states.
        unsafe { self.scoped(area) }
    }

    fn thread_of<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error> {
        // SAFETY: (1) as the trait states; (2) tests call this once they have dropped the thread's own value.
        unsafe { self.current_thread(area) }
    }

    fn current_of<'a, I: Index>(&'a self, area: &'a Area) -> Option<Current<'a, I>> {
        // SAFETY: (1) as the trait says; (2) it is neither lent nor ended while a test uses this.
        unsafe { self.current(area) }
    }
}

/// Where threads stand until somebody opens it.
pub struct Gate {
    arrived: AtomicU32,
    open: AtomicU32,
}

impl Gate {
    pub const fn new() -> Self {
        Self {
            arrived: AtomicU32::new(0),
            open: AtomicU32::new(0),
        }
    }

    /// Waits in front of it.
    pub fn pass(&self) {
        self.arrived.fetch_add(1, Release);
        while self.open.load(Acquire) == 0 {
            let _ = futex::wait(&self.open, 0, None);
        }
    }

    /// Waits until so many threads have come.
    pub fn wait_for(&self, count: u32) {
        sched::wait_until(|| self.arrived.load(Acquire) >= count);
    }

    pub fn open(&self) {
        self.open.store(1, Release);
        futex::wake(&self.open, i32::MAX as u32).unwrap();
    }
}

/// Starts a joinable thread and joins it.
#[track_caller]
pub fn joined(size: usize, body: Body, argument: usize) {
    let thread = hooked::start_joinable(size, body, argument).unwrap();
    thread.join().unwrap();
}

/// The same with `N` threads at once.
#[track_caller]
pub fn joined_at_once<const N: usize>(size: usize, body: Body, argument: usize) {
    let start = |_| hooked::start_joinable(size, body, argument).unwrap();
    let threads: [_; N] = core::array::from_fn(start);
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Starts a thread that releases and unmaps itself, and waits for its end.
#[track_caller]
pub fn detached(size: usize, body: Body, argument: usize) {
    static WORD: ClearTid = ClearTid::new();
    hooked::start_watched(Stack::map(size).unwrap(), body, argument, &WORD).unwrap();
    WORD.rearm(&WORD.wait().unwrap());
}

/// Runs `body` on a thread without hooks, and joins it.
#[track_caller]
pub fn on_thread(size: usize, body: fn()) {
    crate::thread::run(size, body, |body| body());
}

/// `current_cpu` is right on every CPU that the thread may use.
#[track_caller]
pub fn right_everywhere(area: &Area) {
    witness::on_each_cpu(|cpu| assert_eq!(RSEQ.current_cpu(area), Ok(cpu)));
}

/// The invariants of any thread between its hooks.
#[track_caller]
pub fn is_right(area: &Area) {
    let registered = RSEQ.owner() == Some(Owner::Runtime);
    let state = area.state();
    let unavailable = matches!(state, State::Unavailable(_));
    assert!(
        if registered {
            is_ours(state)
        } else {
            unavailable
        },
        "the state is not that of the process: {state:?}"
    );
    assert_eq!(witness::kernel_knows(area), registered);
    right_everywhere(area);
}

/// [`is_right`] as the body of a thread.
pub fn look(thread: &Thread<'_>, _: &Hooked) {
    is_right(thread.area());
}
