//! Reads what `cargo test` prints: each test, under the program it is in.

use crate::outcome::Verdict;

/// The tests of a log: `program::test` and what became of each.
pub fn parse(log: &str) -> Vec<(String, Verdict)> {
    let mut program = String::new();
    let mut tests = Vec::new();
    for line in log.lines().map(str::trim) {
        if let Some(running) = line.strip_prefix("Running ") {
            program = program_name(running);
        } else if line.starts_with("Doc-tests ") {
            program = "doc".to_owned();
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, result)) = test.rsplit_once(" ... ")
        {
            // `test src/lib.rs - name (line 7) - compile fail ... ok`
            let verdict = match result.split([',', ' ']).next().unwrap_or_default() {
                "ok" => Verdict::Passed(String::new()),
                "ignored" => Verdict::Skipped(format!(
                    "it is marked as ignored{}",
                    result.trim_start_matches("ignored")
                )),
                _ => Verdict::Failed(result.to_owned()),
            };
            let name = name.trim_end_matches(" - should panic");
            tests.push((format!("{program}::{name}"), verdict));
        }
    }
    tests
}

/// `unittests src/lib.rs (target/...)` is `lib`, `tests/model.rs (...)` is `model`.
fn program_name(running: &str) -> String {
    let path = running
        .trim_start_matches("unittests ")
        .split(" (")
        .next()
        .unwrap_or(running);
    let file = path.rsplit('/').next().unwrap_or(path);
    file.trim_end_matches(".rs").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_test() {
        let log = "   Compiling x v0.1.0\n     Running unittests src/lib.rs (target/debug/deps/x-1)\n\nrunning 2 tests\n\
            test abi::layout ... ok\ntest slow ... ignored, takes an hour\n\
            test result: ok. 1 passed; 0 failed\n\
            \x20    Running tests/model.rs (target/debug/deps/model-1)\ntest all - should panic ... FAILED\n\
            \x20  Doc-tests x\ntest src/lib.rs - (line 7) ... ok\n";
        assert_eq!(
            parse(log),
            [
                ("lib::abi::layout".into(), Verdict::Passed(String::new())),
                (
                    "lib::slow".into(),
                    Verdict::Skipped("it is marked as ignored, takes an hour".into())
                ),
                ("model::all".into(), Verdict::Failed("FAILED".into())),
                (
                    "doc::src/lib.rs - (line 7)".into(),
                    Verdict::Passed(String::new())
                )
            ]
        );
    }
}
