//! The console: one write(2) per line, so that lines never mix.

use core::fmt;

/// The longest line.
const LENGTH: usize = 200;

struct Line {
    bytes: [u8; LENGTH],
    used: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        let place = self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Writes one line.
pub fn put(arguments: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; LENGTH],
        used: 0,
    };
    // A line that is too long, or a console that accepts nothing: there is nowhere to report it.
    let _ = fmt::write(&mut line, format_args!("{arguments}\n"));
    // SAFETY: nobody closes standard output.
    let _ = rustix::io::write(unsafe { rustix::stdio::stdout() }, &line.bytes[..line.used]);
}

/// Waits until the console has sent everything: a powered-off machine sends nothing.
pub fn drain() {
    // SAFETY: nobody closes standard output.
    let _ = rustix::termios::tcdrain(unsafe { rustix::stdio::stdout() });
}
