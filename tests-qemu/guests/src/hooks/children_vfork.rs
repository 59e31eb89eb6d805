//! vfork(2): the child is unregistered, and sees its parent's area frozen.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{SIGSEGV, SIGUSR1, siginfo_t};

use rseq_rt::{Area, Config, Error, Owner, SliceEnd, State, Thread, arch};

use crate::errno::Errno;
use crate::harness::{
    Ctx, Failed, Needs, PASSED, Test, Verdict, expect_killed_by, failed, forked, vforked,
};
use crate::hooked::{self, Hooked, RSEQ};
use crate::stack::Stack;
use crate::sys::process::{self, Status, exit_group};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::kill_thread;
use crate::{check, passed, signals, text, witness};

/// The family. qemu-user makes a vfork child with memory of its own, so nothing is shared there.
pub const TESTS: &[Test] = &[
    Test::new("children/vfork-lent-is-right", lent).needs(Needs::REAL_KERNEL),
    Test::new("children/vfork-from-threads-at-once", from_threads).needs(Needs::REAL_KERNEL),
    Test::new("children/vfork-handlers-are-right", handlers).needs(Needs::REAL_KERNEL),
    Test::new("children/vfork-naive-read-is-wrong", naive).needs(SHARED),
    Test::new("children/vfork-child-that-registers", registers).needs(SHARED),
];

const SHARED: Needs = Needs::RSEQ.and(Needs::REAL_KERNEL).cpus(2);
/// Handlers run on it as well, with the CPU's whole state above them.
const STACK: usize = 64 * 1024;

fn create(config: Config) -> Result<Thread<'static>, Failed> {
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    unsafe { hooked::adopt_main() }.map_err(|_| failed(text!("the create hook")))
}

/// In the child of a thread that lent its area: nothing is trusted and nothing touched.
fn in_lent_child(area: &Area, cpus: CpuSet) -> Result<(), Failed> {
    let frozen = area.cpu_id();
    check!(area.state() == State::Lent, "the state is not Lent");
    for cpu in cpus.iter() {
        sched::allow(0, &CpuSet::one(cpu))?;
        let (_, node) = sched::getcpu()?;
        check!(RSEQ.current_cpu(area) == Ok(cpu), "not on CPU ", cpu);
        check!(RSEQ.current_node(area) == Ok(node), "not on node ", node);
        check!(RSEQ.current_mm_cid(area).is_none(), "a borrowed mm_cid");
    }
    // SAFETY: ensure_registered and on_thread_create (1, 2, 3) refused: the area is the parent's.
    let (ensured, created) = unsafe {
        let created = RSEQ.on_thread_create(area).map(drop);
        (RSEQ.ensure_registered(area), created)
    };
    check!(ensured == Ok(State::Lent), "ensured to another state");
    check!(created == Err(Error::Lent), "created on a lent area");
    // SAFETY: (1, 2) refused.
    let current = unsafe { RSEQ.current_thread(area) };
    check!(matches!(current, Err(Error::Lent)), "a current thread");
    let request = area.request_slice();
    let control = witness::rseq_of(area).slice_ctrl.load(Relaxed);
    check!(control == 0, "wrote to the parent's area");
    let end = area.yield_slice(request);
    check!(end == SliceEnd::Off, "a slice on the parent's area");
    // The kernel knows neither this area nor another one of the child.
    let at = core::ptr::from_ref(area).cast_mut().cast();
    // SAFETY: (1, 2) refused, for there is nothing to unregister.
    let answer = unsafe { rseq(at, RSEQ.length(), 1, arch::SIGNATURE) };
    let none = answer == Err(Errno::INVAL) || answer == Err(Errno::NOSYS);
    check!(none, "the child's registration: ", answer);
    check!(area.cpu_id() == frozen, "the parent's cpu_id changed");
    Ok(())
}

/// Lends, lets the child look, and sees that the parent is what it was.
fn lend_and_look(thread: &Thread<'_>, stack: Stack, cpus: CpuSet) -> Result<(), Failed> {
    let area = thread.area();
    let before = area.state();
    let registered = before == State::Registered(Owner::Runtime);
    let slice = area.has_slice_extension();
    let lent = thread.lend();
    let status = vforked(stack, || {
        if in_lent_child(area, cpus).is_err() {
            exit_group(1);
        }
    })?;
    check!(status == Status::Exited(0), "the child ", status);
    check!(area.state() == State::Lent, "the loan ended by itself");
    lent.end();
    check!(area.state() == before, "another state after the loan");
    check!(area.has_slice_extension() == slice, "the slice extension");
    check!(
        witness::kernel_knows(area) == registered,
        "another registration after the loan"
    );
    let wrong = witness::first_wrong(cpus, area);
    check!(wrong.is_none(), "wrong on CPU ", wrong.unwrap_or(0));
    Ok(())
}

fn lent(ctx: &Ctx<'_>) -> Verdict {
    let thread = create(hooked::config(ctx.env).slice_extension())?;
    let stack = Stack::map(STACK)?;
    for _ in 0..ctx.scale(500, 50, 0) {
        lend_and_look(&thread, stack, witness::cpus())?;
    }
    PASSED
}

fn from_threads(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        let Ok(stack) = Stack::map(STACK) else {
            let _ = failed(text!("no stack"));
            return;
        };
        for _ in 0..hooked.argument {
            if lend_and_look(thread, stack, witness::cpus()).is_err() {
                return;
            }
        }
        // SAFETY: the children are gone.
        let _ = unsafe { stack.unmap() };
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let rounds = ctx.scale(200, 15, 0) as usize;
    let threads: [_; 6] = core::array::from_fn(|_| hooked::start_joinable(STACK, body, rounds));
    for thread in threads {
        check!(thread?.join().is_ok(), "join");
    }
    PASSED
}

fn handlers(ctx: &Ctx<'_>) -> Verdict {
    static RUN: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn read(_: i32, _: *mut siginfo_t, _: *mut u8) {
        RUN.fetch_add(1, Relaxed);
        let Some(hooked) = hooked::here() else { return };
        // SAFETY: ensure_registered (1, 2) refused in the child, done already in the parent.
        let ensured = unsafe { RSEQ.ensure_registered(&hooked.area) };
        let cpu = sched::getcpu().map(|(cpu, _)| cpu);
        // Whoever sends has one CPU only.
        if ensured.is_err() || RSEQ.current_cpu(&hooked.area).ok() != cpu.ok() {
            let _ = failed(text!("a handler read another CPU than ", cpu));
        }
    }
    fn hit(cpus: CpuSet) {
        for cpu in cpus.iter() {
            let _ = sched::allow(0, &CpuSet::one(cpu));
            let _ = kill_thread(process::gettid(), SIGUSR1 as i32);
        }
        let _ = sched::allow(0, &cpus);
    }
    // SAFETY: (1) it reads and counts.
    unsafe { signals::handle(SIGUSR1 as i32, read, 0)? };
    let thread = create(hooked::config(ctx.env))?;
    let (stack, cpus) = (Stack::map(STACK)?, witness::cpus());
    let rounds = ctx.scale(500, 50, 0) as u32;
    for _ in 0..rounds {
        let lent = thread.lend();
        let status = vforked(stack, || hit(cpus))?;
        lent.end();
        check!(status == Status::Exited(0), "the child ", status);
        hit(cpus);
    }
    // The child's count is in the same memory.
    let expected = rounds * cpus.count() * 2;
    let run = RUN.load(Relaxed);
    check!(run == expected, run, " of ", expected, " handlers ran");
    passed!(run, " handlers")
}

/// The broken variant: without the loan the child reads the parent's CPU.
fn naive(ctx: &Ctx<'_>) -> Verdict {
    static READ: AtomicU32 = AtomicU32::new(u32::MAX);
    let thread = create(hooked::config(ctx.env))?;
    let (area, stack, cpus) = (thread.area(), Stack::map(STACK)?, witness::cpus());
    for parent in cpus.iter() {
        let others = || cpus.iter().filter(|&cpu| cpu != parent);
        for other in others() {
            sched::allow(0, &CpuSet::one(parent))?;
            let status = vforked(stack, || {
                if sched::allow(0, &CpuSet::one(other)).is_ok() {
                    READ.store(RSEQ.current_cpu(area).unwrap_or(u32::MAX), Relaxed);
                }
            })?;
            check!(status == Status::Exited(0), "the child ", status);
            let read = READ.load(Relaxed);
            check!(
                read == parent,
                "on ",
                other,
                " a child of ",
                parent,
                " read ",
                read
            );
        }
    }
    PASSED
}

/// The broken variant: the child registers and unregisters the parent's area, as a lazy library in it would.
fn registers(ctx: &Ctx<'_>) -> Verdict {
    let broken = |config| {
        let Ok(thread) = create(config) else { return };
        let area = thread.area();
        let Ok(stack) = Stack::map(STACK) else { return };
        let child = vforked(stack, || {
            let at = core::ptr::from_ref(area).cast_mut().cast();
            // SAFETY: (1) undone before the child ends; (2) not at all: the parent does not bear it.
            let answers = unsafe {
                [
                    rseq(at, RSEQ.length(), 0, arch::SIGNATURE),
                    rseq(at, RSEQ.length(), 1, arch::SIGNATURE),
                ]
            };
            if answers != [Ok(()), Ok(())] {
                exit_group(1);
            }
        });
        if child == Ok(Status::Exited(0)) {
            witness::migrate(witness::cpus());
            // Repaired at the first move, if the kernel does that.
            if RSEQ
                .current_cpu(area)
                .is_ok_and(|cpu| witness::cpus().has(cpu))
            {
                exit_group(3);
            }
        }
    };
    let config = hooked::config(ctx.env);
    let legacy = forked(|| broken(config.legacy_length()))?;
    check!(
        legacy == witness::end_with_length_32(ctx.facts, 3),
        "with length 32 the parent ",
        legacy
    );
    if witness::kills_for_stores(ctx.facts) {
        expect_killed_by(SIGSEGV as i32, || broken(config))?;
        passed!(match ctx.facts.strict {
            true => "the parent is killed, with length 32 too",
            false => "the parent is killed, and survives with length 32",
        })
    } else {
        let status = forked(|| broken(config))?;
        check!(status == Status::Exited(3), "the parent ", status);
        passed!("the parent survives here")
    }
}
