//! A crowd: threads of every kind that start, work and exit, under signals, while others move them between CPUs.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};

use linux_raw_sys::general::{SIGUSR1, siginfo_t};
use rseq_rt::Thread;
use rseq_rt::percpu::{Current, Index};

use super::here::{self, Here};
use crate::harness::Ctx;
use crate::hooked::{self, Hooked, RSEQ};
use crate::signals::{self, Storm};
use crate::sys::mm::{self, Access};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::Span;
use crate::thread;
use crate::witness;

/// Slots of each structure: more than the CPUs of any machine that the tests boot, and fewer than some hosts have.
pub const SLOTS: usize = 16;
/// Maximum number of live threads: six per CPU, on a machine of 128. Unused entries are untouched zeroes.
pub const ALIVE: usize = 768;
/// Room for handlers, with the CPU's whole state above them.
const STACK: usize = 64 * 1024;

/// The number of the calling thread in the crowd, if registered; async-signal-safe.
fn number() -> Option<usize> {
    // The main thread's argument is 0.
    hooked::here()?.argument.checked_sub(1)
}

fn place_of(number: usize) -> usize {
    number % PLACES.load(Relaxed).max(1)
}

/// The calling thread, if it may use slots; async-signal-safe. Nothing is lent in the tests that ask for it so, and none
/// keeps it beyond the exit hook.
pub fn current<I: Index>() -> Option<Current<'static, I>> {
    let hooked = hooked::here()?;
    // SAFETY: current (1) the calling thread's own; (2) as said.
    unsafe { RSEQ.current(&hooked.area) }
}

/// The calling thread as the structures see it; async-signal-safe.
pub fn here<I: Index>() -> Option<Here<I>> {
    let number = number();
    here::here(number, number.map(place_of))
}

/// Places a value in its own permanent mapping.
pub fn place_mut<T>(value: T) -> NonNull<T> {
    let at = mm::map(mm::whole_pages(size_of::<T>()), Access::ReadWrite).unwrap();
    let at = NonNull::new(at).unwrap().cast::<T>();
    // SAFETY: a new mapping, large enough, and aligned to a page.
    unsafe { at.write(value) };
    at
}

/// As [`place_mut`], to be shared.
pub fn place<T>(value: T) -> &'static T {
    // SAFETY: initialized, and never unmapped.
    unsafe { place_mut(value).as_ref() }
}

static SUBJECT: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// Sets the structure that the threads of this process work on.
pub fn set_subject<T>(subject: &'static T) {
    SUBJECT.store(core::ptr::from_ref(subject).cast_mut().cast(), Release);
}

/// The subject of the crowd.
///
/// # Safety
/// 1. The last [`set_subject`], or [`run`], of this process was on a `T`.
pub unsafe fn subject<T>() -> &'static T {
    // SAFETY: (1); it was given as a static reference.
    unsafe { &*SUBJECT.load(Acquire).cast() }
}

/// The threads at work, for the storm and for the thread that moves them.
static TIDS: [AtomicU32; ALIVE] = [const { AtomicU32::new(0) }; ALIVE];
/// How many work at a time.
static PLACES: AtomicUsize = AtomicUsize::new(1);
/// The number of threads that have finished.
static DONE: AtomicUsize = AtomicUsize::new(0);
/// The same, by place.
static DONE_HERE: [AtomicUsize; ALIVE] = [const { AtomicUsize::new(0) }; ALIVE];

/// The subject of a crowd.
pub trait Work: Sync {
    /// The work of each thread, given its number.
    fn work(&self, number: usize);
    /// The handler of the signals.
    fn handle(&self);
}

unsafe extern "C" fn handler<W: Work + 'static>(_: i32, _: *mut siginfo_t, _: *mut u8) {
    // SAFETY: subject (1) `run`, before the first signal.
    let subject = unsafe { subject::<W>() };
    here::handle(number().map(place_of), || subject.handle());
}

enum Started {
    Registered(hooked::Joinable),
    Not(thread::Joinable<usize>),
}

fn work<W: Work + 'static>(number: usize) {
    let place = place_of(number);
    here::begin(place);
    TIDS[place].store(process::gettid(), Relaxed);
    // SAFETY: subject (1) `run`, before the first thread.
    unsafe { subject::<W>() }.work(number);
    TIDS[place].store(0, Relaxed);
    DONE_HERE[place].fetch_add(1, Release);
    DONE.fetch_add(1, Release);
}

fn start<W: Work + 'static>(number: usize) -> Started {
    fn registered<W: Work + 'static>(_: &Thread<'_>, hooked: &Hooked) {
        work::<W>(hooked.argument - 1);
    }
    if number % 4 == 3 {
        Started::Not(thread::start(STACK, number, |&number| work::<W>(number)).unwrap())
    } else {
        Started::Registered(hooked::start_joinable(STACK, registered::<W>, number + 1).unwrap())
    }
}

fn join(started: Started) {
    match started {
        Started::Registered(thread) => thread.join().unwrap(),
        Started::Not(thread) => thread.join().unwrap(),
    }
}

/// Takes CPUs away from the threads at work, and gives them back.
fn shake(cpus: CpuSet, turn: usize) {
    let count = cpus.count().max(1) as usize;
    for (number, tid) in TIDS.iter().enumerate() {
        let tid = tid.load(Relaxed);
        if tid != 0 {
            let one = cpus.iter().nth((turn + number) % count).map(CpuSet::one);
            let set = if turn.is_multiple_of(3) { None } else { one };
            let _ = sched::allow(tid, &set.unwrap_or(cpus));
        }
    }
}

/// The number of threads at work at a time: six per CPU.
pub fn threads(ctx: &Ctx<'_>) -> usize {
    (6 * ctx.facts.cpus as usize).clamp(1, ALIVE)
}

/// How often each thread is followed by another.
pub fn generations(ctx: &Ctx<'_>) -> usize {
    ctx.scale(5, 2, 2) as usize
}

/// Rounds of each thread, so that a large crowd has no more to do together than one of eight CPUs.
pub fn rounds(ctx: &Ctx<'_>, native: u64, emulated: u64, user: u64) -> usize {
    const CROWD: usize = 48;
    let rounds = ctx.scale(native, emulated, user) as usize;
    (rounds * CROWD / threads(ctx).max(CROWD)).max(1)
}

/// Registers the main thread.
pub fn begin(ctx: &Ctx<'_>) {
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    // SAFETY: (1) once in this process, on its main thread.
    let _ = unsafe { hooked::adopt_main() }.unwrap();
    RSEQ.allow_sections();
}

/// Runs the crowd of this process on `subject`; `beside` is what the main thread does meanwhile, again and again.
///
/// Where sections may run, some were aborted: how many at a stop, and how many operations gave up without one.
pub fn run<W: Work, I: Index>(
    ctx: &Ctx<'_>,
    subject: &'static W,
    mut beside: impl FnMut(),
) -> [usize; 2] {
    set_subject(subject);
    let (alive, cpus) = (threads(ctx), witness::cpus());
    PLACES.store(alive, Relaxed);
    // SAFETY: handle (1) the handlers of these tests use the structures, which bear it, and atomics.
    unsafe { signals::handle(SIGUSR1 as i32, handler::<W>, 0) }.unwrap();
    let pause = Span::micros(ctx.scale(50, 500, 5_000));
    let storm = Storm::start(&TIDS, SIGUSR1 as i32, pause).unwrap();
    let mut started: [Option<Started>; ALIVE] = [const { None }; ALIVE];
    let mut turn = 0;
    let all = alive * generations(ctx);
    for number in 0..all {
        let (at, generation) = (number % alive, number / alive);
        // The previous thread may be waiting for what the main thread does meanwhile.
        while DONE_HERE[at].load(Acquire) < generation {
            turn += 1;
            shake(cpus, turn);
            beside();
            sched::relax();
        }
        if let Some(before) = started[at].take() {
            join(before);
        }
        started[at] = Some(start::<W>(number));
    }
    while DONE.load(Acquire) < all {
        turn += 1;
        shake(cpus, turn);
        beside();
        sched::relax();
    }
    for thread in started.into_iter().flatten() {
        join(thread);
    }
    storm.stop().unwrap();
    here::aborted::<I>(ctx)
}
