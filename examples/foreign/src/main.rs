//! rseq-rt in the threads of others: std's, rayon's and tokio's, through their start and stop handlers.
//!
//! ```text
//! foreign-runtimes std|rayon|tokio libc|runtime
//! ```
//!
//! Starts and stops threads in many cycles. Exit status 0: each of them was registered by the owner that is named,
//! agreed with getcpu(2) on every CPU, and was let go before its area's memory was.

mod executor;
mod hooks;
mod ledger;
mod own;
mod pool;

use std::process::ExitCode;

use rseq_rt::Owner;

/// Threads of one cycle.
const THREADS: usize = 4;
/// How often they are started and stopped.
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
    let owner = match owner {
        "libc" => Owner::Libc,
        "runtime" => Owner::Runtime,
        _ => return usage(),
    };
    if let Err(error) = run(cycle) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    if ledger::verdict(owner, CYCLES * THREADS) {
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
    hooks::init()?;
    for number in 1..=CYCLES {
        cycle()?;
        ledger::settle(number * THREADS);
    }
    Ok(())
}

/// Half of them are joined, and half are not.
fn own_threads() -> Outcome {
    let threads: Vec<_> = (0..THREADS).map(|_| own::spawn(ledger::look)).collect();
    for thread in threads.into_iter().skip(THREADS / 2) {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

/// Each worker looks.
fn rayon_pool() -> Outcome {
    let pool = pool::build(THREADS)?;
    pool.broadcast(|_| ledger::look());
    Ok(())
}

/// Tasks on the workers, and beside them.
fn tokio_runtime() -> Outcome {
    let runtime = executor::build(THREADS)?;
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
