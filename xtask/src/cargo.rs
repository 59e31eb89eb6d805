//! Runs cargo on the workspace, with the toolchain one wants.

use std::process::Command;
use std::time::Duration;

use crate::lab::Lab;
use crate::process::{self, command};

/// A cargo of `toolchain`, or the current one, in the workspace.
pub fn cargo(lab: &Lab, toolchain: Option<&str>, arguments: &[&str]) -> Command {
    let mut cargo = match toolchain {
        // Only rustup's own cargo understands `+toolchain`.
        Some(name) => {
            let mut cargo = command("cargo");
            cargo
                .arg(format!("+{name}"))
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("RUSTC");
            cargo
        }
        None => command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
    };
    cargo
        .args(arguments)
        .current_dir(&lab.root)
        .env("CARGO_TERM_COLOR", "never");
    cargo
}

/// Runs it; an error is a reason why it could not be run.
pub fn finish(mut command: Command) -> Result<process::Finished, String> {
    process::run(&mut command, Duration::from_secs(1800))
        .map_err(|error| format!("cargo did not start: {error}"))
}
