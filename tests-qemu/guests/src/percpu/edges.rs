//! Threads that may and may not run sections, bad input, copies of every length, and a section that is fatal.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::SeqCst;
use linux_raw_sys::general::{SIGSEGV, SIGUSR1};
use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{
    Commit, CpuId, Current, Index, Miss, MmCid, Operation, SectionSupport, Slots,
};
use rseq_rt::{Area, Errno as Raw, Kernel, Linux, Process, abi::Rseq};

use super::single::{End, OPS, once};
use super::slot::{self, BYTES, Node, Slot, WORD, slots};
use crate::arch::fill_registers;
use crate::harness::{Ctx, Needs, Test, forked, must_die, passed, skip};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::Hooks as _;
use crate::signals;
use crate::sys::process::{self, Status, exit_group};
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};
use crate::{other_calls_of_linux, witness};

pub const TESTS: &[Test] = &[
    Test::new("percpu/who-may", who_may),
    Test::new("percpu/no-slot-for-this-cpu", no_slot).needs(Needs::RSEQ.cpus(2)),
    Test::new("percpu/empty-and-different", misses).needs(Needs::RSEQ),
    Test::new("percpu/copies", copies).needs(Needs::RSEQ),
    Test::new("percpu/wrong-signature-is-fatal", wrong_signature).needs(Needs::RSEQ),
];

type Cpu<'a> = Option<Current<'a, CpuId>>;

/// Sections are refused before the probe, when unregistered, when lent, and after the exit.
fn who_may(ctx: &Ctx<'_>) {
    static AREA: Area = Area::new();
    let current = || -> Cpu<'static> { RSEQ.current_of(&AREA) };
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    let thread = RSEQ.create(&AREA).unwrap();
    assert!(current().is_none(), "allowed before the question");
    assert_eq!(
        RSEQ.section_support(),
        SectionSupport::NotAsked,
        "not asked"
    );
    let sections = RSEQ.allow_sections();
    assert_eq!(RSEQ.section_support(), sections, "forgotten");
    let live = ctx.facts.rseq.is_ok() && sections == SectionSupport::Allowed;
    assert_eq!(current().is_some(), live, "the thread itself");
    // SAFETY: as above.
    let by_mm_cid: Option<Current<'_, MmCid>> = unsafe { thread.current() };
    let has_it = live && RSEQ.feature_size() >= 28;
    assert_eq!(by_mm_cid.is_some(), has_it, "by concurrency id");
    let lent = thread.lend();
    assert!(current().is_none(), "while lent");
    lent.end();
    assert_eq!(current().is_some(), live, "after the loan");
    let other = Area::new();
    let unregistered: Cpu<'_> = RSEQ.current_of(&other);
    assert!(unregistered.is_none(), "an area that nobody registered");
    let _gone = hooked::release(thread).unwrap();
    assert!(current().is_none(), "after the exit hook");
    if !live {
        passed!("every thread goes without slots here");
    }
}

static AREA: Area = Area::new();

/// Registers the main thread permanently, and allows sections.
fn here<I: Index>(ctx: &Ctx<'_>) -> Option<Current<'static, I>> {
    super::init(ctx);
    slot::clear();
    let _ = RSEQ.create(&AREA).unwrap();
    RSEQ.current_of(&AREA)
}

const COMMITS: [Commit; 2] = [Commit::Relaxed, Commit::Release];
const ADD: Operation = Operation::Add {
    word: WORD,
    value: 1,
};

fn no_slot(ctx: &Ctx<'_>) {
    static ONE: [Slot; 1] = slot::new();
    static NODE: Node = Node::new();
    let (Some(current), Ok(few)) = (here::<CpuId>(ctx), Slots::<CpuId, Slot>::new(&ONE)) else {
        skip!("this kernel may run no sections");
    };
    for cpu in witness::cpus().iter() {
        sched::allow(0, &CpuSet::one(cpu)).unwrap();
        for commit in COMMITS {
            fill_registers();
            // SAFETY: (1, 2) the words of `Slot`.
            let added = unsafe { current.run(few, ADD, commit) };
            assert_eq!(added.is_ok(), cpu == 0, "an add on CPU {cpu}");
            if cpu != 0 {
                for nth in 0..OPS {
                    let end = once(nth, current, few, commit, &NODE, || {});
                    assert_eq!(end, End::Missed(Miss::OutOfRange), "operation {nth}");
                }
            }
        }
    }
    let [only] = &ONE;
    assert!(only.word.load(SeqCst) <= 2, "changed");
}

fn misses(ctx: &Ctx<'_>) {
    let Some(current) = here::<CpuId>(ctx) else {
        skip!("this kernel may run no sections");
    };
    misses_by(current);
    let current = RSEQ.current_of::<MmCid>(&AREA);
    if let Some(current) = current {
        slot::clear();
        let records = slot::all().flat_map(|slot| slot.records.as_flattened());
        records.for_each(|word| word.store(0, SeqCst));
        misses_by(current);
    }
}

fn misses_by<I: Index>(current: Current<'_, I>) {
    static NODE: Node = Node::new();
    let slots = slots::<I>().unwrap();
    NODE.next.store(0, SeqCst);
    sched::allow(0, &CpuSet::one(witness::cpus().iter().next().unwrap())).unwrap();
    let (word, second, from) = (WORD, slot::SECOND, [9u8; 8]);
    for commit in COMMITS {
        let as_it_is = slots.get(current.id()).unwrap().second.load(SeqCst);
        #[rustfmt::skip] // a table
        let operations = [
            Operation::Pop { word: slot::HEAD, empty: core::ptr::null_mut(), link: 0 },
            Operation::CompareAndStore { word, expect: 1, new: 2 },
            Operation::CompareTwoAndStore { word, expect: 0, second, expect_second: 1, new: 2 },
            Operation::CompareTwoAndStore { word, expect: 1, second, expect_second: as_it_is, new: 2 },
            Operation::CompareStoreAndStore { word, expect: 1, second, value: 0, new: 2 },
            Operation::CompareLinkAndStore { word: slot::HEAD, expect: 8, link: NODE.next.as_ptr(), new: 16 },
            Operation::CompareCopyAndStore { word, expect: 1, offset: BYTES, source: from.as_ptr(), length: 8, new: 2 },
        ];
        for (nth, operation) in operations.into_iter().enumerate() {
            fill_registers();
            // SAFETY: (1, 2, 3, 4) the words of `Slot`, and nothing is stored.
            let stored = unsafe { current.run(slots, operation, commit) };
            assert_eq!(stored, Err(Miss::Differs), "comparison {nth}");
        }
        let untouched = slots.iter().all(|slot| {
            slot.word.load(SeqCst) == 0
                && slot.head.load(SeqCst).is_null()
                && slot.second.load(SeqCst) == slot.target()
                && slot
                    .records
                    .iter()
                    .flatten()
                    .all(|word| word.load(SeqCst) == 0)
        });
        assert!(
            untouched && NODE.next.load(SeqCst) == 0,
            "something was stored"
        );
    }
    // And each of them the other way round.
    for nth in 0..OPS {
        let end = loop {
            match once(nth, current, slots, Commit::Release, &NODE, || {}) {
                End::Missed(Miss::Aborted) => {}
                end => break end,
            }
        };
        assert_eq!(end, End::Done, "operation {nth}");
    }
}

/// Every length, between all alignments, and not a byte more.
fn copies(ctx: &Ctx<'_>) {
    let Some(current) = here::<CpuId>(ctx) else {
        skip!("this kernel may run no sections");
    };
    let mut copied = copies_by(current);
    let current = RSEQ.current_of::<MmCid>(&AREA);
    copied += current.map_or(0, copies_by);
    passed!("{copied} copies");
}

fn copies_by<I: Index>(current: Current<'_, I>) -> u32 {
    const MAX: usize = 72;
    let slots = slots::<I>().unwrap();
    let from: [u8; MAX + 8] = core::array::from_fn(|nth| nth as u8 ^ 0xa5);
    let mut copied = 0;
    let places = (0..8).flat_map(|off| [(off, 0), (off, 3), (0, off)]);
    for length in 0..=MAX {
        for (commit, (off, to)) in COMMITS
            .into_iter()
            .flat_map(|commit| places.clone().map(move |place| (commit, place)))
        {
            let place = loop {
                let Some(slot) = slots.get(current.id()) else {
                    skip!("more CPUs than slots");
                };
                slot.records
                    .iter()
                    .flatten()
                    .for_each(|word| word.store(0, SeqCst));
                let word = slot.word.load(SeqCst);
                let source = &from[off..off + length];
                // SAFETY: (1, 2, 3, 4) MAX and eight bytes are in the records.
                let done = unsafe {
                    current.run(
                        slots,
                        Operation::CompareCopyAndStore {
                            word: WORD,
                            expect: word,
                            offset: BYTES + to,
                            source: source.as_ptr(),
                            length,
                            new: word + 1,
                        },
                        commit,
                    )
                };
                if done.is_ok() && slot.word.load(SeqCst) == word + 1 {
                    break slot;
                }
            };
            let base: *const AtomicUsize = place.records.as_ptr().cast();
            for nth in 0..MAX + 16 {
                // SAFETY: within the records.
                let byte = unsafe { base.cast::<u8>().add(nth).read_volatile() };
                let inside = nth.checked_sub(to).filter(|&at| at < length);
                let want = inside.map_or(0, |at| from[off + at]);
                assert_eq!(byte, want, "byte {nth} of {length} from {off} to {to}");
            }
            copied += 1;
        }
    }
    copied
}

/// A kernel that is given another signature than the sections carry.
struct Mislabelled;

// SAFETY: (1, 2, 3) everything is the real kernel's.
unsafe impl Kernel for Mislabelled {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Raw> {
        // SAFETY: (1) from the caller.
        unsafe { Linux.rseq(area, length, flags, signature ^ 1) }
    }

    fn release(&self) -> Result<[u8; 65], Raw> {
        Linux.release()
    }

    other_calls_of_linux!();
}

static STEPS: Steps = Steps::new();

/// The exit codes of [`interrupted`].
const NO_SECTIONS: i32 = 2;
const ABORTED: i32 = 7;

/// Stops in the middle of a section until a signal aborts it, and reports whether the process survived.
fn interrupted<K: Kernel>(process: &'static Process<K>, ctx: &Ctx<'_>) -> ! {
    static AREA: Area = Area::new();
    process.init(hooked::config(ctx.env)).unwrap();
    process.allow_sections();
    let _ = process.create(&AREA).unwrap();
    let current: Cpu<'_> = process.current_of(&AREA);
    let (Some(current), Some(slots)) = (current, slots()) else {
        exit_group(NO_SECTIONS)
    };
    let timer = time::timer_create(process::gettid(), SIGUSR1 as i32).unwrap();
    for _ in 0..50 {
        STEPS.left.store(2, SeqCst);
        STEPS.turns.store(u32::MAX, SeqCst);
        time::timer_once(timer, Span::millis(2)).unwrap();
        // SAFETY: (1, 2) a sum.
        if unsafe { current.stopping(slots, ADD, Commit::Relaxed, &STEPS) }.is_err() {
            exit_group(ABORTED);
        }
    }
    panic!("no section was aborted")
}

/// The broken variant beside the correct one: only the signature differs.
fn wrong_signature(ctx: &Ctx<'_>) {
    unsafe extern "C" fn go_on(_: i32, _: *mut linux_raw_sys::general::siginfo_t, _: *mut u8) {
        STEPS.turns.store(0, SeqCst);
    }
    static RIGHT: Process = Process::new();
    static WRONG: Process<Mislabelled> = Process::with_kernel(Mislabelled);
    // SAFETY: handle (1) one store.
    unsafe { signals::handle(SIGUSR1 as i32, go_on, 0) }.unwrap();
    let status = forked(|| interrupted(&RIGHT, ctx)).unwrap();
    if status == Status::Exited(NO_SECTIONS) {
        skip!("this kernel may run no sections");
    }
    assert_eq!(status, Status::Exited(ABORTED), "with the right signature");
    must_die(SIGSEGV as i32, || interrupted(&WRONG, ctx));
}
