//! Text in a bounded buffer, which truncates.

use core::fmt;

const TEXT: usize = 1000;

/// A line of text on the stack.
pub struct Text {
    bytes: [u8; TEXT],
    len: usize,
}

impl Text {
    #[allow(clippy::new_without_default)] // nobody needs a second way
    pub const fn new() -> Self {
        Self {
            bytes: [0; TEXT],
            len: 0,
        }
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends bytes, as many as fit.
    #[inline(never)] // one copy, not one a piece
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let Some(place) = self.bytes.get_mut(self.len) else {
                return;
            };
            *place = byte;
            self.len += 1;
        }
    }

    /// Ends the line, replacing the last byte if the buffer is full.
    pub fn end_line(&mut self) {
        self.len = self.len.min(TEXT - 1);
        self.push(b"\n");
    }

    pub const fn copy(&self) -> Self {
        Self {
            bytes: self.bytes,
            len: self.len,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

pub fn text(arguments: fmt::Arguments<'_>) -> Text {
    let mut text = Text::new();
    let _ = fmt::Write::write_fmt(&mut text, arguments);
    text
}

impl fmt::Write for Text {
    /// Writes one line, with a comma in place of each line end.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.push(&[if byte == b'\n' { b',' } else { byte }]);
        }
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Truncated in the middle of a character, it ends before that.
        let text = self.bytes().utf8_chunks().next();
        to.write_str(text.map_or("", |text| text.valid()))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}
