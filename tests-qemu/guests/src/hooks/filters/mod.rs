//! Filters: each system call that the crate makes, answered in the kernel's place, from the start or late in a life.

mod life;
mod marked;
mod plan;

use linux_raw_sys::errno::{EACCES, EAGAIN, EBUSY, EFAULT, EINTR, EINVAL, ENOMEM, ENOSYS, EPERM};
use linux_raw_sys::general::SIGSYS;

use self::plan::{Call, Plan};
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, Verdict, failed, forked};
use crate::seccomp::Answer;
use crate::sys::process::{Status, no_core_dump};
use crate::{check, passed, text};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("filters/errno", errno).needs(NEEDS),
    Test::new("filters/trap-with-a-handler", trap).needs(NEEDS),
    Test::new("filters/kill", kill).needs(NEEDS),
    Test::new("filters/trapped-at-the-very-end-kills", at_the_end).needs(NEEDS),
];

const NEEDS: Needs = Needs::RSEQ.and(Needs::SECCOMP);

/// What the crate calls, but exit(2).
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

/// What a filter answers. 0: it pretends.
const ERRNOS: [u32; 10] = [
    0, EPERM, EACCES, EINVAL, EBUSY, ENOSYS, EFAULT, EAGAIN, EINTR, ENOMEM,
];

const DIED: Status = Status::Killed(SIGSYS as i32);

/// A whole life in a process of its own. What is wrong is in the report.
fn live(ctx: &Ctx<'_>, plan: Plan) -> Result<Status, Errno> {
    forked(|| {
        no_core_dump();
        let _ = life::life(ctx, plan);
    })
}

/// Every call so, early and late; how many lives. `fits` judges how a process ended.
fn all(
    ctx: &Ctx<'_>,
    answers: &[Answer],
    fits: impl Fn(&Plan, Status) -> bool,
) -> Result<u32, crate::harness::Failed> {
    let mut lives = 0;
    for &answer in answers {
        for call in CALLS {
            for is_late in [false, true] {
                let plan = Plan {
                    call,
                    answer,
                    is_late,
                };
                let status = live(ctx, plan)?;
                if !fits(&plan, status) {
                    return Err(failed(text!(plan, ": the process ", status)));
                }
                lives += 1;
            }
        }
    }
    Ok(lives)
}

fn errno(ctx: &Ctx<'_>) -> Verdict {
    let answers = ERRNOS.map(|errno| Answer::Errno(Errno(errno)));
    let lives = all(ctx, &answers, |_, status| status == Status::Exited(0))?;
    passed!(lives, " lives")
}

fn trap(ctx: &Ctx<'_>) -> Verdict {
    let lives = all(ctx, &[Answer::Trap], |plan, status| {
        // See `Gone::unmap_and_exit`: from the unmap on SIGSYS is blocked.
        match plan.call {
            Call::Unmap => status == DIED,
            _ => status == Status::Exited(0),
        }
    })?;
    passed!(lives, " lives")
}

fn kill(ctx: &Ctx<'_>) -> Verdict {
    // Of a thread: the others live on. Of a process: as soon as it makes the call.
    let threads = all(ctx, &[Answer::KillThread], |_, status| {
        status == Status::Exited(0)
    })?;
    let processes = all(ctx, &[Answer::Kill], |plan, status| match plan.call {
        Call::Rseq | Call::Mask | Call::GetCpu | Call::SetTidAddress | Call::Unmap => {
            status == DIED
        }
        _ => matches!(status, DIED | Status::Exited(0)),
    })?;
    passed!(threads + processes, " lives")
}

/// What the documentation of `Gone::unmap_and_exit` says.
fn at_the_end(ctx: &Ctx<'_>) -> Verdict {
    for call in [Call::Unmap, Call::Exit] {
        for is_late in [false, true] {
            let plan = Plan {
                call,
                answer: Answer::Trap,
                is_late,
            };
            let status = forked(|| {
                no_core_dump();
                let _ = life::unmaps(ctx, plan);
            })?;
            check!(status == DIED, plan, ": the process ", status);
        }
    }
    passed!("killed by SIGSYS, as documented")
}
