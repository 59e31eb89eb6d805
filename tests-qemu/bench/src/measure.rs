//! Counting, timing, pinning, and output.

use std::arch::asm;
use std::hint::cold_path;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use rseq_rt::structures::CpuSet;

/// Batches of one value, which is their median, so that an interruption spoils none.
const BATCHES: usize = 5;

/// The time for one value.
pub fn time() -> Duration {
    let said = std::env::var("BENCH_MS").ok();
    let millis = said.and_then(|text| text.parse().ok()).unwrap_or(10);
    Duration::from_millis(millis)
}

/// Nanoseconds per turn. `batch` runs the given number of turns, which is doubled until a batch takes its share of the
/// time; that is also the warm-up. Nothing is subtracted: the value includes the loop.
pub fn nanoseconds(mut batch: impl FnMut(u64)) -> f64 {
    let share = time() / BATCHES as u32;
    let mut once = |turns: u64| {
        let start = Instant::now();
        batch(turns);
        start.elapsed()
    };
    let mut turns = 8;
    while once(turns) < share / 2 && turns < 1 << 40 {
        turns *= 2;
    }
    let mut values: Vec<f64> = (0..BATCHES)
        .map(|_| once(turns).as_secs_f64() * 1e9 / turns as f64)
        .collect();
    values.sort_by(f64::total_cmp);
    values[BATCHES / 2]
}

/// The same for a single operation, to be repeated.
#[inline(always)]
pub fn each<T: Sink>(mut operation: impl FnMut() -> T) -> f64 {
    nanoseconds(|turns| (0..turns).for_each(|_| operation().sink()))
}

/// The same for code shorter than a loop iteration: eight in each turn.
#[inline(always)]
pub fn each_of_eight<T: Sink>(mut operation: impl FnMut() -> T) -> f64 {
    nanoseconds(|turns| {
        for _ in 0..turns.div_ceil(8) {
            operation().sink();
            operation().sink();
            operation().sink();
            operation().sink();
            operation().sink();
            operation().sink();
            operation().sink();
            operation().sink();
        }
    })
}

/// The number of repetitions in one turn of [`each_of_sixteen!`].
pub const SIXTEEN: usize = 16;

/// The same for sixteen in each turn, unrolled: each gets its index as a constant. A macro, since a closure of this
/// size is called rather than inlined; its variables are copies, since captured ones are in memory and reloaded after
/// each section.
macro_rules! each_of_sixteen {
    ($($variable:ident),* => |$nth:ident| $operation:expr) => {
        $crate::measure::nanoseconds(|turns| {
            $(let $variable = $variable;)*
            for _ in 0..turns.div_ceil($crate::measure::SIXTEEN as u64) {
                each_of_sixteen!(@in_turn $nth, $operation, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            }
        })
    };
    (@in_turn $nth:ident, $operation:expr, $($number:literal)*) => {
        $({
            let $nth: usize = $number;
            $crate::measure::Sink::sink($operation);
        })*
    };
}
pub(crate) use each_of_sixteen;

/// Nanoseconds per cycle, by additions each of which depends on the previous sum. Of two registers: some CPUs add a
/// constant in zero cycles.
pub fn cycle() -> f64 {
    const STEPS: usize = 64;
    let (mut sum, one) = (0usize, 1usize);
    nanoseconds(|turns| {
        for _ in 0..turns.div_ceil(STEPS as u64) {
            // SAFETY: two registers.
            unsafe {
                #[cfg(target_arch = "x86_64")]
                asm!(".rept {n}", "add {sum}, {one}", ".endr", n = const STEPS, sum = inout(reg) sum, one = in(reg) one, options(nomem, nostack));
                #[cfg(not(target_arch = "x86_64"))]
                asm!(".rept {n}", "add {sum}, {sum}, {one}", ".endr", n = const STEPS, sum = inout(reg) sum, one = in(reg) one, options(nomem, nostack));
            }
        }
    })
}

/// Consumes a result in a register, as far as the compiler knows. `std::hint::black_box` stores it to the stack, and a
/// third store beside the two of a section is half of its time.
pub trait Sink {
    fn sink(self);
}

impl Sink for () {
    #[inline(always)]
    fn sink(self) {}
}

macro_rules! in_a_register {
    ($($kind:ty),*) => {$(
        impl Sink for $kind {
            #[inline(always)]
            fn sink(self) {
                // SAFETY: no instructions.
                unsafe { asm!("/* {} */", in(reg) self as usize, options(nomem, nostack, preserves_flags)) }
            }
        }
    )*};
}

in_a_register!(bool, i32, u32, usize);

impl<T> Sink for *mut T {
    #[inline(always)]
    fn sink(self) {
        self.addr().sink();
    }
}

impl<T> Sink for NonNull<T> {
    #[inline(always)]
    fn sink(self) {
        self.as_ptr().sink();
    }
}

/// The same reference, hidden from the compiler; in a register, for the same reason.
#[inline(always)]
pub fn hidden<T>(of: &T) -> &T {
    let mut pointer = ptr::from_ref(of);
    // SAFETY: no instructions: the pointer is unchanged.
    unsafe {
        asm!("/* {} */", inout(reg) pointer, options(nostack, preserves_flags));
        &*pointer
    }
}

impl<T: Sink> Sink for Option<T> {
    #[inline(always)]
    fn sink(self) {
        match self {
            Some(answer) => answer.sink(),
            // Not the measured path: aborts are counted elsewhere, and are rare.
            None => cold_path(),
        }
    }
}

impl<T: Sink, E> Sink for Result<T, E> {
    #[inline(always)]
    fn sink(self) {
        self.ok().sink();
    }
}

/// Prints a line: `what` describes the value in the table. ASCII, without quotes or backslashes.
pub fn tell(name: &str, variant: &str, value: f64, what: &str) {
    println!(r#"{{"name":{name:?},"variant":{variant:?},"ns":{value:.4},"what":{what:?}}}"#);
}

/// Prints a line for a value that is not a time.
pub fn tell_in(unit: &str, name: &str, variant: &str, value: f64, what: &str) {
    println!(
        r#"{{"name":{name:?},"variant":{variant:?},"value":{value:.4},"unit":{unit:?},"what":{what:?}}}"#
    );
}

/// The CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    let set = CpuSet::allowed().expect("sched_getaffinity");
    set.iter().map(|cpu| cpu as usize).collect()
}

/// The last CPU that this process may use: the first one often serves devices.
pub fn last_cpu() -> usize {
    cpus().last().copied().unwrap_or_default()
}

/// Pins the calling thread to `cpu`.
pub fn pin(cpu: usize) {
    let one = CpuSet::one(cpu as u32);
    let answer = one.allow();
    assert_eq!(answer, Ok(()), "sched_setaffinity to CPU {cpu}");
}
