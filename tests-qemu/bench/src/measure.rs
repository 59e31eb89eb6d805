//! Counting, timing, pinning, and the lines.

use std::time::{Duration, Instant};

/// Batches of one value; the value is the one in the middle, so that an interruption spoils none.
const BATCHES: usize = 5;

/// How long one value is measured.
pub fn time() -> Duration {
    let said = std::env::var("BENCH_MS").ok();
    let millis = said.and_then(|text| text.parse().ok()).unwrap_or(10);
    Duration::from_millis(millis)
}

/// Nanoseconds of one turn. `batch` does as many turns as it is told.
///
/// The count is doubled until a batch takes its share of the time, which is the warm-up as well.
/// Nothing is subtracted: the loop around is in the value.
pub fn nanoseconds(mut batch: impl FnMut(u64)) -> f64 {
    let share = time() / BATCHES as u32;
    let mut once = |turns: u64| {
        let start = Instant::now();
        batch(turns);
        start.elapsed()
    };
    let mut turns = 1;
    while once(turns) < share / 2 && turns < 1 << 40 {
        turns *= 2;
    }
    let mut values: Vec<f64> = (0..BATCHES)
        .map(|_| once(turns).as_secs_f64() * 1e9 / turns as f64)
        .collect();
    values.sort_by(f64::total_cmp);
    values[BATCHES / 2]
}

/// The same for a single operation that is to be repeated.
#[inline(always)]
pub fn each<T>(mut operation: impl FnMut() -> T) -> f64 {
    nanoseconds(|turns| {
        for _ in 0..turns {
            std::hint::black_box(operation());
        }
    })
}

/// One line: `what` is measured, for the table. The words are ASCII, and have neither quotes nor backslashes.
pub fn tell(name: &str, variant: &str, value: f64, what: &str) {
    println!(r#"{{"name":{name:?},"variant":{variant:?},"ns":{value:.4},"what":{what:?}}}"#);
}

/// One line of a value that is no time.
pub fn tell_in(unit: &str, name: &str, variant: &str, value: f64, what: &str) {
    println!(
        r#"{{"name":{name:?},"variant":{variant:?},"value":{value:.4},"unit":{unit:?},"what":{what:?}}}"#
    );
}

/// The CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    // SAFETY: all zeroes is an empty set; the call fills it to its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
        set
    };
    // SAFETY: below the size of the set.
    let has = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    (0..libc::CPU_SETSIZE as usize).filter(has).collect()
}

/// The last of them: the first one is where a machine serves its devices.
pub fn last_cpu() -> usize {
    cpus().last().copied().unwrap_or_default()
}

/// Keeps the calling thread on `cpu`.
pub fn pin(cpu: usize) {
    // SAFETY: all zeroes is an empty set; `cpu` came from such a set; the call reads it.
    let answer = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    assert_eq!(answer, 0, "sched_setaffinity to CPU {cpu}");
}
