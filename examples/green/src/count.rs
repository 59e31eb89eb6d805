//! `green wc [PATH] [--queue percpu|mpmc|mutex|all] [--carriers M] [--green N]`: counts the words of a file tree, by
//! default of the current folder.
//!
//! `all` counts over each queue in turn, for a machine that is booted for this and powered off afterwards.

use alloc::ffi::CString;
use alloc::sync::Arc;
use core::ffi::CStr;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::structures::CpuSet;
use rustix::io::Errno;

use crate::arguments::Arguments;
use crate::carrier::Exit;
use crate::println;
use crate::queue::{MpmcQueue, MutexQueue, PercpuQueue, RunQueue};
use crate::runtime::Runtime;
use crate::slots::Count;
use crate::words::{self, Totals};

/// Errors outside the files.
const TROUBLE: i32 = 2;

/// Runs the command, after [`adopt_main`](crate::carrier::adopt_main).
pub fn main(arguments: Arguments<'_>) -> i32 {
    let path = arguments.nth(2).filter(|arg| !arg.starts_with(b"--"));
    let root = CString::new(path.unwrap_or(b".")).expect("an argument has no zero inside");
    let asked = |name| arguments.number_of(name);
    let cpus = CpuSet::allowed().map_or(1, |set| set.count());
    let carriers = asked("--carriers").unwrap_or(u64::from(cpus)).clamp(1, 64);
    let green = asked("--green").unwrap_or(64).clamp(1, 1 << 16) as usize;
    let done = match arguments.value_of("--queue").unwrap_or(b"percpu") {
        b"percpu" => run::<PercpuQueue>(&root, carriers, green),
        b"mutex" => run::<MutexQueue>(&root, carriers, green),
        b"mpmc" => run::<MpmcQueue>(&root, carriers, green),
        b"all" => run_over_all(&root, carriers, green),
        other => {
            println!("green wc: no such queue: {}", other.escape_ascii());
            return TROUBLE;
        }
    };
    done.unwrap_or_else(|why| {
        println!("green wc: {why}");
        TROUBLE
    })
}

fn run_over_all(root: &CStr, carriers: u64, at_once: usize) -> Result<i32, Errno> {
    let codes = [
        run::<PercpuQueue>(root, carriers, at_once)?,
        run::<MpmcQueue>(root, carriers, at_once)?,
        run::<MutexQueue>(root, carriers, at_once)?,
    ];
    Ok(codes.into_iter().max().unwrap_or(TROUBLE))
}

fn run<Q: RunQueue>(root: &CStr, carriers: u64, at_once: usize) -> Result<i32, Errno> {
    // One more for the walker.
    let runtime = Runtime::<Q>::leak(at_once + 1);
    for number in 0..carriers {
        let exit = if number % 2 == 0 {
            Exit::Joinable
        } else {
            Exit::Detached
        };
        runtime.start_carrier(exit)?;
    }
    let totals = Arc::new(Totals::default());
    let (of_walker, root) = (Arc::clone(&totals), CString::from(root));
    // SAFETY: (1) it keeps only paths, handles and counts across its switches.
    let walker = unsafe {
        runtime.spawn(move || {
            if words::walk(runtime, root, at_once, &of_walker).is_err() {
                of_walker.errors.fetch_add(1, Relaxed);
            }
        })
    };
    walker?.join();
    runtime.stop();
    words::report(&totals);
    let (switches, steals) = (runtime.sum(Count::Switches), runtime.sum(Count::Steals));
    println!(
        "queue {} carriers {carriers} switches {switches} steals {steals}",
        Q::NAME
    );
    Ok(i32::from(totals.errors.load(Relaxed) != 0))
}
