//! The host's own kernel and libc: glibc's registration is found, read, and left alone.

use std::collections::BTreeSet;

use rseq_rt::abi::Rseq;
use rseq_rt::arch::SIGNATURE;
use rseq_rt::structures::CpuSet;
use rseq_rt::{
    Area, Config, Errno, Exit, ExitMode, Kernel, Linux, Owner, Process, SignalMask, State, Trio,
};

fn config() -> Config {
    // AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN.
    // SAFETY: getauxval(3) has no conditions.
    let ask = |kind| match unsafe { libc::getauxval(kind) } {
        0 => None,
        value => Some(value as usize),
    };
    Config::new(ask(27), ask(28))
}

/// `None` under a libc that does not register, and on a machine without rseq: the test does not apply there.
fn libc_trio() -> Option<Trio> {
    let trio = Linux.libc_trio().filter(|trio| trio.size != 0);
    if trio.is_none() {
        eprintln!("skipped: this libc has registered nothing");
    }
    trio
}

/// The only reliable query: a valid registration of a scratch area.
fn somebody_is_registered() -> bool {
    let scratch = Area::new();
    let area: *const Rseq = scratch.as_rseq();
    // SAFETY: Kernel::rseq (1): undone below, before the area is dropped.
    match unsafe { Linux.rseq(area, 32, 0, SIGNATURE) } {
        Ok(()) => {
            // SAFETY: as above.
            unsafe { Linux.rseq(area, 32, 1, SIGNATURE) }.expect("registered a moment ago");
            false
        }
        Err(errno) => {
            assert_eq!(errno, Errno::INVAL);
            true
        }
    }
}

fn libc_area(trio: Trio) -> *const Rseq {
    // SAFETY: thread_pointer (1): glibc has set it up.
    let pointer = unsafe { Linux.thread_pointer() };
    pointer.wrapping_offset(trio.offset).cast()
}

fn allowed_cpus() -> BTreeSet<usize> {
    let allowed = CpuSet::allowed().expect("sched_getaffinity");
    allowed.iter().map(|cpu| cpu as usize).collect()
}

fn move_to(cpu: usize) {
    let one = CpuSet::one(cpu as u32);
    assert_eq!(one.allow(), Ok(()));
}

/// Moves over every allowed CPU; reads agree with the kernel.
fn reads_agree(process: &Process, area: &Area) {
    let before = allowed_cpus();
    for &cpu in &before {
        move_to(cpu);
        assert_eq!(process.current_cpu(area), Ok(cpu as u32));
        let mut node = 0_u32;
        // SAFETY: getcpu(2) writes the word, and takes null for the others.
        unsafe { libc::syscall(libc::SYS_getcpu, 0, &raw mut node, 0) };
        assert_eq!(process.current_node(area), Ok(node));
    }
}

#[test]
fn its_registration_is_read_and_left_alone() {
    let Some(trio) = libc_trio() else { return };
    let process = Process::new();
    assert_eq!(process.init(config()), Ok(Some(Owner::Libc)));
    assert_eq!(process.length(), 0, "we register nothing");
    let theirs = libc_area(trio);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let area = Area::new();
                let theirs = libc_area(trio);
                assert!(somebody_is_registered());
                // SAFETY: on_thread_create (1, 2, 3): this thread's, and the kernel never learns of it.
                let thread = unsafe { process.on_thread_create(&area) }.expect("a new area");
                assert_eq!(thread.state(), State::Registered(Owner::Libc));
                assert!(somebody_is_registered());
                reads_agree(&process, &area);
                let mask = SignalMask::block_all().expect("no filter here");
                let exit = thread.on_exit_masked(ExitMode::Release, &mask);
                assert!(matches!(exit, Exit::Released(_)));
                mask.restore().expect("no filter here");
                assert!(somebody_is_registered(), "still theirs");
                // SAFETY: the libc's area of this thread, which lives as long as it does.
                let cpu = unsafe { &*theirs }
                    .cpu_id
                    .load(std::sync::atomic::Ordering::Relaxed);
                assert!(cpu >= 0, "still written by the kernel");
            });
        }
    });
    // SAFETY: as above, of the test's own thread.
    let cpu = unsafe { &*theirs }
        .cpu_id
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(cpu >= 0);
}

/// Falsely claimed as the runtime's: the kernel confirms the libc, and nothing breaks.
#[test]
fn a_false_claim_finds_out() {
    if libc_trio().is_none() {
        return;
    }
    let process = Process::new();
    let claim = config().claim(rseq_rt::Claim::Runtime);
    assert_eq!(process.init(claim), Ok(None));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let area = Area::new();
            // SAFETY: ensure_registered (1, 2): this thread's; refused, so that the kernel never writes to it.
            let state = unsafe { process.ensure_registered(&area) };
            assert_eq!(state, Ok(State::Unavailable(rseq_rt::Reason::Taken)));
            assert_eq!(process.owner(), None, "another thread may be free");
            assert!(somebody_is_registered(), "still theirs");
            reads_agree(&process, &area);
        });
    });
}

/// The kernel's own vector agrees with getauxval(3).
#[test]
fn auxv_from_proc() {
    let Ok(bytes) = std::fs::read("/proc/self/auxv") else {
        return;
    };
    let words: Vec<[usize; 2]> = bytes
        .chunks_exact(16)
        .map(|pair| {
            let (kind, value) = pair.split_at(8);
            [kind, value].map(|word| usize::from_ne_bytes(word.try_into().expect("8 bytes")))
        })
        .collect();
    assert_eq!(words.last().map(|pair| pair[0]), Some(0), "AT_NULL ends it");
    // SAFETY: from_auxv (1): pairs, the last of them AT_NULL.
    assert_eq!(unsafe { Config::from_auxv(words.as_ptr()) }, config());
}
