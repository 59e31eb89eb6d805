//! Any auxv: the resulting configuration, and a life with it on each kernel.
//!
//! The vectors of `auxv.txt` come first, then `RSEQ_RT_FUZZ_INPUTS` of `RSEQ_RT_FUZZ_SEED`. A failing one is printed as
//! a line for that file.

use std::env;

use crate::fake::generation::ALL;
use crate::fake::{Generation, Hooks as _, Machine, PLAIN};
use rseq_rt::{Area, Claim, Config, Exit, ExitMode, Owner, Process, State};

const AT_NULL: usize = 0;
const AT_RSEQ_FEATURE_SIZE: usize = 27;
const AT_RSEQ_ALIGN: usize = 28;

type Vector = Vec<(usize, usize)>;

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 20) % end
    }

    fn one_of(&mut self, all: &[usize]) -> usize {
        all[self.below(all.len())]
    }

    /// A number near a limit, or any.
    fn value(&mut self) -> usize {
        let limit = self.one_of(&[0, 20, 32, 33, 64, 128, 256, 1 << 16, 1 << 32, 1 << 63]);
        match self.below(4) {
            0 => limit,
            1 => limit.wrapping_add(self.below(5)).wrapping_sub(2),
            2 => limit | self.below(128),
            _ => self.next(),
        }
    }

    fn kind(&mut self) -> usize {
        let ours = [AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN];
        match self.below(8) {
            0 => AT_NULL,
            1 => self.below(64),
            2 => self.one_of(&ours) | 1 << 32,
            _ => self.one_of(&ours),
        }
    }

    fn vector(&mut self) -> Vector {
        let length = self.below(7);
        (0..length).map(|_| (self.kind(), self.value())).collect()
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let given = env::var(name).ok();
    given.map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|why| panic!("{name}: {why}"))
    })
}

fn kept() -> impl Iterator<Item = Vector> {
    let lines = include_str!("auxv.txt").lines();
    let vector = |line: &str| -> Vector {
        let pair = |word: &str| {
            let (kind, value) = word.split_once('=').expect("TYPE=VALUE");
            (
                kind.parse().expect("a type"),
                value.parse().expect("a value"),
            )
        };
        line.split_whitespace().map(pair).collect()
    };
    lines.filter(|line| !line.starts_with('#')).map(vector)
}

/// Calls `check` with each vector, and prints the one for which it fails.
fn each(otherwise: u64, check: impl Fn(&[(usize, usize)])) {
    struct Failing<'a>(&'a Vector);
    impl Drop for Failing<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let words: Vec<String> = self
                    .0
                    .iter()
                    .map(|(kind, value)| format!("{kind}={value}"))
                    .collect();
                eprintln!("the vector: {}", words.join(" "));
            }
        }
    }
    let otherwise = if cfg!(miri) { 20 } else { otherwise };
    let mut random = Random(number("RSEQ_RT_FUZZ_SEED", 0x5eed).max(1));
    let inputs = number("RSEQ_RT_FUZZ_INPUTS", otherwise);
    let made = (0..inputs).map(move |_| random.vector());
    for vector in kept().chain(made) {
        let failing = Failing(&vector);
        check(failing.0);
    }
}

/// The length and the size of the fields for the vector, according to the documentation.
fn meant(vector: &[(usize, usize)]) -> (usize, usize) {
    let end = vector.iter().position(|&(kind, _)| kind == AT_NULL);
    let vector = &vector[..end.unwrap_or(vector.len())];
    let last = |wanted| {
        vector
            .iter()
            .rev()
            .find(|&&(kind, _)| kind == wanted)
            .map(|&(_, value)| value)
    };
    let sizes = 20..=0xffff;
    let fields = last(AT_RSEQ_FEATURE_SIZE)
        .filter(|size| sizes.contains(size))
        .unwrap_or(20);
    let fits = fields <= Area::ALIGN
        && last(AT_RSEQ_ALIGN).is_none_or(|align| align.is_power_of_two() && align <= Area::ALIGN);
    let length = if fits { fields.max(32) } else { 32 };
    (length, fields.min(length))
}

#[test]
fn auxv_means_one_thing() {
    each(20_000, |vector| {
        let config = Config::from_entries(vector.iter().copied());
        let found = (config.length() as usize, config.feature_size() as usize);
        assert_eq!(found, meant(vector));
        let legacy = config.legacy_length();
        assert_eq!(
            (legacy.length(), legacy.feature_size()),
            (32, config.feature_size().min(32))
        );
        let mut pairs: Vec<_> = vector.iter().map(|&(kind, value)| [kind, value]).collect();
        pairs.push([AT_NULL, 0]);
        // SAFETY: from_auxv (1): pairs, with an AT_NULL among them.
        assert_eq!(unsafe { Config::from_auxv(pairs.as_ptr()) }, config);
    });
}

/// Create and release, then again on the same memory.
fn lives(generation: Generation, config: Config, length: usize) {
    let machine = Machine::new(generation, PLAIN);
    machine.boot(0);
    let process = Process::with_kernel(&machine);
    let area = Area::new();
    assert_eq!(process.init(config), Ok(None));
    for _ in 0..2 {
        let thread = process.create(&area).expect("a new area");
        assert_eq!(thread.state(), State::Registered(Owner::Runtime));
        let registered = process.length() as usize;
        assert!(
            registered == length || registered == 32,
            "length {registered}"
        );
        assert!(process.feature_size() <= process.length());
        machine.check_ids();
        let Exit::Released(gone) = thread.on_exit(ExitMode::Release) else {
            panic!("not released");
        };
        // SAFETY: recycle_area (1) there are no handlers.
        unsafe { gone.recycle_area() };
    }
    assert_eq!(machine.violation(), None);
}

#[test]
#[cfg_attr(miri, ignore = "long, and `sequences` has lives for it")]
fn a_thread_lives_with_any_auxv_on_any_kernel() {
    each(300, |vector| {
        let config = Config::from_entries(vector.iter().copied()).claim(Claim::Runtime);
        for generation in ALL {
            lives(generation, config, meant(vector).0);
            lives(generation, config.slice_extension(), meant(vector).0);
            lives(generation, config.legacy_length(), 32);
        }
    });
}
