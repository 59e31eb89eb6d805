//! Installs missing packages on a Debian-like machine, after announcing it.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::context::Context;
use crate::process::{self, command};

/// A program or file that this machine should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// A program on PATH, or the absolute path of a file.
    pub probe: String,
    /// The packages that provide it: alternatives in order of preference.
    pub packages: Vec<String>,
    pub why: String,
}

impl Need {
    /// A need for `probe`, met by the first of `packages` that exists.
    pub fn new(
        probe: impl Into<String>,
        packages: &[impl ToString],
        why: impl Into<String>,
    ) -> Self {
        let packages = packages.iter().map(ToString::to_string).collect();
        Need {
            probe: probe.into(),
            packages,
            why: why.into(),
        }
    }

    pub fn met(&self) -> bool {
        which::which(&self.probe).is_ok() || std::path::Path::new(&self.probe).exists()
    }
}

/// Installs the packages for the unmet `needs` with one `apt-get install`. Where that is forbidden or fails, it says so
/// and goes on: the users of a missing program report it.
pub fn install(cx: &Context, needs: &[Need]) {
    let mut missing: Vec<&Need> = Vec::new();
    for need in needs.iter().filter(|need| !need.met()) {
        if !missing.iter().any(|other| other.packages == need.packages) {
            missing.push(need);
        }
    }
    if missing.is_empty() {
        return;
    }
    for need in &missing {
        let packages = need.packages.join(" or ");
        cx.say(format!(
            "missing: {} (package {packages}), for {}",
            need.probe, need.why
        ));
    }
    if !cx.install {
        return cx.say("installing nothing, because of --no-install");
    }
    if let Err(error) = try_install(cx, &missing) {
        cx.say(format!("could not install: {error:#}"));
    }
}

fn try_install(cx: &Context, missing: &[&Need]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root; run as root, or install these yourself");
    }
    if which::which("apt-get").is_err() {
        bail!("this machine has no apt-get");
    }
    apt_get(cx, &["update"])?;
    let mut packages = Vec::new();
    for need in missing {
        match need.packages.iter().find(|package| available(package)) {
            Some(package) => packages.push(package.as_str()),
            None => cx.say(format!("no package provides {}", need.probe)),
        }
    }
    if packages.is_empty() {
        return Ok(());
    }
    cx.say(format!("apt-get install {}", packages.join(" ")));
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&packages);
    apt_get(cx, &arguments)
}

fn available(package: &str) -> bool {
    let mut show = command("apt-cache");
    show.args(["--no-all-versions", "show", package]);
    process::run(&mut show, 60).is_ok_and(|shown| shown.ok())
}

/// Runs apt-get, up to three times: a mirror in mid-sync, or a program that holds the lock, is usually done soon.
fn apt_get(cx: &Context, arguments: &[&str]) -> Result<()> {
    let mut last = String::new();
    for attempt in 0..3 {
        if attempt > 0 {
            cx.say(format!(
                "apt-get {} failed, retrying in {} s",
                arguments[0],
                10 * attempt
            ));
            std::thread::sleep(Duration::from_secs(10 * attempt));
        }
        let mut apt = command("apt-get");
        apt.args(["-oDPkg::Lock::Timeout=120", "-qq"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        let finished = process::run(&mut apt, 1200)?;
        if finished.ok() {
            return Ok(());
        }
        last = finished.tail(5);
    }
    // Some of its lists may be fine, and enough for the install.
    if arguments == ["update"] {
        cx.say(format!("apt-get update is incomplete: {last}"));
        return Ok(());
    }
    bail!("apt-get {}: {last}", arguments.join(" "))
}
