//! Detached threads whose memory must stay: handed to a list and unmapped by a later thread, or leaked where the
//! kernel's state is unknown.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_set_tid_address, SIGSEGV};
use rseq_rt::{
    Area, ClearTidPlace, Deferred, Error, Exit, ExitMode, Owner, Reason, State, Thread, arch,
};

use super::{STACK, wait_for};
use crate::errno::Errno;
use crate::harness::{Ctx, must_die, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{init, joined};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::sys::{process, signal};
use crate::tcb::Tcb;
use crate::thread::spawn;
use crate::witness;

/// The block of a thread on which other code registers its own area, in the same mapping: e.g. an allocator's area in
/// TLS that the libc keeps with the stack.
struct Shared {
    other: Area,
    ours: Area,
    unmaps: bool,
}

pub static DEFERRED: Deferred = Deferred::new();

unsafe extern "C" fn main_of_taken(argument: *mut u8) -> ! {
    // SAFETY: `start` gave the thread its own block.
    let block = unsafe { &*argument.cast::<Tcb<Shared>>() };
    let stack = block.head.stack();
    let (base, length) = (stack.base(), stack.len());
    let shared = &block.payload;
    let at = shared.other.as_rseq().cast_mut().cast();
    // SAFETY: rseq (1) in the block, which is unmapped after the end, or in the variant that must die; (2) nobody's.
    unsafe { rseq(at, 32, 0, arch::SIGNATURE) }.unwrap();
    // SAFETY: on_thread_create (1, 3) its own area; (2) unmapped by the exit below.
    let thread = unsafe { RSEQ.on_thread_create(&shared.ours) }.unwrap();
    assert_eq!(thread.state(), State::Unavailable(Reason::Taken));
    let exit = thread.on_exit(ExitMode::Release);
    if shared.unmaps {
        // SAFETY: violated: the kernel writes to `other`. This is the variant that must die.
        unsafe { arch::unmap_and_exit(base, length, 0) }
    }
    assert!(matches!(&exit, Exit::Kept(kept) if kept.why() == Some(Error::Taken)));
    // SAFETY: unmap_and_exit (1) the stack and the block are this thread's only; (2) the word is in the block; (3) no
    // robust list; (4) nothing waits to be dropped; (5) the list is swept to its end.
    unsafe { exit.unmap_and_exit(base, length, ClearTidPlace::Inside, &DEFERRED, 0) }
}

/// The memory that such a thread leaves behind.
#[derive(Clone, Copy)]
pub struct Left {
    pub stack: Stack,
    /// The entry of the list, in the stack's memory.
    pub area: *const Area,
}

/// Runs such a thread; its memory is on [`DEFERRED`].
pub fn leave(cpus: CpuSet) -> Left {
    run(false, cpus)
}

/// Starts such a thread and waits for its end while moving it between CPUs, so that the kernel writes to whatever it
/// takes for the area.
fn run(unmaps: bool, cpus: CpuSet) -> Left {
    let stack = Stack::map(STACK).unwrap();
    let shared = Shared {
        other: Area::new(),
        ours: Area::new(),
        unmaps,
    };
    let block = Tcb::on(stack, shared).unwrap();
    // SAFETY: spawn (1) an unused stack; (2, 3) the block on top of it outlives the thread, except in the variant that
    // must die; (4) `main_of_taken` takes its own block.
    let tid = unsafe {
        let head = &raw mut (*block).head;
        let word = match unmaps {
            true => core::ptr::null_mut(),
            false => (*head).alive.as_ptr(),
        };
        spawn(block.cast(), head, word, main_of_taken, block.cast())
    };
    let tid = tid.unwrap();
    while signal::kill_thread(tid, 0).is_ok() {
        for cpu in cpus.iter() {
            let _ = sched::allow(tid, &CpuSet::one(cpu));
        }
        sched::relax();
    }
    // SAFETY: an address in the block.
    let area = unsafe { &raw const (*block).payload.ours };
    Left { stack, area }
}

pub(super) fn taken_and_swept(ctx: &Ctx<'_>) {
    fn free(thread: &Thread<'_>, _: &Hooked) {
        assert_eq!(thread.state(), State::Registered(Owner::Runtime));
    }
    init(ctx);
    let left: [_; 64] = core::array::from_fn(|nth| {
        (nth < ctx.scale(64, 16, 0) as usize).then(|| {
            let left = leave(witness::cpus());
            // SAFETY: mapped until the sweep, which the next exit makes at the earliest.
            assert!(unsafe { &*left.area }.is_deferred());
            // The refusal of one thread, even the process's first, decides nothing for the next.
            joined(STACK, free, 0);
            left
        })
    });
    while DEFERRED.sweep() != 0 {}
    assert!(
        left.iter().flatten().all(|left| !left.stack.is_mapped()),
        "not swept"
    );
    passed!("{} threads", left.iter().flatten().count());
}

/// The broken variant: unmapped as if the kernel's state were known.
pub(super) fn taken_and_unmapped(ctx: &Ctx<'_>) {
    init(ctx);
    let cpus = sched::allowed().unwrap();
    let threads = ctx.scale(20_000, 5_000, 0);
    must_die(SIGSEGV as i32, || {
        for _ in 0..threads {
            run(true, cpus);
        }
    });
    passed!("killed within {threads} threads");
}

/// The kernel cannot be made to forget the word in the mapping: after an unmap it would zero another mapping's memory.
pub(super) fn leaks(ctx: &Ctx<'_>) {
    static TID: AtomicU32 = AtomicU32::new(0);
    static WORD: AtomicUsize = AtomicUsize::new(0);
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        WORD.store(hooked.clear_tid.as_ptr().expose_provenance(), Relaxed);
        TID.store(process::gettid(), Relaxed);
    }
    /// Is the memory of a detached thread still there after its end?
    fn is_left() -> bool {
        TID.store(0, Relaxed);
        let stack = Stack::map(STACK).unwrap();
        hooked::start_detached_on(stack, body, 0).unwrap();
        sched::wait_until(|| TID.load(Relaxed) != 0);
        wait_for(TID.load(Relaxed));
        stack.is_mapped()
    }
    init(ctx);
    assert!(!is_left(), "kept without a reason");
    let refused = Answer::Errno(Errno::PERM);
    seccomp::install(__NR_set_tid_address, When::Always, refused).unwrap();
    for _ in 0..3 {
        assert!(is_left(), "unmapped under clear-tid");
        let word = core::ptr::with_exposed_provenance::<u32>(WORD.load(Relaxed));
        // SAFETY: still mapped, as just checked, and the only writer is gone.
        assert_eq!(unsafe { word.read_volatile() }, 0, "written by clear-tid");
        assert_eq!(hooked::DEFERRED.sweep(), 0, "on the list all the same");
    }
}
