//! Filters: each system call of the crate, answered in place of the kernel, from the start or later in a life.

mod life;
mod marked;
mod plan;

use linux_raw_sys::errno::{EACCES, EAGAIN, EBUSY, EFAULT, EINTR, EINVAL, ENOMEM, ENOSYS, EPERM};
use linux_raw_sys::general::SIGSYS;

use self::plan::{Call, Plan};
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, forked, must_die, passed};
use crate::seccomp::Answer;
use crate::sys::process::{Status, no_core_dump};

pub const TESTS: &[Test] = &[
    Test::new("filters/errno", errno).needs(NEEDS),
    Test::new("filters/trap-with-a-handler", trap).needs(NEEDS),
    Test::new("filters/kill", kill).needs(NEEDS),
    Test::new("filters/trapped-at-the-very-end-kills", at_the_end).needs(NEEDS),
];

const NEEDS: Needs = Needs::RSEQ.and(Needs::SECCOMP);

/// The crate's system calls, except exit(2).
const CALLS: [Call; 9] = [
    Call::Rseq,
    Call::Mask,
    Call::GetCpu,
    Call::Futex,
    Call::SetTidAddress,
    Call::Unmap,
    Call::Uname,
    Call::SliceYield,
    Call::Membarrier,
];

/// The answers of a filter. 0: it pretends success.
const ERRNOS: [u32; 10] = [
    0, EPERM, EACCES, EINVAL, EBUSY, ENOSYS, EFAULT, EAGAIN, EINTR, ENOMEM,
];

const DIED: Status = Status::Killed(SIGSYS as i32);
const ENDED: Status = Status::Exited(0);

/// Each call and answer, early and late, in its own process, whose end `fits` judges. Returns the number of lives.
fn all(ctx: &Ctx, answers: &[Answer], fits: impl Fn(&Plan, Status) -> bool) -> u32 {
    let mut lives = 0;
    for &answer in answers {
        for call in CALLS {
            for is_late in [false, true] {
                let plan = Plan {
                    call,
                    answer,
                    is_late,
                };
                let status = forked(|| {
                    no_core_dump();
                    life::life(ctx, plan);
                });
                let status = status.unwrap();
                assert!(fits(&plan, status), "{plan}: the process {status}");
                lives += 1;
            }
        }
    }
    lives
}

fn errno(ctx: &Ctx) {
    let answers = ERRNOS.map(|errno| Answer::Errno(Errno(errno)));
    let lives = all(ctx, &answers, |_, status| status == ENDED);
    passed!("{lives} lives");
}

fn trap(ctx: &Ctx) {
    let lives = all(ctx, &[Answer::Trap], |plan, status| match plan.call {
        // See `Gone::unmap_and_exit`: after the unmap SIGSYS is blocked.
        Call::Unmap => status == DIED,
        _ => status == ENDED,
    });
    passed!("{lives} lives");
}

fn kill(ctx: &Ctx) {
    // Killing a thread: the others live on. Killing the process: as soon as it makes the call.
    let threads = all(ctx, &[Answer::KillThread], |_, status| status == ENDED);
    let processes = all(ctx, &[Answer::Kill], |plan, status| match plan.call {
        Call::Rseq | Call::Mask | Call::GetCpu | Call::SetTidAddress | Call::Unmap => {
            status == DIED
        }
        _ => matches!(status, DIED | ENDED),
    });
    passed!("{} lives", threads + processes);
}

/// As documented at `Gone::unmap_and_exit`.
fn at_the_end(ctx: &Ctx) {
    for call in [Call::Unmap, Call::Exit] {
        for is_late in [false, true] {
            let plan = Plan {
                call,
                answer: Answer::Trap,
                is_late,
            };
            must_die(SIGSYS as i32, || life::unmaps(ctx, plan));
        }
    }
    passed!("killed by SIGSYS, as documented");
}
