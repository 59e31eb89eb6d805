//! Threads that count, start and end; and the destructors that run as they end.
#![cfg(target_os = "linux")]

mod common;

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{allowed_cpus, run_on};
use rseq_rt_std::{
    Counter, Item, PerCpu, Pool, Support, current_cpu, on_thread_start, on_thread_stop,
    possible_cpus, support,
};

/// For the ignored tests below: a caller that knows the expected support runs one of them.
fn assert_support(right: fn(Support) -> bool) {
    let found = support();
    assert!(right(found), "{found}");
    let of_other = thread::spawn(support).join().expect("it asks");
    assert_eq!(of_other, found);
}

#[test]
#[ignore = "for a libc that registers"]
fn support_by_libc() {
    assert_support(|found| found == Support::LibcRegistration);
}

#[test]
#[ignore = "for a libc that does not register"]
fn support_by_own() {
    assert_support(|found| found == Support::OwnRegistration);
}

#[test]
#[ignore = "for a machine without rseq"]
fn support_by_atomics() {
    assert_support(|found| matches!(found, Support::Atomics(_)));
}

#[test]
fn every_cpu_is_told() {
    thread::spawn(|| {
        for cpu in allowed_cpus() {
            run_on(cpu);
            assert!(cpu < possible_cpus());
            assert_eq!(current_cpu(), cpu);
        }
    })
    .join()
    .expect("each of them");
}

#[test]
fn a_storm_of_threads_loses_nothing() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 20_000;
    let (counter, pool, cells) = (
        Counter::new(),
        Pool::new(),
        PerCpu::new(|| AtomicU64::new(0)),
    );
    let made = AtomicU64::new(0);
    let (cpus, here) = (allowed_cpus(), support());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (counter, pool, cells, made, cpus) = (&counter, &pool, &cells, &made, &cpus);
            scope.spawn(move || {
                assert_eq!(support(), here);
                for round in 0..ROUNDS {
                    counter.add(1);
                    cells.with(|cell| cell.fetch_add(1, Relaxed));
                    let item = pool.pop().unwrap_or_else(|| {
                        made.fetch_add(1, Relaxed);
                        Item::new(0u64)
                    });
                    // An item held by two threads would be detected here.
                    let mut item = item;
                    *item += 1;
                    pool.push(item);
                    if round % 1000 == 999 {
                        run_on(cpus[(number + round) as usize % cpus.len()]);
                        pool.drain().into_iter().for_each(|item| pool.push(item));
                    }
                }
            });
        }
    });
    assert_eq!(counter.sum(), THREADS * ROUNDS);
    assert_eq!(
        cells.iter().map(|cell| cell.load(Relaxed)).sum::<u64>(),
        THREADS * ROUNDS
    );
    let items = pool.drain();
    assert_eq!(items.len() as u64, made.load(Relaxed));
    assert_eq!(
        items.iter().map(|item| **item).sum::<u64>(),
        THREADS * ROUNDS
    );
}

#[test]
fn threads_come_and_go() {
    static COUNT: Counter = Counter::new();
    static ENDED: AtomicU64 = AtomicU64::new(0);
    const THREADS: u64 = 600;
    for number in 0..THREADS {
        let thread = thread::spawn(move || {
            if number % 3 == 0 {
                on_thread_start();
            }
            COUNT.add(1);
            if number % 5 == 0 {
                on_thread_stop();
                on_thread_stop();
                COUNT.add(1);
            }
            ENDED.fetch_add(1, SeqCst);
        });
        // Every other one is detached: musl unmaps its memory on the thread itself.
        if number % 2 == 0 {
            thread.join().expect("it counts");
        }
    }
    wait_for(|| ENDED.load(SeqCst) == THREADS);
    assert_eq!(COUNT.sum(), THREADS + THREADS.div_ceil(5));
    // The last ones end here.
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn destructors_count_as_well() {
    static COUNT: Counter = Counter::new();
    static POOL: Pool<u64> = Pool::new();

    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            COUNT.add(1);
            POOL.push(Item::new(1));
            let _ = current_cpu();
        }
    }
    thread_local! {
        static BEFORE: Counts = const { Counts };
        static AFTER: Counts = const { Counts };
    }
    const THREADS: u64 = 100;
    for number in 0..THREADS {
        let thread = thread::spawn(move || {
            // One is destroyed after the crate's own, one before it; or both first uses are in destructors.
            BEFORE.with(|_| ());
            if number % 4 != 0 {
                COUNT.add(0);
            }
            AFTER.with(|_| ());
        });
        thread.join().expect("it ends");
    }
    assert_eq!(COUNT.sum(), 2 * THREADS);
    assert_eq!(POOL.drain().len() as u64, 2 * THREADS);
}

/// A destructor that runs after the crate's own finds the thread left, and does not register it again.
#[test]
fn nothing_registers_behind_the_end() {
    static LATE: AtomicU64 = AtomicU64::new(0);
    static AGAIN: AtomicU64 = AtomicU64::new(0);
    struct Late(Support);
    impl Drop for Late {
        fn drop(&mut self) {
            LATE.fetch_add(1, SeqCst);
            let again = self.0 == Support::OwnRegistration && support() == self.0;
            AGAIN.fetch_add(u64::from(again), SeqCst);
        }
    }
    thread_local!(static LAST: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) });
    for _ in 0..20 {
        thread::spawn(|| {
            // Registered as a destructor before the crate's own one, so it runs after that.
            LAST.with(|_| ());
            LAST.set(Some(Late(support())));
        })
        .join()
        .expect("it ends");
    }
    assert_eq!((LATE.load(SeqCst), AGAIN.load(SeqCst)), (20, 0));
}

/// The libc continues to run the thread, which must still take signals: setuid(3) waits for all threads.
#[test]
fn signals_are_open_behind_the_end() {
    static OPEN: AtomicU64 = AtomicU64::new(0);
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            // SAFETY: zero is an empty set.
            let mut blocked: libc::sigset_t = unsafe { std::mem::zeroed() };
            // SAFETY: writes the local set.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut blocked) };
            // SAFETY: reads the local set.
            let open = unsafe { libc::sigismember(&raw const blocked, libc::SIGUSR1) } == 0;
            OPEN.fetch_add(u64::from(open), SeqCst);
        }
    }
    thread_local!(static LAST: Late = const { Late });
    for _ in 0..10 {
        thread::spawn(|| {
            LAST.with(|_| ());
            on_thread_start();
        })
        .join()
        .expect("it ends");
    }
    assert_eq!(OPEN.load(SeqCst), 10);
}

/// Each round of the destructors of thread-specific data, on a thread that has used the crate and on one that has not.
#[test]
fn the_last_round_of_destructors_counts() {
    static COUNT: Counter = Counter::new();
    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    static KEY: AtomicU64 = AtomicU64::new(0);
    const LAST: usize = 4;

    unsafe extern "C" fn round(value: *mut c_void) {
        // On a thread without earlier uses, the first use is in the last round: nobody ends its registration.
        if value.addr() >= LAST || value.addr() % 2 == 1 {
            COUNT.add(1);
            ROUNDS.fetch_add(1, SeqCst);
        }
        if value.addr() < LAST {
            let next = ptr::without_provenance::<c_void>(value.addr() + 1);
            // SAFETY: a key that was made, and a number as its value.
            unsafe { libc::pthread_setspecific(KEY.load(SeqCst) as libc::pthread_key_t, next) };
        }
    }
    let mut key = 0;
    // SAFETY: writes the local key.
    let made = unsafe { libc::pthread_key_create(&raw mut key, Some(round)) };
    assert_eq!(made, 0);
    KEY.store(u64::from(key), SeqCst);
    const THREADS: u64 = 60;
    for number in 0..THREADS {
        let thread = thread::spawn(move || {
            if number % 2 == 0 {
                COUNT.add(0);
            }
            let start = if number % 3 == 0 { LAST } else { 1 };
            let first = ptr::without_provenance::<c_void>(start);
            // SAFETY: as above.
            unsafe { libc::pthread_setspecific(KEY.load(SeqCst) as libc::pthread_key_t, first) };
            ENDED.fetch_add(1, SeqCst);
        });
        if number % 4 == 0 {
            thread.join().expect("it ends");
        }
    }
    wait_for(|| ENDED.load(SeqCst) == THREADS);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(COUNT.sum(), ROUNDS.load(SeqCst));
    assert!(COUNT.sum() >= THREADS / 2);
}

#[test]
fn handlers_count_as_well() {
    static COUNT: Counter = Counter::new();
    static HANDLED: AtomicU64 = AtomicU64::new(0);

    extern "C" fn handler(_: i32) {
        COUNT.add(1);
        let _ = current_cpu();
        HANDLED.fetch_add(1, Relaxed);
    }
    const ADDITIONS: u64 = 300_000;
    // In its own process, since the timer's signal may arrive on any thread, even one that has not used the crate.
    common::in_child(|| {
        on_thread_start();
        COUNT.add(0);
        let handler: extern "C" fn(i32) = handler;
        // SAFETY: a handler that only counts.
        unsafe { libc::signal(libc::SIGALRM, handler as libc::sighandler_t) };
        let often = libc::timeval {
            tv_sec: 0,
            tv_usec: 50,
        };
        let timer = libc::itimerval {
            it_interval: often,
            it_value: often,
        };
        // SAFETY: reads the local timer.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
        let begun = Instant::now();
        let mut added = 0;
        while added < ADDITIONS || (HANDLED.load(Relaxed) < 100 && begun.elapsed().as_secs() < 10) {
            COUNT.add(1);
            added += 1;
        }
        // SAFETY: no more of them.
        unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
        HANDLED.load(Relaxed) > 0 && COUNT.sum() == added + HANDLED.load(Relaxed)
    });
}

/// A task that is polled on one thread and on another in turn.
#[test]
fn a_task_counts_on_every_thread() {
    struct Twice(bool);
    impl Future for Twice {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }
    }
    static COUNT: Counter = Counter::new();
    static POOL: Pool<String> = Pool::new();
    const STEPS: u64 = 100;
    let task = async {
        for _ in 0..STEPS {
            let item = POOL.pop().unwrap_or_else(|| Item::new(String::new()));
            COUNT.add(1);
            Twice(false).await;
            COUNT.add(1);
            POOL.push(item);
        }
    };
    let mut task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
    loop {
        let polled = thread::spawn(move || {
            let ready = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            (task, ready.is_ready())
        });
        let (back, ready) = polled.join().expect("it is polled");
        task = back;
        if ready {
            break;
        }
    }
    assert_eq!(COUNT.sum(), 2 * STEPS);
}

/// Many threads that add at the same time.
#[test]
fn many_threads_at_once() {
    const THREADS: usize = 200;
    let counter = Arc::new(Counter::new());
    let all = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (counter, all) = (Arc::clone(&counter), Arc::clone(&all));
            thread::spawn(move || {
                all.wait();
                for _ in 0..100 {
                    counter.add(1);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it counts");
    }
    assert_eq!(counter.sum(), 100 * THREADS as u64);
}

fn wait_for(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed().as_secs() < 60, "it takes too long");
        thread::sleep(Duration::from_millis(1));
    }
}

/// All these tests in a program whose filter refuses rseq(2) from its start.
#[test]
fn all_of_this_under_a_filter() {
    use std::os::unix::process::CommandExt;
    let program = std::env::current_exe().expect("this one");
    let mut all = std::process::Command::new(program);
    all.args(["--skip", "filter", "--include-ignored"]).args([
        "--skip",
        "support_by_libc",
        "--skip",
        "support_by_own",
    ]);
    // SAFETY: between fork and exec, two system calls.
    unsafe { all.pre_exec(|| common::refuse(&[libc::SYS_rseq])) };
    let output = all.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("test result: ok. "), "{text}");
}
