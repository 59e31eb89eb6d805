//! Configurations from an auxv that makes no sense, or that of a later kernel, on a kernel that is real.

use rseq_rt::{Claim, Config, Owner, Reason, State, Thread};

use super::areas_kernel::Generation;
use super::filtered;
use crate::harness::{Ctx, Failed, PASSED, Verdict, failed, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::process::{Status, gettid};
use crate::sys::sched::{self, CpuSet};
use crate::{check, text};

pub(super) fn is_ours(state: State) -> bool {
    state == State::Registered(Owner::Runtime)
}

fn moves(thread: &Thread<'_>, _: &Hooked) {
    if !is_ours(thread.state()) {
        let _ = failed(text!("a later thread is not registered"));
    }
    for cpu in sched::allowed().unwrap_or(CpuSet::empty()).iter() {
        if sched::allow(gettid(), &CpuSet::one(cpu)).is_ok()
            && RSEQ.current_cpu(thread.area()) != Ok(cpu)
        {
            let _ = failed(text!("not on CPU ", cpu));
        }
    }
}

/// In a child: main and later threads are registered with one of these lengths, are right, and leave in both ways.
fn registers(config: Config, lengths: &[u32], what: &str) -> Result<(), Failed> {
    let life = || {
        check!(
            RSEQ.init(config.claim(Claim::Runtime)) == Ok(None),
            *what,
            ": init"
        );
        // SAFETY: (1) once in this process, on its main thread.
        let main = unsafe { hooked::adopt_main() };
        check!(
            main.is_ok_and(|main| is_ours(main.state())),
            *what,
            ": the main thread"
        );
        let length = RSEQ.length();
        check!(lengths.contains(&length), *what, ": the length is ", length);
        check!(
            RSEQ.feature_size() <= length,
            *what,
            ": the fields are ",
            RSEQ.feature_size()
        );
        for _ in 0..3 {
            filtered::joined(moves)?;
            filtered::detached(moves)?;
        }
        check!(RSEQ.length() == length, *what, ": the length changed");
        Ok(())
    };
    let status = forked(|| _ = life())?;
    check!(status == Status::Exited(0), *what, ": ", status);
    Ok(())
}

pub(super) fn absurd_auxv(_: &Ctx<'_>) -> Verdict {
    const MAX: usize = usize::MAX;
    let absurd = [
        (None, None),
        (None, Some(64)),
        (None, Some(MAX)),
        (Some(0), Some(0)),
        (Some(19), Some(32)),
        (Some(20), None),
        (Some(28), Some(32)),
        (Some(32), Some(64)),
        (Some(33), Some(0)),
        (Some(33), Some(3)),
        (Some(33), Some(128)),
        (Some(33), Some(MAX)),
        (Some(65), Some(64)),
        (Some(200), Some(256)),
        (Some(65_535), Some(64)),
        (Some(65_536 + 33), Some(64)),
        (Some((1 << 32) + 33), Some(64)),
        (Some(MAX), Some(64)),
    ];
    for (feature_size, align) in absurd {
        registers(Config::new(feature_size, align), &[32], "an absurd pair")?;
    }
    let entries = [
        (27, 33),
        (28, 64),
        (27, 0),
        (1 << 32 | 27, 33),
        (0, 0),
        (27, 33),
    ];
    registers(
        Config::from_entries(entries),
        &[32],
        "the last of a type counts",
    )?;
    PASSED
}

/// What a later kernel may say, said to this one: it takes it, or the hooks fall back to 32.
pub(super) fn future_auxv(ctx: &Ctx<'_>) -> Verdict {
    let generation = Generation::of(ctx);
    for length in [33, 40, 48, 64] {
        let expected = if generation == Generation::Only32 {
            32
        } else {
            length
        };
        let config = Config::new(Some(length as usize), Some(64));
        registers(config, &[expected], "a future feature size")?;
    }
    registers(Config::new(Some(200), Some(64)), &[32], "feature size 200")?;
    registers(Config::new(Some(48), Some(128)), &[32], "alignment 128")?;
    match generation {
        Generation::Only32 => crate::passed!("it takes 32 only, and got it"),
        _ => crate::passed!("it takes 33 to 64, believing or not; 200 became 32"),
    }
}

pub(super) fn legacy_policy(ctx: &Ctx<'_>) -> Verdict {
    registers(hooked::config(ctx.env).legacy_length(), &[32], "the policy")?;
    let future = Config::new(Some(48), Some(64)).legacy_length();
    registers(future, &[32], "the policy on a future kernel")?;
    PASSED
}

pub(super) fn disabled_policy(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        filtered::runs_on(thread.area(), Reason::Disabled, None);
    }
    let init = RSEQ.init(hooked::config(ctx.env).disabled());
    check!(init == Ok(Some(Owner::Nobody)), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let main = unsafe { hooked::adopt_main() };
    check!(main.is_ok(), "the main thread");
    if let Ok(main) = &main {
        filtered::runs_on(main.area(), Reason::Disabled, None);
    }
    filtered::joined(body)?;
    filtered::detached(body)?;
    check!(RSEQ.reason() == Some(Reason::Disabled), "the reason");
    PASSED
}
