//! Each hook as a separate symbol, so that the runner can read its size from the release image. When run, the main
//! thread goes through one life cycle and exits with 0.
#![no_std]
#![no_main]

use guests::entry;
use guests::entry::Env;
use guests::hooked;
use rseq_rt::{Area, Config, Exit, ExitMode, Owner, Process, SignalMask, Thread};

entry!(main);

static RSEQ: Process = Process::new();
static AREA: Area = Area::new();
static SECOND: Area = Area::new();

#[inline(never)]
fn size_of_init(config: Config) -> Result<Option<Owner>, rseq_rt::Error> {
    RSEQ.init(config)
}

#[inline(never)]
fn size_of_create(area: &'static Area) -> Result<Thread<'static>, rseq_rt::Error> {
    // SAFETY: on_thread_create (1, 2) statics of the only thread; (3) it stays here.
    unsafe { RSEQ.on_thread_create(area) }
}

#[inline(never)]
fn size_of_keep(thread: Thread<'static>) -> Exit<'static> {
    thread.on_exit(ExitMode::Keep)
}

#[inline(never)]
fn size_of_release(thread: Thread<'static>) -> Exit<'static> {
    thread.on_exit(ExitMode::Release)
}

fn main(env: &Env) -> i32 {
    let Ok(_) = size_of_init(hooked::config(env)) else {
        return 1;
    };
    let Ok(first) = size_of_create(&AREA) else {
        return 2;
    };
    let Exit::Released(_gone) = size_of_release(first) else {
        return 3;
    };
    // The thread lives on, with a second area.
    let Ok(second) = size_of_create(&SECOND) else {
        return 4;
    };
    let _kept = size_of_keep(second);
    // SAFETY: assume_blocked (1) by the exit hook.
    let mask = unsafe { SignalMask::assume_blocked(0) };
    i32::from(mask.restore().is_err())
}
