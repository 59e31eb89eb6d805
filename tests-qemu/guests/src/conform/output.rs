//! TAP and JSON, one line per check.

use core::fmt::{self, Write as _};

use super::system::{System, release};
use super::{Check, Level, NO_RSEQ};
use crate::arch;
use crate::errno::Errno;
use crate::harness::Kind;
use crate::println;
use crate::text::{Text, text};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Tap,
    Json,
}

/// The totals, and the resulting verdict.
pub(super) struct Sums {
    passed: u32,
    skipped: u32,
    dangerous: u32,
    nuisances: u32,
    absent: Option<Errno>,
}

impl Sums {
    pub(super) fn new(system: &System<'_>) -> Self {
        Self {
            passed: 0,
            skipped: 0,
            dangerous: 0,
            nuisances: 0,
            absent: system.rseq.err(),
        }
    }

    pub(super) fn count(&mut self, check: &Check, kind: Kind) {
        let sum = match (kind, check.level) {
            (Kind::Passed, _) => &mut self.passed,
            (Kind::Skipped, _) => &mut self.skipped,
            (Kind::Failed, Level::Dangerous) => &mut self.dangerous,
            (Kind::Failed, Level::Nuisance) => &mut self.nuisances,
        };
        *sum += 1;
    }

    pub(super) fn status(&self) -> i32 {
        match (self.dangerous, self.absent, self.nuisances) {
            (1.., ..) => 1,
            (_, Some(_), _) => NO_RSEQ,
            (_, None, 1..) => 2,
            _ => 0,
        }
    }

    fn verdict(&self) -> &'static str {
        match self.status() {
            0 => "conforms",
            1 => "dangerous",
            2 => "nuisances",
            _ => "no rseq",
        }
    }
}

impl Form {
    pub(super) fn begin(self, system: &System<'_>, count: usize) {
        let answers = [
            ("rseq", system.rseq),
            ("ptrace", system.ptrace),
            ("membarrier", system.fence),
        ];
        let cpus = system.cpus.count();
        if self == Form::Tap {
            println!("TAP version 14");
            println!("1..{count}");
            release(|name| println!("# system: Linux {}, {}", Utf8(name), arch::NAME));
            println!("# cpus: {cpus}");
            println!(
                "# feature size and alignment: {}, {}",
                Or(system.feature_size, "none"),
                Or(system.align, "none")
            );
            for (call, answer) in answers {
                println!("# {call}: {}", Answer(answer));
            }
            return;
        }
        println!("{{\"program\": \"rseq-conform\",");
        release(|name| {
            println!(
                "\"system\": {{\"release\": \"{}\", \"arch\": \"{}\", \"cpus\": {cpus},",
                Escaped(&text(format_args!("{}", Utf8(name)))),
                arch::NAME
            );
        });
        println!(
            "\"feature_size\": {}, \"align\": {},",
            Or(system.feature_size, "null"),
            Or(system.align, "null")
        );
        let [rseq, ptrace, membarrier] = answers.map(|(_, answer)| Answer(answer));
        println!(
            "\"rseq\": \"{rseq}\", \"ptrace\": \"{ptrace}\", \"membarrier\": \"{membarrier}\"}},"
        );
        println!("\"checks\": [");
    }

    pub(super) fn check(self, nth: usize, check: &Check, kind: Kind, seen: &Text) {
        let Check {
            name, level, rule, ..
        } = check;
        let level = level.name();
        if self == Form::Json {
            let outcome = match kind {
                Kind::Passed => "passed",
                Kind::Skipped => "skipped",
                Kind::Failed => "failed",
            };
            let comma = if nth == 0 { "" } else { "," };
            println!(
                "{comma}{{\"name\": \"{name}\", \"outcome\": \"{outcome}\", \"level\": \"{level}\", \"rule\": \"{rule}\", \"seen\": \"{}\"}}",
                Escaped(seen)
            );
            return;
        }
        let number = nth + 1;
        match kind {
            Kind::Passed => println!("ok {number} - {name}: {rule}"),
            Kind::Skipped => println!("ok {number} - {name}: {rule} # SKIP {seen}"),
            Kind::Failed => println!("not ok {number} - {name}: {rule}"),
        }
        if kind == Kind::Failed {
            println!("  ---");
            println!("  failure: {level}");
            println!("  seen: \"{}\"", Escaped(seen));
            println!("  ...");
        } else if kind == Kind::Passed && !seen.bytes().is_empty() {
            println!("# {seen}");
        }
    }

    pub(super) fn end(self, sums: &Sums) {
        let Sums {
            passed,
            skipped,
            dangerous,
            nuisances,
            absent,
        } = sums;
        let (verdict, status) = (sums.verdict(), sums.status());
        if self == Form::Json {
            println!(
                "], \"passed\": {passed}, \"dangerous\": {dangerous}, \"nuisances\": {nuisances}, \"skipped\": {skipped},"
            );
            println!("\"verdict\": \"{verdict}\", \"status\": {status}}}");
            return;
        }
        if let Some(errno) = absent {
            println!("# no rseq: rseq(2) answers {errno}, and nothing else could be judged");
        }
        println!(
            "# {passed} passed, {dangerous} dangerous, {nuisances} nuisances, {skipped} skipped"
        );
        println!("# verdict: {verdict}");
    }
}

/// Success of `call`, or the name of its errno.
struct Answer(Result<(), Errno>);

impl fmt::Display for Answer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(()) => to.write_str("there"),
            Err(errno) => write!(to, "{errno}"),
        }
    }
}

struct Or(Option<usize>, &'static str);

impl fmt::Display for Or {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(to, "{number}"),
            None => to.write_str(self.1),
        }
    }
}

struct Utf8<'a>(&'a [u8]);

impl fmt::Display for Utf8<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let valid = self.0.utf8_chunks().next().map_or("", |text| text.valid());
        to.write_str(valid)
    }
}

/// Escaped for a JSON string, or YAML's double quotes.
struct Escaped<'a>(&'a Text);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for letter in text.chars() {
                    match letter {
                        '"' | '\\' => {
                            self.0.write_char('\\')?;
                            self.0.write_char(letter)?;
                        }
                        ..' ' => self.0.write_char(' ')?,
                        _ => self.0.write_char(letter)?,
                    }
                }
                Ok(())
            }
        }
        write!(Escape(to), "{}", self.0)
    }
}
