//! The demo: threads are created, registered, moved, and torn down with proof.

use core::fmt::Write as _;
use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32};

use rseq_rt::{Claim, ClearTid, Config, Owner, State, Thread};

use crate::entry::Env;
use crate::hooked::{self, Hooked, Joinable, RSEQ};
use crate::println;
use crate::stack::Stack;
use crate::sys::sched::{self, CpuSet};
use crate::sys::{mm, process};
use crate::text::Text;

const STACK_SIZE: usize = 32 * 1024;
const DEFAULT_THREADS: usize = 16;
const MOST_THREADS: usize = 4096;

/// The findings of one thread, written by it and read after its end. All zeroes: not filled yet.
#[derive(Default)]
struct Row {
    started: AtomicBool,
    cpu_before: AtomicU32,
    cpu_after: AtomicU32,
    node: AtomicU32,
    mm_cid: AtomicU32,
    has_mm_cid: AtomicBool,
    registered: AtomicBool,
    moves: AtomicU32,
    refused: AtomicU32,
    agreed: AtomicBool,
    filled: AtomicBool,
    clear_tid: ClearTid,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reclaimed {
    ByJoiner,
    ByItself,
    WithProcess,
    Not,
}

#[derive(Default)]
struct Totals {
    threads: usize,
    registered: usize,
    agreed: usize,
    reclaimed: usize,
    moves: u32,
    refused: u32,
}

/// Runs the demo; 0 if every thread was registered, agreed with getcpu(2) and was reclaimed with proof.
pub fn run(env: &Env) -> i32 {
    match demo(env) {
        Ok(()) => {
            println!("@demo passed");
            0
        }
        Err(why) => {
            println!("@demo failed: {why}");
            1
        }
    }
}

fn demo(env: &Env) -> Result<(), &'static str> {
    let threads = env
        .value_of("--threads")
        .map_or(Some(DEFAULT_THREADS), decimal);
    let threads = threads.filter(|count| (1..=MOST_THREADS).contains(count));
    let threads = threads.ok_or("--threads wants a number from 1 to 4096")?;
    let numbers = env.value_of("--cpu-numbers").map_or(Some(0), decimal);
    if !numbers.is_some_and(|most| sched::numbers().is_ok_and(|numbers| numbers >= most)) {
        return Err("this kernel has no room for so many CPUs");
    }
    let count = 1 + 2 * threads;
    let rows = rows(count).ok_or("no memory for the rows")?;

    let config = hooked::config(env);
    if !is_told_alike(config) {
        return Err("the kernel tells another auxv than it has laid on the stack");
    }
    RSEQ.init(config).map_err(|_| "init was called before")?;
    // SAFETY: (1) once, on the main thread, which ends with the process.
    let main = unsafe { hooked::adopt_main() }.map_err(|_| "the main thread's create hook")?;
    banner(threads);

    let (main_row, others) = rows.split_first().ok_or("no rows")?;
    let (joinable, detached) = others.split_at_checked(threads).ok_or("no rows")?;
    observe(&main, main_row);

    // Alternating: both kinds alive at the same time.
    let joiners = start_all(joinable, detached)?;
    let mut totals = Totals::default();
    println!("thread kind cpu_before cpu_after node mm_cid owner state exit reclaimed agreed");
    report(&mut totals, 0, "main", main_row, Reclaimed::WithProcess);
    for (index, row) in joinable.iter().enumerate() {
        // SAFETY: start_all filled as many joiners as there are rows, and each is taken once.
        let joiner = unsafe { joiners.add(index).read() };
        let reclaimed = match joiner.join() {
            Ok(()) => Reclaimed::ByJoiner,
            Err(_) => Reclaimed::Not,
        };
        report(&mut totals, 1 + index, "joinable", row, reclaimed);
    }
    for (index, row) in detached.iter().enumerate() {
        // The thread unmapped its stack; the end of the task itself remains to be proven.
        let reclaimed = match row.clear_tid.wait() {
            Ok(_proof) => Reclaimed::ByItself,
            Err(_) => Reclaimed::Not,
        };
        report(&mut totals, 1 + threads + index, "detached", row, reclaimed);
    }
    verdict(env, &totals)
}

/// Before Linux 6.4 an init without /proc cannot find out.
fn is_told_alike(config: Config) -> bool {
    let nothing = Config::new(None, None).claim(Claim::Runtime);
    let told = Config::from_kernel().claim(Claim::Runtime);
    told == config || told == nothing
}

fn rows(count: usize) -> Option<&'static [Row]> {
    let bytes = mm::whole_pages(count.checked_mul(size_of::<Row>())?);
    let base = mm::map(bytes, mm::Access::ReadWrite).ok()?.cast::<Row>();
    for index in 0..count {
        // SAFETY: inside the new mapping, page-aligned, nobody else's.
        unsafe { base.add(index).write(Row::default()) };
    }
    // SAFETY: written above, never unmapped, and only atomics change from here on.
    Some(unsafe { core::slice::from_raw_parts(base, count) })
}

fn start_all(
    joinable: &'static [Row],
    detached: &'static [Row],
) -> Result<*const Joinable, &'static str> {
    let bytes = mm::whole_pages(size_of_val(joinable).max(joinable.len() * size_of::<Joinable>()));
    let joiners = mm::map(bytes, mm::Access::ReadWrite).map_err(|_| "no memory for the joiners")?;
    let joiners = joiners.cast::<Joinable>();
    for (index, (joined, gone)) in joinable.iter().zip(detached).enumerate() {
        let argument = core::ptr::from_ref(joined).expose_provenance();
        let thread = hooked::start_joinable(STACK_SIZE, body, argument)
            .map_err(|_| "a joinable thread did not start")?;
        // SAFETY: one of at most joinable.len() places in the mapping.
        unsafe { joiners.add(index).write(thread) };
        let argument = core::ptr::from_ref(gone).expose_provenance();
        Stack::map(STACK_SIZE)
            .and_then(|stack| hooked::start_watched(stack, body, argument, &gone.clear_tid))
            .map_err(|_| "a detached thread did not start")?;
    }
    Ok(joiners)
}

fn body(thread: &Thread<'_>, hooked: &Hooked) {
    // SAFETY: start_all passed a row, and rows live for ever.
    let row: &Row = unsafe { &*core::ptr::with_exposed_provenance(hooked.argument) };
    observe(thread, row);
}

/// Reads the ids, then moves to every allowed CPU and compares with getcpu(2) on each.
fn observe(thread: &Thread<'_>, row: &Row) {
    let area = thread.area();
    row.started.store(true, Relaxed);
    row.registered
        .store(thread.state() == State::Registered(Owner::Runtime), Relaxed);
    row.cpu_before
        .store(RSEQ.current_cpu(area).unwrap_or(u32::MAX), Relaxed);
    let allowed = sched::allowed().unwrap_or(CpuSet::empty());
    let tid = process::gettid();
    let mut agreed = true;
    for cpu in allowed.iter() {
        if sched::allow(tid, &CpuSet::one(cpu)).is_err() {
            row.refused.fetch_add(1, Relaxed);
            continue;
        }
        agreed &= RSEQ.current_cpu(area) == Ok(cpu);
        agreed &= sched::getcpu()
            .is_ok_and(|(now, node)| now == cpu && RSEQ.current_node(area) == Ok(node));
        row.moves.fetch_add(1, Relaxed);
    }
    row.agreed
        .store(agreed && row.moves.load(Relaxed) > 0, Relaxed);
    row.cpu_after
        .store(RSEQ.current_cpu(area).unwrap_or(u32::MAX), Relaxed);
    row.node
        .store(RSEQ.current_node(area).unwrap_or(u32::MAX), Relaxed);
    if let Some(mm_cid) = RSEQ.current_mm_cid(area) {
        row.mm_cid.store(mm_cid, Relaxed);
        row.has_mm_cid.store(true, Relaxed);
    }
    let _ = sched::allow(tid, &allowed);
    row.filled.store(true, Release);
}

fn banner(threads: usize) {
    let cpus = sched::allowed().map_or(0, |set| set.count());
    println!(
        "# rseq-rt: a main thread, {threads} joinable and {threads} self-unmapping threads on {cpus} CPUs"
    );
    let (length, fields) = (RSEQ.length(), RSEQ.feature_size());
    match (RSEQ.owner(), RSEQ.reason()) {
        (Some(Owner::Runtime), _) => {
            println!("# rseq: registered with length {length}, {fields} bytes of fields");
        }
        (_, Some(reason)) => println!("# rseq: unavailable: {}", reason.as_str()),
        _ => println!("# rseq: not decided"),
    }
}

fn report(totals: &mut Totals, number: usize, kind: &str, row: &Row, reclaimed: Reclaimed) {
    let filled = row.filled.load(core::sync::atomic::Ordering::Acquire);
    let registered = row.registered.load(Relaxed);
    let agreed = filled && row.agreed.load(Relaxed);
    totals.threads += 1;
    totals.registered += usize::from(filled && registered);
    totals.agreed += usize::from(agreed);
    totals.reclaimed += usize::from(reclaimed != Reclaimed::Not);
    totals.moves += row.moves.load(Relaxed);
    totals.refused += row.refused.load(Relaxed);
    let (before, after) = (row.cpu_before.load(Relaxed), row.cpu_after.load(Relaxed));
    let node = row.node.load(Relaxed);
    let mut mm_cid = Text::new();
    let _ = match row.has_mm_cid.load(Relaxed) {
        true => write!(mm_cid, "{}", row.mm_cid.load(Relaxed)),
        false => write!(mm_cid, "-"),
    };
    let owner = match RSEQ.owner() {
        Some(Owner::Runtime) => "runtime",
        Some(Owner::Libc) => "libc",
        _ => "nobody",
    };
    let state = state(registered);
    let exit = match kind {
        "main" => "process",
        "joinable" => "keep",
        _ => "release",
    };
    let reclaimed = match reclaimed {
        Reclaimed::ByJoiner => "joiner:clear-tid",
        Reclaimed::ByItself => "itself:unregister",
        Reclaimed::WithProcess => "process",
        Reclaimed::Not => "no",
    };
    let agreed = if agreed { "yes" } else { "no" };
    println!(
        "{number} {kind} {before} {after} {node} {mm_cid} {owner} {state} {exit} {reclaimed} {agreed}"
    );
}

/// One word, since blanks separate columns.
fn state(registered: bool) -> Text {
    let mut word = Text::new();
    if registered {
        word.push(b"registered");
        return word;
    }
    let reason = RSEQ.reason().map_or("unknown", |reason| reason.as_str());
    word.push(b"unavailable:");
    for byte in reason.bytes() {
        word.push(&[if byte == b' ' { b'-' } else { byte }]);
    }
    word
}

fn verdict(env: &Env, totals: &Totals) -> Result<(), &'static str> {
    println!("@total threads {}", totals.threads);
    println!("@total registered {}", totals.registered);
    println!("@total unavailable {}", totals.threads - totals.registered);
    println!("@total agreed {}", totals.agreed);
    println!("@total reclaimed {}", totals.reclaimed);
    println!("@total moves {}", totals.moves);
    // Under an emulator without rseq the rest must still work; anywhere else a missing registration is a failure.
    let wanted = if env.has("--expect-unavailable") {
        0
    } else {
        totals.threads
    };
    if totals.registered != wanted {
        return Err("not every thread was registered as expected");
    }
    if totals.refused != 0 {
        return Err(
            "the system refused a thread a CPU of its own set (offline, or taken out of the cpuset meanwhile)",
        );
    }
    if totals.agreed != totals.threads {
        return Err("a thread read another CPU than getcpu(2) says");
    }
    if totals.reclaimed != totals.threads {
        return Err("a thread was not reclaimed with proof");
    }
    Ok(())
}

fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0usize, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + usize::from(digit - b'0'))
    })
}
