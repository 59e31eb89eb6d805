//! The joiner's wait: no proof before the end, but one after it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::fake::generation::LINUX_7_1;
use crate::fake::{Answers, Call, Machine, PLAIN};
use rseq_rt::{ClearTid, Errno, Error};

/// The word as the kernel sees it.
fn word(clear_tid: &ClearTid) -> &AtomicU32 {
    // SAFETY: the address of an AtomicU32 that lives as long as the reference.
    unsafe { AtomicU32::from_ptr(clear_tid.as_ptr()) }
}

#[test]
fn before_the_thread_starts() {
    let clear_tid = ClearTid::default();
    assert!(clear_tid.try_reclaim().is_none());
    assert_eq!(clear_tid.tid(), None);
    word(&clear_tid).store(4711, Relaxed);
    assert_eq!(clear_tid.tid(), Some(4711));
    assert!(clear_tid.try_reclaim().is_none());
    word(&clear_tid).store(0, Relaxed);
    assert_eq!(clear_tid.tid(), None);
    let proof = clear_tid.try_reclaim().expect("the thread has ended");
    clear_tid.rearm(&proof);
    assert!(clear_tid.try_reclaim().is_none());
}

#[test]
fn spurious_wakes_prove_nothing() {
    let machine = Machine::new(LINUX_7_1, PLAIN);
    let clear_tid = ClearTid::new();
    machine.futex_noise.set(7);
    machine.dying.set(Some(0));
    assert!(clear_tid.wait_on(&&machine).is_ok());
    assert_eq!(machine.count(Call::Futex), 8);
    assert!(clear_tid.wait_on(&&machine).is_ok());
    assert_eq!(machine.count(Call::Futex), 8, "no call for what is known");
}

#[test]
fn refused() {
    for errno in [Errno::PERM, Errno::NOSYS, Errno::INVAL, Errno::FAULT] {
        for from in [1, 3] {
            let machine = Machine::new(LINUX_7_1, Answers::refusing(Call::Futex, from, errno));
            machine.futex_noise.set(5);
            let clear_tid = ClearTid::new();
            let outcome = clear_tid.wait_on(&&machine);
            assert_eq!(outcome.err(), Some(Error::Futex(errno)));
            assert!(clear_tid.try_reclaim().is_none());
            assert_eq!(machine.count(Call::Futex), from);
        }
    }
}

/// The real futex, with a thread in the role of the kernel: tid, then a spurious wake, then zero and wake.
#[test]
#[cfg_attr(miri, ignore = "asks the real kernel")]
fn real_futex() {
    for _ in 0..200 {
        let clear_tid = ClearTid::new();
        let payload = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let word = word(&clear_tid);
                word.store(4711, Relaxed);
                wake(word);
                payload.store(1, Relaxed);
                word.store(0, Release);
                wake(word);
            });
            assert!(clear_tid.wait().is_ok());
            assert_eq!(word(&clear_tid).load(Acquire), 0);
            assert_eq!(payload.load(Relaxed), 1, "what the thread did is seen");
        });
    }
}

/// As the kernel at task exit: a shared wake of one.
fn wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE reads no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// The kernel's own wake, at the end of a thread that names the word itself.
#[test]
#[cfg_attr(miri, ignore = "asks the real kernel")]
fn real_task_exit() {
    let clear_tid = Box::leak(Box::new(ClearTid::new()));
    let mut stack = vec![0_u8; 64 * 1024];
    extern "C" fn end_at_once(_: *mut libc::c_void) -> i32 {
        // SAFETY: exit(2) of this task only. It touches no TLS, which it shares with its parent.
        unsafe { rseq_rt::arch::exit_thread(0) }
    }
    // SAFETY: a separate stack; the child only exits, and `stack` outlives it.
    let tid = unsafe {
        libc::clone(
            end_at_once,
            stack.as_mut_ptr().add(stack.len()).cast(),
            libc::CLONE_VM
                | libc::CLONE_FS
                | libc::CLONE_FILES
                | libc::CLONE_SIGHAND
                | libc::CLONE_THREAD
                | libc::CLONE_SYSVSEM
                | libc::CLONE_CHILD_CLEARTID,
            std::ptr::null_mut::<libc::c_void>(),
            std::ptr::null_mut::<libc::c_void>(),
            std::ptr::null_mut::<libc::c_void>(),
            clear_tid.as_ptr(),
        )
    };
    assert!(tid > 0);
    assert!(clear_tid.wait().is_ok());
}
