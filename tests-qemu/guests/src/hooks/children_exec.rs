//! exec(3): registration and memory are gone together, and the new image starts from nothing.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::auxvec::AT_EXECFN;
use linux_raw_sys::general::__NR_rseq;

use rseq_rt::{Area, Owner, State, Thread, arch};

use super::children::look;
use crate::entry::Env;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, failed, forked, vforked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::process::{self, Status, exit_group};
use crate::sys::rseq::rseq;
use crate::sys::sched;
use crate::sys::time::{self, Span};
use crate::{check, text, witness};

/// The family. qemu-user can start no guest image by execve(2).
pub const TESTS: &[Test] = &[
    Test::new("children/exec-starts-unregistered", from_main).needs(REAL),
    Test::new("children/exec-from-a-thread-among-others", from_thread).needs(REAL),
    Test::new("children/posix-spawn-from-threads-at-once", spawns).needs(REAL),
];

const REAL: Needs = Needs::RSEQ.and(Needs::REAL_KERNEL);
const STACK: usize = 64 * 1024;
/// The new image found all as it should be.
pub const FRESH: i32 = 23;

/// The value of `--as-child` for [`probe`].
pub const PROBE: &[u8] = b"exec-probe";

/// The new image: what it finds, as an exit code.
pub fn probe(env: &Env) -> i32 {
    let scratch = Area::new();
    let at = (&raw const scratch).cast_mut().cast();
    // SAFETY: (1) unregistered at once; (2) success means that there was nobody.
    let fresh = unsafe {
        rseq(at, 32, 0, arch::SIGNATURE).is_ok() && rseq(at, 32, 1, arch::SIGNATURE).is_ok()
    };
    if !fresh {
        return 24;
    }
    // No second try and no cleaning up: unregistration would kill, and the length is the wished one.
    let _ = seccomp::install(__NR_rseq, When::ArgIs(2, 1), Answer::Kill);
    let config = hooked::config(env);
    if RSEQ.owner().is_some() || RSEQ.init(config) != Ok(None) {
        return 25;
    }
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(thread) = (unsafe { hooked::adopt_main() }) else {
        return 26;
    };
    if thread.state() != State::Registered(Owner::Runtime) || RSEQ.length() != config.length() {
        return 27;
    }
    match witness::first_wrong(witness::cpus(), thread.area()) {
        Some(_) => 28,
        None => FRESH,
    }
}

/// Replaces this process by [`probe`], in the file the kernel started us from.
pub fn exec(env: &Env) -> ! {
    if let Some(path) = env.auxv(AT_EXECFN) {
        let path = ptr::with_exposed_provenance::<u8>(path);
        let argv = [
            path,
            c"--as-child".as_ptr().cast(),
            PROBE_ARGUMENT.as_ptr().cast(),
            ptr::null(),
        ];
        let _ = argv.as_ptr().expose_provenance();
        // SAFETY: the kernel's own string; (1) strings up to a null pointer.
        let _ = unsafe { process::execve(CStr::from_ptr(path.cast()), argv.as_ptr(), env.envp()) };
    }
    exit_group(99)
}

const PROBE_ARGUMENT: &CStr = c"exec-probe";

/// For a body, which has one word for its argument.
fn env_of(hooked: &Hooked) -> &Env {
    // SAFETY: the tests below hand over the harness's own, which outlives every thread.
    unsafe { &*ptr::with_exposed_provenance(hooked.argument) }
}

fn argument(ctx: &Ctx<'_>) -> usize {
    ptr::from_ref(ctx.env).expose_provenance()
}

fn from_main(ctx: &Ctx<'_>) -> Verdict {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(thread) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook");
        return PASSED;
    };
    for _ in 0..ctx.scale(50, 8, 0) {
        let status = forked(|| exec(ctx.env))?;
        check!(status == Status::Exited(FRESH), "the new image ", status);
    }
    check!(witness::kernel_knows(thread.area()), "the parent's is gone");
    PASSED
}

fn from_thread(ctx: &Ctx<'_>) -> Verdict {
    fn others(thread: &Thread<'_>, _: &Hooked) {
        loop {
            witness::migrate(witness::cpus());
            match hooked::start_joinable(STACK, |_, _| {}, 0).map(hooked::Joinable::join) {
                Ok(Ok(())) => {}
                // What clone(CLONE_FS) says while another thread is in the middle of an exec.
                Err(Errno::AGAIN) => sched::relax(),
                _ => exit_group(98),
            }
            if thread.state() != State::Registered(Owner::Runtime) {
                exit_group(97);
            }
        }
    }
    fn execs(_: &Thread<'_>, hooked: &Hooked) {
        witness::migrate(witness::cpus());
        exec(env_of(hooked))
    }
    for round in 0..ctx.scale(60, 8, 0) {
        let status = forked(|| {
            let started = || -> Result<(), Failed> {
                check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
                // SAFETY: (1) once in this process, on its main thread.
                check!(unsafe { hooked::adopt_main() }.is_ok(), "create");
                for _ in 0..3 {
                    let _ = hooked::start_joinable(STACK, others, 0)?;
                }
                // So that exec meets the others in other places.
                let _ = time::sleep(Span::micros(round * 50));
                let _ = hooked::start_joinable(STACK, execs, argument(ctx))?;
                Ok(())
            };
            if started().is_ok() {
                loop {
                    let _ = time::sleep(Span::secs(1));
                }
            }
        })?;
        check!(status == Status::Exited(FRESH), "the new image ", status);
    }
    PASSED
}

fn spawns(ctx: &Ctx<'_>) -> Verdict {
    static ROUNDS: AtomicU32 = AtomicU32::new(0);
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        let Ok(stack) = Stack::map(STACK) else {
            let _ = failed(text!("no stack"));
            return;
        };
        for _ in 0..ROUNDS.load(Relaxed) {
            let lent = thread.lend();
            let status = vforked(stack, || exec(env_of(hooked)));
            lent.end();
            if status != Ok(Status::Exited(FRESH)) {
                let _ = failed(text!("the new image ", status));
            }
            look(thread, hooked);
        }
        // SAFETY: the children are gone.
        let _ = unsafe { stack.unmap() };
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    ROUNDS.store(ctx.scale(40, 4, 0) as u32, Relaxed);
    let threads: [_; 6] =
        core::array::from_fn(|_| hooked::start_joinable(STACK, body, argument(ctx)));
    for thread in threads {
        check!(thread?.join().is_ok(), "join");
    }
    PASSED
}
