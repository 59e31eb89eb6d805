//! The licences of all locked packages, and known advisories.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::arch::Arch;
use crate::case::Case;
use crate::compiler::{cargo, finish};
use crate::context::Context;
use crate::guests::{GREEN, GREEN_TESTS};
use crate::outcome::Missing;

/// The lock files, named by their manifests.
const MANIFESTS: [&str; 4] = [
    "Cargo.toml",
    GREEN,
    GREEN_TESTS,
    "examples/origin/Cargo.toml",
];

/// Licences that require no more than their text.
const ALLOWED: [&str; 7] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "0BSD",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("licences", licences),
        Case::new("advisories", advisories),
    ]
}

fn licences(cx: &Context) -> Result<String> {
    let mut count = 0;
    for manifest in MANIFESTS {
        for package in packages(cx, manifest)? {
            let name = package["name"].as_str().context("a package has no name")?;
            let licence = package["license"].as_str().unwrap_or("no licence");
            ensure!(is_allowed(licence), "{name}: {licence}");
            count += 1;
        }
    }
    Ok(format!("{count} packages"))
}

/// The packages of the targets here: offline, cargo lacks those that only another system needs.
fn packages(cx: &Context, manifest: &str) -> Result<Vec<Value>> {
    let arguments = ["metadata", "--offline", "--locked", "--format-version=1"];
    let mut ask = cargo(cx, None, &arguments);
    ask.args(["--manifest-path", manifest]);
    for arch in Arch::ALL {
        ask.args(["--filter-platform", arch.target()]);
    }
    let said = finish(ask)?;
    if !said.ok() {
        let why = "cargo has not all packages of the lock files here";
        return Err(Missing::optional(format!("{why}: {}", said.tail(1))));
    }
    let json = said.output.lines().find(|line| line.starts_with('{'));
    let document: Value = serde_json::from_str(json.unwrap_or_default())?;
    let packages = document["packages"].as_array().context("no packages")?;
    Ok(packages.clone())
}

/// Evaluates an SPDX expression: one licence of each alternative must be allowed.
fn is_allowed(expression: &str) -> bool {
    let one_of = |alternatives: &str| {
        let alternatives = alternatives.trim_matches(['(', ')']);
        let mut names = alternatives
            .split(" OR ")
            .flat_map(|name| name.split('/'))
            .map(str::trim);
        names.any(|name| ALLOWED.contains(&name))
    };
    expression.split(" AND ").all(one_of)
}

/// cargo-deny, with the database that it fetches, or without a network the one on this machine.
fn advisories(cx: &Context) -> Result<String> {
    let asked = finish(cargo(cx, None, &["deny", "--version"]))?;
    if !asked.ok() {
        return Err(Missing::optional("cargo-deny is not installed"));
    }
    let fetched = finish(cargo(cx, None, &["deny", "fetch", "db"]))?;
    for manifest in MANIFESTS {
        for arch in Arch::ALL {
            let mut check = cargo(cx, None, &["deny", "--offline", "--target", arch.target()]);
            check.args(["--manifest-path", manifest, "check", "advisories"]);
            let checked = finish(check)?;
            if !checked.ok() && !checked.output.contains("advisories FAILED") {
                let why = format!("no database of advisories: {}", checked.tail(1));
                return Err(Missing::optional(why));
            }
            checked.check("cargo deny")?;
        }
    }
    Ok(match fetched.ok() {
        true => String::new(),
        false => "by the database of the machine".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn each_part_has_an_allowed_alternative() {
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(is_allowed("GPL-3.0-only OR MIT") && is_allowed("MIT/Apache-2.0"));
        assert!(!is_allowed("MIT AND GPL-3.0-only") && !is_allowed("no licence"));
        assert!(!is_allowed("Apache-2.0 WITH Classpath-exception-2.0"));
    }
}
