//! The rules of Linux 7.x: the ids are the kernel's, the length is part of the registration, so is the alignment.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, fence};
use linux_raw_sys::general::SIGSEGV;

use rseq_rt::abi::{FEATURE_SIZE_SLICE_CTRL, LEGACY_LENGTH};
use rseq_rt::{Area, Config, Owner, State, arch};

use super::children::look;
use crate::errno::Errno;
use crate::harness::child::wait;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, expect_killed_by, failed, forked};
use crate::hooked::{self, RSEQ};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::rseq::rseq;
use crate::sys::{mm, sched};
use crate::{check, passed, text, witness};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("v2/length-of-this-kernel", length).needs(Needs::RSEQ),
    Test::new("v2/store-while-registered", store).needs(Needs::RSEQ.cpus(2)),
    Test::new("v2/unregister-with-the-length", unregister).needs(Needs::RSEQ),
    Test::new("v2/alignment", alignment).needs(Needs::RSEQ),
    Test::new("v2/both-lengths-in-two-processes", both).needs(Needs::RSEQ),
];

const STACK: usize = 32 * 1024;
const LONG: u32 = FEATURE_SIZE_SLICE_CTRL;

/// Starts the process with `config`; the main thread's area.
pub(super) fn begin(config: Config) -> Result<&'static Area, Failed> {
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let thread = unsafe { hooked::adopt_main() }.map_err(|_| failed(text!("the create hook")))?;
    let registered = thread.state() == State::Registered(Owner::Runtime);
    check!(registered, "the main thread is not registered");
    Ok(thread.area())
}

/// What auxv says is what is registered, at the first try.
fn length(ctx: &Ctx<'_>) -> Verdict {
    let (size, align) = (ctx.facts.feature_size, ctx.facts.align);
    let config = hooked::config(ctx.env);
    // Shorter than 33, or too much for an Area: 32. Else exactly what the kernel has.
    let long = size > 32 && size <= 64 && align <= Area::ALIGN;
    let expected = if long { size as u32 } else { LEGACY_LENGTH };
    check!(config.length() == expected, "length ", config.length());
    begin(config)?;
    check!(RSEQ.length() == expected, "registered ", RSEQ.length());
    let fields = RSEQ.feature_size();
    check!(fields as usize == size.min(64), "fields up to ", fields);
    passed!(
        "feature size ",
        size,
        ", align ",
        align,
        ", length ",
        expected
    )
}

/// The broken variant of anything that writes an id by itself.
fn store(ctx: &Ctx<'_>) -> Verdict {
    fn broken(config: Config, field: usize) {
        let Ok(area) = begin(config) else { return };
        let cpus = witness::cpus();
        let ids = witness::rseq_of(area);
        match field {
            0 => ids.cpu_id.store(0x7777, Relaxed),
            1 => ids.cpu_id_start.store(0x7777, Relaxed),
            2 => ids.node_id.store(0x7777, Relaxed),
            _ => ids.mm_cid.store(0x7777, Relaxed),
        }
        fence(Release);
        witness::migrate(cpus);
        let repaired = [
            area.cpu_id() as u32,
            ids.cpu_id_start.load(Relaxed),
            ids.node_id.load(Relaxed),
            ids.mm_cid.load(Relaxed),
        ];
        // Fields beyond the feature size are nobody's, so they stay as they are.
        let known = match RSEQ.feature_size() {
            ..24 => 2,
            24..28 => 3,
            _ => 4,
        };
        if repaired.iter().take(known).all(|&id| id != 0x7777) {
            exit_group(3);
        }
    }
    let config = hooked::config(ctx.env);
    for field in 0..4 {
        let status = forked(|| broken(config.legacy_length(), field))?;
        check!(
            status == witness::end_with_length_32(ctx.facts, 3),
            "length 32, field ",
            field,
            " ",
            status
        );
        if witness::kills_for_stores(ctx.facts) {
            expect_killed_by(SIGSEGV as i32, || broken(config, field))?;
        } else {
            let status = forked(|| broken(config, field))?;
            check!(status == Status::Exited(3), "field ", field, " ", status);
        }
    }
    if witness::kills_for_stores(ctx.facts) {
        passed!(match ctx.facts.strict {
            true => "killed, with length 32 too",
            false => "killed, and repaired with length 32",
        })
    } else {
        passed!("repaired")
    }
}

/// An area that this test registers itself.
#[repr(C, align(64))]
struct Raw([u32; 32]);

/// # Safety
/// 1. `at` is 64 bytes that are nothing else, or the call is refused.
unsafe fn call(at: *mut u8, length: u32, flags: u32) -> Result<(), Errno> {
    // SAFETY: (1); (2) the thread is otherwise unregistered.
    unsafe { rseq(at, length, flags, arch::SIGNATURE) }
}

fn unregister(ctx: &Ctx<'_>) -> Verdict {
    let mut area = Raw([0; 32]);
    let at = (&raw mut area).cast();
    // Before 6.3 there is one length only.
    let longer: &[u32] = match ctx.facts.feature_size {
        ..28 => &[],
        28..=33 => &[LONG, 64],
        _ => &[],
    };
    for &length in longer {
        for (known, other) in [(length, LEGACY_LENGTH), (LEGACY_LENGTH, length)] {
            // SAFETY: (1) unregistered at the end of the round.
            let answers = unsafe {
                [
                    call(at, known, 0),
                    call(at, other, 1),
                    call(at, known, 0),
                    call(at, known, 1),
                    call(at, known, 1),
                ]
            };
            let expected = [
                Ok(()),
                Err(Errno::INVAL),
                Err(Errno::BUSY),
                Ok(()),
                Err(Errno::INVAL),
            ];
            for (step, (answer, wanted)) in answers.iter().zip(expected).enumerate() {
                check!(
                    *answer == wanted,
                    known,
                    "/",
                    other,
                    " step ",
                    step,
                    ": ",
                    *answer
                );
            }
        }
    }
    if longer.is_empty() {
        // SAFETY: (1) refused, or unregistered at once.
        let answers = unsafe { [call(at, LONG, 0), call(at, 32, 0), call(at, 32, 1)] };
        let [long, ..] = answers;
        let fits = answers == [Err(Errno::INVAL), Ok(()), Ok(())];
        check!(fits || ctx.facts.feature_size > 33, "length 33: ", long);
        return passed!("this kernel takes 32 only");
    }
    PASSED
}

/// 32-aligned is enough for length 32; more wants what auxv says. An [`Area`] always has it.
fn alignment(ctx: &Ctx<'_>) -> Verdict {
    let mut area = Raw([0; 32]);
    let aligned: *mut u8 = (&raw mut area).cast();
    let half = aligned.wrapping_add(32);
    let long = if ctx.facts.feature_size < 28 {
        LEGACY_LENGTH
    } else {
        LONG
    };
    for (at, length) in [(aligned, 32), (half, 32), (aligned, long), (half, long)] {
        // Up to 6.19 the demand is 32 for every length.
        let enough = length == 32 || at == aligned || ctx.facts.align <= 32;
        // SAFETY: (1) unregistered at once.
        let answers = unsafe { [call(at, length, 0), call(at, length, 1)] };
        let expected = if enough {
            [Ok(()), Ok(())]
        } else {
            [Err(Errno::INVAL); 2]
        };
        let [first, second] = answers;
        check!(
            answers == expected,
            length,
            " at ",
            at,
            ": ",
            first,
            ", ",
            second
        );
    }
    let unaligned = aligned.wrapping_add(16);
    // SAFETY: (1) refused.
    let answer = unsafe { call(unaligned, 32, 0) };
    check!(answer == Err(Errno::INVAL), "16-aligned: ", answer);
    // Behind one byte, and in an array: the type brings its own.
    #[repr(C)]
    struct Packed(u8, Area, u8, [Area; 2]);
    let packed = Packed(0, Area::new(), 0, [const { Area::new() }; 2]);
    let [one, two] = &packed.3;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    for area in [&packed.1, one, two] {
        // SAFETY: (1, 2, 3) ended before the memory is.
        let Ok(scoped) = (unsafe { RSEQ.scoped(area) }) else {
            check!(false, "create");
            return PASSED;
        };
        let registered = scoped.thread().state() == State::Registered(Owner::Runtime);
        check!(registered, "an area in a structure is not registered");
        check!(scoped.end().is_ok(), "end");
    }
    check!(
        RSEQ.length() == hooked::config(ctx.env).length(),
        "another length"
    );
    PASSED
}

/// Two processes at once, each with its own length.
fn both(ctx: &Ctx<'_>) -> Verdict {
    fn live(
        config: Config,
        here: &AtomicU32,
        there: &AtomicU32,
        rounds: u64,
    ) -> Result<(), Failed> {
        let area = begin(config)?;
        check!(RSEQ.length() == config.length(), "another length");
        // Both are registered before either goes on.
        here.store(1, Release);
        while there.load(Acquire) == 0 {
            sched::relax();
        }
        for _ in 0..rounds {
            let pair: [_; 2] = core::array::from_fn(|_| hooked::start_joinable(STACK, look, 0));
            for thread in pair {
                check!(thread?.join().is_ok(), "join");
            }
            let wrong = witness::first_wrong(witness::cpus(), area);
            check!(wrong.is_none(), "wrong on CPU ", wrong.unwrap_or(0));
        }
        check!(witness::kernel_knows(area), "not registered any more");
        Ok(())
    }
    let config = hooked::config(ctx.env);
    let page: *const [AtomicU32; 2] = mm::map_shared(mm::page_size())?.cast();
    // SAFETY: zeroed, never unmapped.
    let [ours, theirs] = unsafe { &*page };
    let rounds = ctx.scale(300, 20, 0);
    // SAFETY: (1) no other thread yet.
    let pid = unsafe { process::fork()? };
    if pid == 0 {
        exit_group(
            live(config.legacy_length(), theirs, ours, rounds)
                .is_err()
                .into(),
        );
    }
    live(config, ours, theirs, rounds)?;
    let status = wait(pid)?;
    check!(status == Status::Exited(0), "the other process ", status);
    passed!(
        "lengths ",
        config.length(),
        " and ",
        config.legacy_length().length()
    )
}
