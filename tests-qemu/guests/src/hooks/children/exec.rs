//! exec(3): registration and memory vanish together, and the new image starts from scratch.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::auxvec::AT_EXECFN;
use linux_raw_sys::general::__NR_rseq;

use rseq_rt::Thread;

use crate::entry::Env;
use crate::errno::Errno;
use crate::harness::{Ctx, forked, vforked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{
    init, is_ours, joined_at_once, look, main_thread, main_thread_with, right_everywhere,
};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::process::{self, Status, exit_group};
use crate::sys::sched;
use crate::sys::time::{self, Span};
use crate::witness;

const STACK: usize = 64 * 1024;
/// The exit code of a new image that found everything correct.
pub const FRESH: i32 = 23;

/// The value of `--as-child` for [`probe`].
pub const PROBE: &[u8] = PROBE_ARGUMENT.to_bytes();
const PROBE_ARGUMENT: &CStr = c"exec-probe";

/// The new image.
pub fn probe(env: &Env) -> i32 {
    assert!(witness::is_unregistered(), "the old registration");
    // No second try and no cleaning up: unregistration would kill, and the length is the wished one.
    let _ = seccomp::install(__NR_rseq, When::ArgIs(2, 1), Answer::Kill);
    let config = hooked::config(env);
    assert_eq!(RSEQ.owner(), None);
    let thread = main_thread_with(config);
    assert!(is_ours(thread.state()));
    assert_eq!(RSEQ.length(), config.length());
    right_everywhere(thread.area());
    FRESH
}

/// Replaces this process by [`probe`], in the file that the kernel started.
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

/// The environment of a thread body, which has one word as its argument.
fn env_of(hooked: &Hooked) -> &Env {
    // SAFETY: the tests below pass the harness's own, which outlives every thread.
    unsafe { &*ptr::with_exposed_provenance(hooked.argument) }
}

fn argument(ctx: &Ctx) -> usize {
    ptr::from_ref(ctx.env).expose_provenance()
}

const NEW_IMAGE: Result<Status, Errno> = Ok(Status::Exited(FRESH));

pub fn from_main(ctx: &Ctx) {
    let thread = main_thread(ctx);
    for _ in 0..ctx.scale(50, 8, 0) {
        assert_eq!(forked(|| exec(ctx.env)), NEW_IMAGE);
    }
    assert!(witness::kernel_knows(thread.area()));
}

pub fn from_thread(ctx: &Ctx) {
    fn others(thread: &Thread<'_>, _: &Hooked) {
        loop {
            witness::migrate(witness::cpus());
            match hooked::start_joinable(STACK, |_, _| {}, 0) {
                Ok(thread) => thread.join().unwrap(),
                // The answer of clone(CLONE_FS) while another thread is executing exec.
                Err(Errno::AGAIN) => sched::relax(),
                Err(errno) => panic!("a creation amid an exec: {errno}"),
            }
            assert!(is_ours(thread.state()));
        }
    }
    fn execs(_: &Thread<'_>, hooked: &Hooked) {
        witness::migrate(witness::cpus());
        exec(env_of(hooked))
    }
    for round in 0..ctx.scale(60, 8, 0) {
        let status = forked(|| {
            let _ = main_thread(ctx);
            for _ in 0..3 {
                let _ = hooked::start_joinable(STACK, others, 0).unwrap();
            }
            // Varies the point at which exec meets the other threads.
            let _ = time::sleep(Span::micros(round * 50));
            let _ = hooked::start_joinable(STACK, execs, argument(ctx)).unwrap();
            loop {
                let _ = time::sleep(Span::secs(1));
            }
        });
        assert_eq!(status, NEW_IMAGE);
    }
}

pub fn spawns(ctx: &Ctx) {
    static ROUNDS: AtomicU32 = AtomicU32::new(0);
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        let stack = Stack::map(STACK).unwrap();
        for _ in 0..ROUNDS.load(Relaxed) {
            let lent = thread.lend();
            let status = vforked(stack, || exec(env_of(hooked)));
            lent.end();
            assert_eq!(status, NEW_IMAGE);
            look(thread, hooked);
        }
        // SAFETY: the children are gone.
        unsafe { stack.unmap() }.unwrap();
    }
    init(ctx);
    ROUNDS.store(ctx.scale(40, 4, 0) as u32, Relaxed);
    joined_at_once::<6>(STACK, body, argument(ctx));
}
