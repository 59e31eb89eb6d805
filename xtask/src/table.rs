//! What the demo says: rows, totals and a verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::process::End;

/// A parsed run of the demo.
#[derive(Debug, Default, Serialize)]
pub struct DemoTable {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// A row per thread.
    pub rows: Vec<Vec<String>>,
    /// `@total KEY VALUE`, in the order printed.
    pub totals: Vec<(String, String)>,
    /// `@fact KEY VALUE`, if it states any.
    pub facts: BTreeMap<String, String>,
    /// Its banner.
    pub banner: Vec<String>,
    /// Why it did not pass; `None` means that it did.
    pub failure: Option<String>,
}

/// Reads a console.
pub fn parse(console: &str, end: End, exit_code_counts: bool) -> DemoTable {
    let mut table = DemoTable::default();
    let mut verdict = None;
    for line in console.lines().map(str::trim_end) {
        // Firmware may leave bytes before our first mark.
        let marked = line
            .find("@total ")
            .or_else(|| line.find("@demo "))
            .or_else(|| line.find("@fact "));
        let line = marked.map_or(line, |at| &line[at..]);
        if let Some(total) = line.strip_prefix("@total ") {
            let (key, value) = total.split_once(' ').unwrap_or((total, ""));
            table.totals.push((key.to_owned(), value.trim().to_owned()));
        } else if let Some(fact) = line.strip_prefix("@fact ") {
            let (key, value) = fact.split_once(' ').unwrap_or((fact, ""));
            table.facts.insert(key.to_owned(), value.trim().to_owned());
        } else if let Some(text) = line.strip_prefix("@demo ") {
            verdict = Some(text.trim().to_owned());
        } else if let Some(text) = line.strip_prefix('#') {
            table.banner.push(text.trim().to_owned());
        } else {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if words.first().is_some_and(|word| word == "thread") && words.len() > 3 {
                table.columns = words;
            } else if !table.columns.is_empty() && words.len() == table.columns.len() {
                // Anything of another width is the kernel's, not ours.
                table.rows.push(words);
            }
        }
    }
    table.failure = match verdict.as_deref() {
        Some("passed") if table.rows.is_empty() => Some("passed, and yet has no row".to_owned()),
        Some("passed") if exit_code_counts && end != End::Exit(0) => {
            Some(format!("passed, and yet: {end}"))
        }
        Some("passed") => None,
        Some(text) => Some(
            text.strip_prefix("failed")
                .map_or(text, |text| text.trim_start_matches(':').trim())
                .to_owned(),
        ),
        None if console.contains("Kernel panic") => Some("the kernel panicked".to_owned()),
        None => Some(format!("ended without a verdict: {end}")),
    };
    table
}

impl DemoTable {
    /// The totals in one line.
    pub fn summary(&self) -> String {
        let totals: Vec<String> = self
            .totals
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        totals.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# rseq-rt demo\nSeaBIOS (version 1)\n\
        thread kind cpu_before cpu_after node mm_cid owner state exit reclaimed agreed\n\
        0 main 0 3 0 0 this registered - - yes\n\
        1 joinable 1 3 0 1 this registered keep clear-tid yes\n\
        [ 1.2] a kernel message\n\
        @total threads 2\n@total registered 2\n@demo passed\n";

    #[test]
    fn rows_totals_and_verdict() {
        let table = parse(GOOD, End::Exit(0), true);
        assert_eq!(table.failure, None);
        assert_eq!((table.columns.len(), table.rows.len()), (11, 2));
        assert_eq!(table.rows[1][9], "clear-tid");
        assert_eq!(table.summary(), "threads 2, registered 2");
        assert_eq!(table.banner, ["rseq-rt demo"]);
    }

    #[test]
    fn no_quiet_pass() {
        assert_eq!(
            parse(GOOD, End::Exit(1), true).failure.unwrap(),
            "passed, and yet: exit code 1"
        );
        assert_eq!(
            parse("@demo passed\n", End::Exit(0), true).failure.unwrap(),
            "passed, and yet has no row"
        );
        assert_eq!(
            parse("@demo failed: 3 != 4\n", End::Exit(1), true)
                .failure
                .unwrap(),
            "3 != 4"
        );
        assert_eq!(
            parse("", End::Signal(11), true).failure.unwrap(),
            "ended without a verdict: killed by SIGSEGV"
        );
        assert_eq!(
            parse("Kernel panic - x", End::Exit(0), false)
                .failure
                .unwrap(),
            "the kernel panicked"
        );
    }
}
