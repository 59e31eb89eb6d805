//! Hooks called in the wrong order, and memory that is bad for one thread alone.

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::{Area, Claim, Error, Owner, Process, Reason, SignalMask, State};

use super::areas_auxv::is_ours;
use crate::check;
use crate::errno::Errno;
use crate::harness::{Ctx, PASSED, Verdict};
use crate::hooked::{self, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::mm::{self, Access};
use crate::sys::process::Status;
use crate::sys::sched::{self, CpuSet};

/// 128 bytes as they are.
#[derive(PartialEq, Eq)]
struct Bytes([u64; 16]);

fn bytes(area: &Area) -> Bytes {
    let at = core::ptr::from_ref(area).cast::<u64>();
    // SAFETY: inside the area; its unused rest was zeroed with it.
    Bytes(core::array::from_fn(|n| unsafe {
        at.wrapping_add(n).read_volatile()
    }))
}

pub(super) fn misuse(ctx: &Ctx<'_>) -> Verdict {
    static MAIN: Area = Area::new();
    static NEVER: Area = Area::new();
    let config = hooked::config(ctx.env);
    let Ok(mask) = SignalMask::block_all() else {
        check!(false, "block_all");
        return PASSED;
    };
    let untouched = bytes(&MAIN);
    // SAFETY: on_thread_create, ensure_registered, scoped (1, 2), here and below: MAIN and NEVER are this thread's
    // for ever; (3) what is returned stays here.
    unsafe {
        let early = RSEQ.on_thread_create(&MAIN).map(drop);
        check!(early == Err(Error::NotInitialized), "create before init");
        let early = RSEQ.on_thread_create_masked(&MAIN, &mask).map(drop);
        check!(
            early == Err(Error::NotInitialized),
            "create, masked, before init"
        );
        check!(
            RSEQ.ensure_registered(&MAIN) == Err(Error::NotInitialized),
            "ensure before init"
        );
        check!(
            RSEQ.scoped(&MAIN).map(drop) == Err(Error::NotInitialized),
            "scoped before init"
        );
    }
    check!(
        bytes(&MAIN) == untouched && RSEQ.owner().is_none(),
        "something changed before init"
    );

    check!(RSEQ.init(config) == Ok(None), "init");
    for again in [
        config,
        config.disabled(),
        config.claim(Claim::Libc),
        config.legacy_length(),
    ] {
        check!(
            RSEQ.init(again) == Err(Error::AlreadyInitialized),
            "init twice"
        );
        check!(RSEQ.owner().is_none(), "init twice decided something");
    }
    // SAFETY: current_thread (1, 2): there is none, which is what it says.
    let nobody = unsafe { RSEQ.current_thread(&NEVER) }.map(drop);
    check!(nobody == Err(Error::NotCreated), "exit without create");
    check!(
        bytes(&NEVER) == untouched,
        "exit without create changed the area"
    );

    // SAFETY: as above.
    let thread = unsafe { RSEQ.on_thread_create(&MAIN) };
    let Ok(thread) = thread else {
        check!(false, "create");
        return PASSED;
    };
    let before = sched::allowed()?;
    let (here, _) = sched::getcpu()?;
    sched::allow(0, &CpuSet::one(here))?;
    let (state, live) = (thread.state(), bytes(&MAIN));
    // SAFETY: as above.
    unsafe {
        let twice = RSEQ.on_thread_create(&MAIN).map(drop);
        check!(twice == Err(Error::AlreadyCreated), "create twice");
        let twice = RSEQ.on_thread_create_masked(&MAIN, &mask).map(drop);
        check!(twice == Err(Error::AlreadyCreated), "create, masked, twice");
        check!(
            RSEQ.scoped(&MAIN).map(drop) == Err(Error::AlreadyCreated),
            "scoped after create"
        );
        let lent = thread.lend();
        let during = RSEQ.on_thread_create(&MAIN).map(drop);
        check!(during == Err(Error::Lent), "create while lent");
        check!(
            RSEQ.current_thread(&MAIN).map(drop) == Err(Error::Lent),
            "exit while lent"
        );
        check!(
            RSEQ.ensure_registered(&MAIN) == Ok(State::Lent),
            "ensure while lent"
        );
        lent.end();
    }
    check!(
        thread.state() == state && bytes(&MAIN) == live,
        "misuse changed a live area"
    );
    check!(
        RSEQ.init(config) == Err(Error::AlreadyInitialized),
        "init after create"
    );
    sched::allow(0, &before)?;

    check!(hooked::release(thread).is_ok(), "release");
    let dead = bytes(&MAIN);
    // SAFETY: as above.
    unsafe {
        check!(
            RSEQ.on_thread_create(&MAIN).map(drop) == Err(Error::Exiting),
            "create after exit"
        );
        let late = RSEQ.on_thread_create_masked(&MAIN, &mask).map(drop);
        check!(late == Err(Error::Exiting), "create, masked, after exit");
        check!(
            RSEQ.scoped(&MAIN).map(drop) == Err(Error::Exiting),
            "scoped after exit"
        );
        check!(
            RSEQ.ensure_registered(&MAIN) == Ok(State::Exiting),
            "ensure after exit"
        );
        check!(
            RSEQ.current_thread(&MAIN).map(drop) == Err(Error::Exiting),
            "exit twice"
        );
    }
    check!(bytes(&MAIN) == dead, "a dead area changed");
    check!(mask.restore().is_ok(), "restore");
    PASSED
}

/// The first thread's bad memory is that thread's own affair.
pub(super) fn bad_memory(ctx: &Ctx<'_>) -> Verdict {
    static GOOD: Area = Area::new();
    // Memory that the thread can write and the kernel cannot: only a filter makes such.
    let page = mm::map(mm::page_size(), Access::ReadWrite)?.cast::<Area>();
    seccomp::install(
        __NR_rseq,
        When::ArgIs(0, page.addr() as u32),
        Answer::Errno(Errno::FAULT),
    )?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: on_thread_create (1, 2) a page and a static of this thread; (3) they stay here.
    let (bad, good) = unsafe { (RSEQ.on_thread_create(&*page), RSEQ.on_thread_create(&GOOD)) };
    let state = bad.map(|thread| (thread.state(), thread.area().errno()));
    let expected = State::Unavailable(Reason::BadMemory);
    check!(
        state == Ok((expected, Some(rseq_rt::Errno::FAULT))),
        "the thread with bad memory"
    );
    check!(
        good.is_ok_and(|thread| is_ours(thread.state())),
        "the thread with good memory"
    );
    check!(RSEQ.owner() == Some(Owner::Runtime), "the owner");
    PASSED
}

/// A libc makes its memory read-only once it has started (RELRO). A second start is told so, and a look costs no write.
pub(super) fn sealed(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env);
    let page = mm::map(mm::page_size(), Access::ReadWrite)?;
    let place = page.cast::<Process>();
    // SAFETY: a new page, and nobody else's.
    let process = unsafe {
        place.write(Process::new());
        &*place
    };
    check!(
        process.init(config.disabled()) == Ok(Some(Owner::Nobody)),
        "init"
    );
    // SAFETY: protect (1): it is written no more, which is what is tried.
    unsafe { mm::protect(page, mm::page_size(), Access::Read)? };
    let status = crate::harness::forked(|| {
        let again = [config, config.disabled(), config.claim(Claim::Libc)]
            .map(|config| process.init(config) == Err(Error::AlreadyInitialized));
        crate::sys::process::exit_group(if again == [true; 3] { 0 } else { 1 });
    })?;
    check!(
        status == Status::Exited(0),
        "init on sealed memory ",
        status
    );
    PASSED
}
