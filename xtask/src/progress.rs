//! Progress on standard error: a spinner on a terminal, plain lines with the time since the start anywhere else.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The clock, and the spinners of a terminal.
pub struct Progress {
    started: Instant,
    bars: Option<MultiProgress>,
}

/// A step in progress until this is dropped.
pub struct Step {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Progress {
            started: Instant::now(),
            bars,
        }
    }

    /// Prints a line that stays.
    pub fn say(&self, text: impl AsRef<str>) {
        let line = format!(
            "[{:7.1} s] {}",
            self.started.elapsed().as_secs_f64(),
            text.as_ref()
        );
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Begins a step: a spinner, or a line.
    pub fn step(&self, text: impl Into<String>) -> Step {
        let text = text.into();
        let Some(bars) = &self.bars else {
            self.say(text);
            return Step { bar: None };
        };
        let bar = bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_message(text);
        bar.enable_steady_tick(Duration::from_millis(120));
        Step { bar: Some(bar) }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
