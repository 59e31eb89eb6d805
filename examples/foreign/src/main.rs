//! Per-CPU counters in the threads of std, rayon and tokio. The only unsafe code is the ledger's queries of the kernel.
//!
//! ```text
//! foreign-runtimes std|rayon|tokio libc|runtime
//! ```
//!
//! Starts and stops threads in many cycles. Exit status 0: each of them was registered by the named owner, agreed with
//! getcpu(2) on every CPU, counted, and was released before its end.

mod ledger;

use std::io;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use rseq_rt_std::{Support, on_thread_start, on_thread_stop};
use tokio::runtime::{Builder, Runtime};

/// Threads of one cycle.
const THREADS: usize = 4;
/// The number of cycles.
const CYCLES: usize = 200;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (cycle, owner): (fn() -> Outcome, _) = match *words {
        ["std", owner] => (own_threads, owner),
        ["rayon", owner] => (rayon_pool, owner),
        ["tokio", owner] => (tokio_runtime, owner),
        _ => return usage(),
    };
    let support = match owner {
        "libc" => Support::LibcRegistration,
        "runtime" => Support::OwnRegistration,
        _ => return usage(),
    };
    if let Err(error) = run(cycle) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    if ledger::verdict(support, CYCLES * THREADS) {
        println!("passed");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage() -> ExitCode {
    eprintln!("foreign-runtimes std|rayon|tokio libc|runtime");
    ExitCode::from(2)
}

fn run(cycle: fn() -> Outcome) -> Outcome {
    for number in 1..=CYCLES {
        cycle()?;
        ledger::settle(number * THREADS);
    }
    Ok(())
}

/// std's threads have no handlers and need none: the first use registers, the thread's end unregisters.
fn spawn(body: fn()) -> JoinHandle<()> {
    thread::spawn(move || {
        ledger::stopped_at_the_end();
        ledger::started();
        body();
    })
}

/// Half of them are joined, and half are not.
fn own_threads() -> Outcome {
    let threads: Vec<_> = (0..THREADS).map(|_| spawn(ledger::look)).collect();
    for thread in threads.into_iter().skip(THREADS / 2) {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    Ok(())
}

/// A pool whose workers are registered before their first task.
fn pool(workers: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .start_handler(|_| {
            on_thread_start();
            ledger::started();
        })
        .exit_handler(|_| {
            on_thread_stop();
            ledger::stopped();
        })
        .build()
}

/// A check on each worker.
fn rayon_pool() -> Outcome {
    let pool = pool(THREADS)?;
    pool.broadcast(|_| ledger::look());
    Ok(())
}

/// A runtime whose threads are registered before their first task, those for blocking work included.
fn executor(workers: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .on_thread_start(|| {
            on_thread_start();
            ledger::started();
        })
        .on_thread_stop(|| {
            on_thread_stop();
            ledger::stopped();
        })
        .build()
}

/// Tasks on the workers, and on the threads for blocking work.
fn tokio_runtime() -> Outcome {
    let runtime = executor(THREADS)?;
    let tasks: Vec<_> = (0..THREADS)
        .flat_map(|_| {
            [
                runtime.spawn(async { ledger::look() }),
                runtime.spawn_blocking(ledger::look),
            ]
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await?;
        }
        Ok::<(), tokio::task::JoinError>(())
    })?;
    Ok(())
}
