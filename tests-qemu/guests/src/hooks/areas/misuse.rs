//! Hooks called in the wrong order, and memory that is bad for one thread alone.

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::{Area, Claim, Error, Owner, Process, Reason, SignalMask, State};

use crate::errno::Errno;
use crate::harness::{Ctx, must_pass};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::{init, is_ours};
use crate::seccomp::{self, Answer, When};
use crate::sys::mm::{self, Access};
use crate::sys::sched::{self, CpuSet};

fn bytes(area: &Area) -> [u64; 16] {
    let at = core::ptr::from_ref(area).cast::<u64>();
    // SAFETY: inside the area; its unused rest was zeroed with it.
    core::array::from_fn(|n| unsafe { at.add(n).read_volatile() })
}

static MAIN: Area = Area::new();

/// The answers of every call that begins a life of MAIN: create, create with a mask, ensure, scoped.
fn begins(mask: &SignalMask) -> [Result<(), Error>; 3] {
    // SAFETY: on_thread_create, scoped (1, 2) MAIN is this thread's for ever; (3) what is returned stays here.
    unsafe {
        [
            RSEQ.on_thread_create(&MAIN).map(drop),
            RSEQ.on_thread_create_masked(&MAIN, mask).map(drop),
            RSEQ.scoped(&MAIN).map(drop),
        ]
    }
}

fn ensures() -> Result<State, Error> {
    // SAFETY: ensure_registered (1, 2) MAIN is this thread's for ever.
    unsafe { RSEQ.ensure_registered(&MAIN) }
}

fn current(area: &'static Area) -> Result<(), Error> {
    // SAFETY: current_thread (1, 2): the areas of this thread; every test of an answer drops what it got.
    unsafe { RSEQ.current_thread(area) }.map(drop)
}

pub fn misuse(ctx: &Ctx) {
    static NEVER: Area = Area::new();
    let config = hooked::config(ctx.env);
    let mask = SignalMask::block_all().unwrap();
    let untouched = bytes(&MAIN);
    assert_eq!(begins(&mask), [Err(Error::NotInitialized); 3]);
    assert_eq!(ensures(), Err(Error::NotInitialized));
    assert!(bytes(&MAIN) == untouched, "a store before init");
    assert_eq!(RSEQ.owner(), None);

    init(ctx);
    for again in [
        config,
        config.disabled(),
        config.claim(Claim::Libc),
        config.legacy_length(),
    ] {
        assert_eq!(RSEQ.init(again), Err(Error::AlreadyInitialized));
        assert_eq!(RSEQ.owner(), None);
    }
    assert_eq!(current(&NEVER), Err(Error::NotCreated));
    assert!(bytes(&NEVER) == untouched, "a look at an area stored to it");

    // SAFETY: on_thread_create (1, 2) MAIN is this thread's for ever; (3) it stays here.
    let thread = unsafe { RSEQ.on_thread_create(&MAIN) }.unwrap();
    let before = sched::allowed().unwrap();
    let (here, _) = sched::getcpu().unwrap();
    sched::allow(0, &CpuSet::one(here)).unwrap();
    let (state, live) = (thread.state(), bytes(&MAIN));
    assert_eq!(begins(&mask), [Err(Error::AlreadyCreated); 3]);
    let lent = thread.lend();
    // SAFETY: on_thread_create (1, 2, 3) as above.
    let during = unsafe { RSEQ.on_thread_create(&MAIN) };
    assert_eq!(during.map(drop), Err(Error::Lent));
    assert_eq!(current(&MAIN), Err(Error::Lent));
    assert_eq!(ensures(), Ok(State::Lent));
    lent.end();
    assert_eq!(thread.state(), state);
    assert!(bytes(&MAIN) == live, "misuse changed a live area");
    assert_eq!(RSEQ.init(config), Err(Error::AlreadyInitialized));
    sched::allow(0, &before).unwrap();

    let _ = hooked::release(thread).unwrap();
    let dead = bytes(&MAIN);
    assert_eq!(begins(&mask), [Err(Error::Exiting); 3]);
    assert_eq!(ensures(), Ok(State::Exiting));
    assert_eq!(current(&MAIN), Err(Error::Exiting));
    assert!(bytes(&MAIN) == dead, "a dead area changed");
    mask.restore().unwrap();
}

/// The first thread's bad memory is that thread's own affair.
pub fn bad_memory(ctx: &Ctx) {
    static GOOD: Area = Area::new();
    // Memory that the thread can write and the kernel cannot: only a filter makes such.
    let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
    let page = page.cast::<Area>();
    let is_page = When::ArgIs(0, page.addr() as u32);
    seccomp::install(__NR_rseq, is_page, Answer::Errno(Errno::FAULT)).unwrap();
    init(ctx);
    // SAFETY: on_thread_create (1, 2) a page and a static of this thread; (3) they stay here.
    let (bad, good) = unsafe { (RSEQ.on_thread_create(&*page), RSEQ.on_thread_create(&GOOD)) };
    let bad = bad.unwrap();
    assert_eq!(bad.state(), State::Unavailable(Reason::BadMemory));
    assert_eq!(bad.area().errno(), Some(rseq_rt::Errno::FAULT));
    assert!(is_ours(good.unwrap().state()));
    assert_eq!(RSEQ.owner(), Some(Owner::Runtime));
}

/// A libc makes its memory read-only once it has started (RELRO). A second start is refused, and a look costs no write.
pub fn sealed(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
    let place = page.cast::<Process>();
    // SAFETY: a new page, and nobody else's.
    let process = unsafe {
        place.write(Process::new());
        &*place
    };
    assert_eq!(process.init(config.disabled()), Ok(Some(Owner::Nobody)));
    // SAFETY: protect (1): it is written no more, which is what is tried.
    unsafe { mm::protect(page, mm::page_size(), Access::Read) }.unwrap();
    must_pass(|| {
        for again in [config, config.disabled(), config.claim(Claim::Libc)] {
            assert_eq!(process.init(again), Err(Error::AlreadyInitialized));
        }
    });
}
