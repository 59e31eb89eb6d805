//! Counting, timing, pinning, and the lines.

use std::arch::asm;
use std::hint::cold_path;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use rseq_rt::structures::CpuSet;

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

/// The same for a single operation that is to be repeated.
#[inline(always)]
pub fn each<T: Sink>(mut operation: impl FnMut() -> T) -> f64 {
    nanoseconds(|turns| (0..turns).for_each(|_| operation().sink()))
}

/// The same, for what is shorter than a turn of a loop: eight in each turn.
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

/// How many times [`each_of_sixteen!`] does it in a turn.
pub const SIXTEEN: usize = 16;

/// The same for sixteen in each turn, written out: each is told by a constant which one of them it is. A macro, since a
/// closure of this size is called, and not inlined; and its variables are copied, since what a closure captures is in
/// memory, and loaded again behind each section.
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

/// Nanoseconds of a cycle, by additions each of which needs the sum before it. Of two registers: some CPUs add a constant
/// in no cycle.
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

/// Where an answer goes: into a register, as far as the compiler can know. `std::hint::black_box` stores it to the
/// stack, and a third store beside the two of a section is half of its time.
pub trait Sink {
    /// Takes it.
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
                // SAFETY: an empty line.
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

/// The same reference, of which the compiler knows nothing more; in a register, for the same reason.
#[inline(always)]
pub fn hidden<T>(of: &T) -> &T {
    let mut pointer = ptr::from_ref(of);
    // SAFETY: an empty line: the pointer is the one that came in.
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
            // Another way than the measured one: aborts are counted elsewhere, and are rare.
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
    let set = CpuSet::allowed().expect("sched_getaffinity");
    set.iter().map(|cpu| cpu as usize).collect()
}

/// The last of them: the first one is where a machine serves its devices.
pub fn last_cpu() -> usize {
    cpus().last().copied().unwrap_or_default()
}

/// Keeps the calling thread on `cpu`.
pub fn pin(cpu: usize) {
    let one = CpuSet::one(cpu as u32);
    let answer = one.allow();
    assert_eq!(answer, Ok(()), "sched_setaffinity to CPU {cpu}");
}
