//! Hooks called in the wrong order, and memory that is bad for one thread only.

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::{Area, Claim, Error, Owner, Process, Reason, SignalMask, State};

use crate::errno::Errno;
use crate::harness::{Ctx, must_pass};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::{Hooks as _, area_on_a_page, at, init, is_ours};
use crate::seccomp::{self, Answer, When};
use crate::sys::mm::{self, Access};
use crate::sys::sched::{self, CpuSet};
use crate::{thread, witness};

fn bytes(area: &Area) -> [u64; 16] {
    let at = core::ptr::from_ref(area).cast::<u64>();
    // SAFETY: inside the area; its unused rest was zeroed with it.
    core::array::from_fn(|n| unsafe { at.add(n).read_volatile() })
}

static MAIN: Area = Area::new();

/// The results of every call that begins a life of MAIN.
fn begins(mask: &SignalMask) -> [Result<(), Error>; 3] {
    [
        RSEQ.create(&MAIN).map(drop),
        RSEQ.create_masked(&MAIN, mask).map(drop),
        RSEQ.scope(&MAIN).map(drop),
    ]
}

pub fn misuse(ctx: &Ctx) {
    static NEVER: Area = Area::new();
    let config = hooked::config(ctx.env);
    let mask = SignalMask::block_all().unwrap();
    let untouched = bytes(&MAIN);
    assert_eq!(begins(&mask), [Err(Error::NotInitialized); 3]);
    assert_eq!(RSEQ.ensure(&MAIN), Err(Error::NotInitialized));
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
    assert_eq!(RSEQ.thread_of(&NEVER).map(drop), Err(Error::NotCreated));
    assert!(bytes(&NEVER) == untouched, "a read of an area stored to it");

    let thread = RSEQ.create(&MAIN).unwrap();
    let before = sched::allowed().unwrap();
    let (here, _) = sched::getcpu().unwrap();
    sched::allow(0, &CpuSet::one(here)).unwrap();
    let (state, live) = (thread.state(), bytes(&MAIN));
    assert_eq!(begins(&mask), [Err(Error::AlreadyCreated); 3]);
    let lent = thread.lend();
    let during = RSEQ.create(&MAIN);
    assert_eq!(during.map(drop), Err(Error::Lent));
    assert_eq!(RSEQ.thread_of(&MAIN).map(drop), Err(Error::Lent));
    assert_eq!(RSEQ.ensure(&MAIN), Ok(State::Lent));
    lent.end();
    assert_eq!(thread.state(), state);
    assert!(bytes(&MAIN) == live, "misuse changed a live area");
    assert_eq!(RSEQ.init(config), Err(Error::AlreadyInitialized));
    sched::allow(0, &before).unwrap();

    let _ = hooked::release(thread).unwrap();
    let dead = bytes(&MAIN);
    assert_eq!(begins(&mask), [Err(Error::Exiting); 3]);
    assert_eq!(RSEQ.ensure(&MAIN), Ok(State::Exiting));
    assert_eq!(RSEQ.thread_of(&MAIN).map(drop), Err(Error::Exiting));
    assert!(bytes(&MAIN) == dead, "a dead area changed");
    mask.restore().unwrap();
}

/// Bad memory of the first thread does not affect others.
pub fn bad_memory(ctx: &Ctx) {
    static GOOD: Area = Area::new();
    // Writable by the thread but not by the kernel: only a filter creates such memory.
    let page = area_on_a_page();
    let is_page = When::ArgIs(0, at(page).addr() as u32);
    seccomp::install(__NR_rseq, is_page, Answer::Errno(Errno::FAULT)).unwrap();
    init(ctx);
    let bad = RSEQ.create(page).unwrap();
    let good = RSEQ.create(&GOOD).unwrap();
    assert_eq!(bad.state(), State::Unavailable(Reason::BadMemory));
    assert_eq!(bad.area().errno(), Some(rseq_rt::Errno::FAULT));
    assert!(is_ours(good.state()));
    assert_eq!(RSEQ.owner(), Some(Owner::Runtime));
}

/// A page with only a process in it.
fn lone_process() -> &'static Process {
    let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
    let place = page.cast::<Process>();
    // SAFETY: a new page, nobody else's, and never unmapped.
    unsafe {
        place.write(Process::new());
        &*place
    }
}

/// As a libc protects its memory once it has started (RELRO).
fn seal(process: &'static Process) {
    let page = core::ptr::from_ref(process).cast_mut().cast();
    // SAFETY: protect (1): it is not written any more, which is what is tested.
    unsafe { mm::protect(page, mm::page_size(), Access::Read) }.unwrap();
}

/// A second start is refused, and queries write nothing.
pub fn sealed(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    let process = lone_process();
    assert_eq!(process.init(config.disabled()), Ok(Some(Owner::Nobody)));
    seal(process);
    must_pass(|| {
        for again in [config, config.disabled(), config.claim(Claim::Libc)] {
            assert_eq!(process.init(again), Err(Error::AlreadyInitialized));
        }
    });
}

/// A late filter that answers like a kernel without rseq answers for every thread, but decides nothing any more.
pub fn sealed_and_filtered(ctx: &Ctx) {
    static AREA: Area = Area::new();
    fn late(process: &&'static Process) {
        static LATE: Area = Area::new();
        let thread = process.create(&LATE).unwrap();
        assert_eq!(thread.state(), State::Unavailable(Reason::NoSyscall));
        assert_eq!(LATE.errno(), Some(rseq_rt::Errno::NOSYS));
        witness::on_each_cpu(|cpu| assert_eq!(process.current_cpu(&LATE), Ok(cpu)));
        let _gone = hooked::release(thread).unwrap();
    }
    let process = lone_process();
    assert_eq!(process.init(hooked::config(ctx.env)), Ok(None));
    let main = process.create(&AREA).unwrap();
    assert!(is_ours(main.state()));
    seal(process);
    seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::NOSYS)).unwrap();
    thread::run(16 * 1024, process, late);
    assert_eq!(process.owner(), Some(Owner::Runtime));
    witness::on_each_cpu(|cpu| assert_eq!(process.current_cpu(&AREA), Ok(cpu)));
}
