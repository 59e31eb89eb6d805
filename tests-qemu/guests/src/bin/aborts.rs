//! Every operation, aborted by a signal handler in place of the kernel: each faults at its slot, and the handler sends
//! it to the abort handler of its descriptor. On the way through the abort handler and back to the start nothing
//! undeclared may change: a second fault at the same instruction must find the same registers, except for the count of
//! restarts. This detects a linker veneer in between. The runner links it anew with text between all parts that a
//! linker may separate, and by several linkers.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use guests::entry::Env;
use guests::sys::mm::{self, Access};
use guests::sys::process::exit_group;
use guests::{entry, hooked, linux, other_calls_of_linux, println, signals};
use linux_raw_sys::general::{SIGSEGV, siginfo_t};
use rseq_rt::abi::{Rseq, RseqCs};
use rseq_rt::percpu::{Commit, CpuId, Current, Miss, Operation, Slots};
use rseq_rt::{Area, Errno, Kernel, Process, arch};

entry!(main);

/// The real kernel, except that rseq(2) succeeds for any caller, on CPU 0.
struct Played;

// SAFETY: (1) it keeps no address and writes nothing later; (2, 3) the real kernel's.
unsafe impl Kernel for Played {
    unsafe fn rseq(&self, area: *const Rseq, _: u32, _: u32, _: u32) -> Result<(), Errno> {
        // SAFETY: (1) the caller's: memory of that type, with atomics in it.
        unsafe { (*area).cpu_id.store(0, Relaxed) };
        Ok(())
    }

    fn release(&self) -> Result<[u8; 65], Errno> {
        Ok(linux::release(b"7.2.0"))
    }

    other_calls_of_linux!();
}

static PROCESS: Process<Played> = Process::with_kernel(Played);
static AREA: Area = Area::new();

/// The general registers in the kernel's ucontext: their number, the offsets of the first and of the program counter.
#[cfg(target_arch = "x86_64")]
const CONTEXT: (usize, usize, usize) = (16, 40, 168);
#[cfg(target_arch = "aarch64")]
const CONTEXT: (usize, usize, usize) = (31, 184, 440);
#[cfg(target_arch = "riscv64")]
const CONTEXT: (usize, usize, usize) = (31, 184, 176);

/// The registers at the last fault.
static REGISTERS: [AtomicUsize; CONTEXT.0] = [const { AtomicUsize::new(0) }; CONTEXT.0];
static FAULTS: AtomicU32 = AtomicU32::new(0);

/// A fault outside of every section.
const OUTSIDE: i32 = 10;
/// No signature before the abort handler.
const NO_SIGNATURE: i32 = 11;
/// A register other than the count of restarts changed.
const CHANGED: i32 = 12;
/// The operation ended differently.
const WRONG_END: i32 = 13;
/// The setup failed.
const NO_SETUP: i32 = 14;

/// The number of restarts of an operation.
const RESTARTS: u32 = 3;

unsafe extern "C" fn abort(_: i32, _: *mut siginfo_t, context: *mut u8) {
    let (_, first, counter) = CONTEXT;
    // SAFETY: the kernel's ucontext; atomics of a static area; a descriptor of this program, or null.
    let (pc, descriptor, area) = unsafe {
        let area = &*AREA.as_rseq();
        let descriptor = area.rseq_cs.load(Relaxed) as usize;
        let descriptor = core::ptr::with_exposed_provenance::<RseqCs>(descriptor).as_ref();
        (context.add(counter).cast::<u64>(), descriptor, area)
    };
    // SAFETY: a word of the ucontext.
    let at = unsafe { pc.read() };
    let Some(descriptor) = descriptor else {
        exit_group(OUTSIDE)
    };
    if at.wrapping_sub(descriptor.start_ip) >= descriptor.post_commit_offset {
        exit_group(OUTSIDE);
    }
    let signature = core::ptr::with_exposed_provenance::<u32>(descriptor.abort_ip as usize - 4);
    // SAFETY: text of this program.
    if unsafe { signature.read_unaligned() } != arch::SIGNATURE {
        exit_group(NO_SIGNATURE);
    }
    let mut changed = 0;
    for (nth, before) in REGISTERS.iter().enumerate() {
        // SAFETY: within the registers, by `CONTEXT`.
        let now = unsafe { context.add(first + 8 * nth).cast::<usize>().read() };
        let before = before.swap(now, Relaxed);
        if FAULTS.load(Relaxed) == 0 || now == before {
            continue;
        }
        if now != before.wrapping_sub(1) {
            println!("register {nth} of the context was {before} and is {now}");
            exit_group(CHANGED);
        }
        changed += 1;
    }
    if FAULTS.fetch_add(1, Relaxed) != 0 && changed != 1 {
        exit_group(CHANGED);
    }
    area.rseq_cs.store(0, Relaxed);
    // SAFETY: a word of the ucontext.
    unsafe { pc.write(descriptor.abort_ip) };
}

/// The kernel knows no area, so no exit hook is called.
fn main(env: &Env) -> i32 {
    // SAFETY: (1, 2, 3) the only thread's, static.
    let registered = PROCESS.init(hooked::config(env)).is_ok()
        && unsafe { PROCESS.on_thread_create(&AREA) }.is_ok();
    PROCESS.allow_sections();
    // SAFETY: (1) its own; (2) no loan, and no exit hook.
    let current: Option<Current<'_, CpuId>> = unsafe { PROCESS.current(&AREA) };
    let memory = mm::map(mm::page_size(), Access::None);
    let (true, Some(current), Ok(memory)) = (registered, current, memory) else {
        return NO_SETUP;
    };
    // SAFETY: handle (1) a fault outside of a section ends the process.
    if unsafe { signals::handle(SIGSEGV as i32, abort, 0) }.is_err() {
        return NO_SETUP;
    }
    let current = current.restarts(RESTARTS);
    let base = memory.cast_const().cast::<[AtomicUsize; 16]>();
    // SAFETY: from_raw (1) one slot, which faults and is never accessed.
    let Ok(slots) = (unsafe { Slots::from_raw(base, 128, 1) }) else {
        return NO_SETUP;
    };
    let link = AtomicUsize::new(0);
    let (null, source) = (core::ptr::null_mut(), link.as_ptr().cast_const().cast());
    for commit in [Commit::Relaxed, Commit::Release] {
        for nth in 0..core::hint::black_box(8) {
            FAULTS.store(0, Relaxed);
            if nth > 8 {
                // SAFETY: never run. The function is longer than a conditional branch of riscv64 reaches.
                unsafe { asm!(".skip 16384") };
            }
            #[rustfmt::skip] // a table
            let operation = match nth {
                0 => Operation::Add { word: 0, value: 1 },
                1 => Operation::AddThrough { word: 0, offset: 0, value: 1 },
                2 => Operation::CompareAndStore { word: 0, expect: 0, new: 1 },
                3 => Operation::CompareTwoAndStore { word: 0, expect: 0, second: 8, expect_second: 0, new: 1 },
                4 => Operation::CompareStoreAndStore { word: 0, expect: 0, second: 8, value: 0, new: 1 },
                5 => Operation::CompareLinkAndStore { word: 0, expect: 0, link: link.as_ptr(), new: 1 },
                6 => Operation::Pop { word: 0, empty: null, link: 0 },
                _ => Operation::CompareCopyAndStore { word: 0, expect: 0, offset: 8, source, length: 8, new: 1 },
            };
            // SAFETY: (1, 2, 3) words of the slot, which the operation never reaches.
            let end = unsafe { current.run(slots, operation, commit) };
            let faults = FAULTS.load(Relaxed);
            if end != Err(Miss::Aborted) || faults != RESTARTS + 1 {
                println!("operation {nth} ended otherwise after {faults} faults");
                return WRONG_END;
            }
        }
    }
    println!("16 operations, each aborted {} times", RESTARTS + 1);
    0
}
