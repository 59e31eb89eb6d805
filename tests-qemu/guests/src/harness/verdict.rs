//! Tests that return a [`Verdict`], as all did before a test could panic.

use core::panic::Location;

use super::report::say;
use super::{Kind, must_die};
use crate::errno::Errno;
use crate::text::Text;

/// The answer of tests that do not assert. The text is in a page that all processes of the test share, so a failure in
/// any of its threads or children counts.
pub type Verdict = Result<Outcome, Failed>;

/// A test that did not fail.
#[must_use]
pub struct Outcome(());

/// It passed, and there is no more to say.
pub const PASSED: Verdict = Ok(Outcome(()));

/// What a test function may return: nothing, or a [`Verdict`].
pub trait Answer {
    fn into_failure(self) -> bool;
}

impl Answer for () {
    fn into_failure(self) -> bool {
        false
    }
}

impl Answer for Verdict {
    fn into_failure(self) -> bool {
        self.is_err()
    }
}

/// A test failed, and why is in the report.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Failed(());

/// Records a failure at the caller's place; for [`check!`](crate::check!) and
/// for threads, whose verdict nobody collects.
#[track_caller]
pub fn failed(text: Text) -> Failed {
    let place = Location::caller();
    let (file, line) = (place.file(), place.line());
    say(Kind::Failed, format_args!("{text} ({file}:{line})"));
    Failed(())
}

/// For [`passed!`](crate::passed!).
pub fn passed_with(text: Text) -> Verdict {
    say(Kind::Passed, format_args!("{text}"));
    Ok(Outcome(()))
}

/// For [`skip!`](crate::skip!).
pub fn skipped(text: Text) -> Verdict {
    say(Kind::Skipped, format_args!("{text}"));
    Ok(Outcome(()))
}

impl From<Errno> for Failed {
    /// `?` on what the kernel refused, with the place of the `?`.
    #[track_caller]
    fn from(errno: Errno) -> Self {
        failed(crate::text!("unexpected ", errno))
    }
}

/// As [`must_die`], for tests that return a verdict.
#[track_caller]
pub fn expect_killed_by(signal: i32, body: impl FnOnce()) -> Result<(), Failed> {
    must_die(signal, body);
    Ok(())
}

/// Fails the function with file, line and the pieces unless the condition holds.
#[macro_export]
macro_rules! check {
    ($holds:expr, $($piece:expr),+ $(,)?) => {
        // A plain `!` would mean something else for `a == b` on partial orders.
        if $holds {} else {
            return Err($crate::harness::failed($crate::text!($($piece),+)));
        }
    };
}

/// Ends a test that passed with a detail for its line.
#[macro_export]
macro_rules! passed {
    ($($piece:expr),+ $(,)?) => {
        $crate::harness::passed_with($crate::text!($($piece),+))
    };
}

/// Ends a test that cannot run here: `return skip!("...")`.
#[macro_export]
macro_rules! skip {
    ($($piece:expr),+ $(,)?) => {
        $crate::harness::skipped($crate::text!($($piece),+))
    };
}
