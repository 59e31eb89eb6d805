//! The console: one write(2) per line, so that lines of several threads and processes never mix.

use core::fmt::Arguments;

use crate::sys::io;
use crate::text::{Text, text};

/// Writes the text and a line feed.
pub fn put_line(mut text: Text) {
    text.end_line();
    let mut rest = text.bytes();
    // A console takes the whole line; the loop is for a full pipe.
    while let Ok(done @ 1..) = io::write(1, rest) {
        match rest.get(done..) {
            Some(more) if !more.is_empty() => rest = more,
            _ => return,
        }
    }
}

/// Implements [`println!`](crate::println!).
pub fn print_line(line: Arguments<'_>) {
    put_line(text(line));
}

/// As PID 1: ensures that 0, 1 and 2 are the console. The kernel opens /dev/console for init if the archive has that
/// node, and otherwise only warns.
pub fn open_for_init() {
    if io::is_open(1) {
        return;
    }
    if let Ok(console) = io::open_read_write(c"/dev/console") {
        for fd in 0..3 {
            if fd != console {
                // If dup fails, the error cannot be reported.
                let _ = io::dup_to(console, fd);
            }
        }
    }
}

/// std's `println!`, as one write(2).
#[macro_export]
macro_rules! println {
    () => { $crate::console::print_line(format_args!("")) };
    ($($argument:tt)+) => { $crate::console::print_line(format_args!($($argument)+)) };
}
