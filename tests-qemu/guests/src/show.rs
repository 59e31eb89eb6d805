//! Text in a bounded buffer. What does not fit is cut off.

use core::fmt;

pub const TEXT: usize = 480;

/// A line of text on the stack.
pub struct Text {
    bytes: [u8; TEXT],
    len: usize,
}

impl Text {
    #[allow(clippy::new_without_default)] // two ways to say it help nobody
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

    /// Appends a value; returns the text, so that pieces can be chained.
    pub fn and(&mut self, value: &(impl Show + ?Sized)) -> &mut Self {
        value.show(self);
        self
    }

    /// Ends the line, over the last byte if there is no room for one more.
    pub fn end_line(&mut self) {
        self.len = self.len.min(TEXT - 1);
        self.push(b"\n");
    }

    /// The same text once more.
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

/// The text of some arguments.
pub fn text(arguments: fmt::Arguments<'_>) -> Text {
    let mut text = Text::new();
    let _ = fmt::Write::write_fmt(&mut text, arguments);
    text
}

impl fmt::Write for Text {
    /// One line: a comma stands for the end of one.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.push(&[if byte == b'\n' { b',' } else { byte }]);
        }
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cut off in the middle of a character, it ends before that.
        let text = self.bytes().utf8_chunks().next();
        to.write_str(text.map_or("", |text| text.valid()))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// A value that can be put into a line.
pub trait Show {
    /// Appends it to `to`.
    fn show(&self, to: &mut Text);
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self, to: &mut Text) {
        (**self).show(to);
    }
}

impl Show for str {
    fn show(&self, to: &mut Text) {
        to.push(self.as_bytes());
    }
}

impl Show for [u8] {
    fn show(&self, to: &mut Text) {
        to.push(self);
    }
}

impl Show for Text {
    fn show(&self, to: &mut Text) {
        to.push(self.bytes());
    }
}

impl Show for bool {
    fn show(&self, to: &mut Text) {
        to.push(if *self { b"yes" } else { b"no" });
    }
}

impl Show for char {
    fn show(&self, to: &mut Text) {
        let mut bytes = [0; 4];
        to.push(self.encode_utf8(&mut bytes).as_bytes());
    }
}

impl<T> Show for *const T {
    fn show(&self, to: &mut Text) {
        Hex(self.addr() as u64).show(to);
    }
}

impl<T> Show for *mut T {
    fn show(&self, to: &mut Text) {
        Hex(self.addr() as u64).show(to);
    }
}

impl<T: Show, E: Show> Show for Result<T, E> {
    fn show(&self, to: &mut Text) {
        match self {
            Ok(value) => value.show(to),
            Err(error) => error.show(to),
        }
    }
}

impl Show for () {
    fn show(&self, to: &mut Text) {
        to.push(b"ok");
    }
}

macro_rules! decimal {
    ($($int:ty)*) => {$(
        impl Show for $int {
            fn show(&self, to: &mut Text) {
                #[allow(unused_comparisons)]
                if *self < 0 {
                    to.push(b"-");
                }
                #[allow(clippy::unnecessary_cast)]
                digits((*self as i128).unsigned_abs() as u64, 10, to);
            }
        }
    )*};
}

decimal!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

/// A number in hexadecimal, with 0x.
pub struct Hex(pub u64);

impl Show for Hex {
    fn show(&self, to: &mut Text) {
        to.push(b"0x");
        digits(self.0, 16, to);
    }
}

fn digits(mut value: u64, base: u64, to: &mut Text) {
    let mut reversed = [0u8; 20];
    let mut count = 0;
    for place in &mut reversed {
        let digit = (value % base) as u8;
        *place = if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        };
        value /= base;
        count += 1;
        if value == 0 {
            break;
        }
    }
    for &digit in reversed.get(..count).unwrap_or(&[]).iter().rev() {
        to.push(&[digit]);
    }
}

/// A [`Text`] of the pieces, one after the other: `text!("cpu ", n, " of ", m)`.
#[macro_export]
macro_rules! text {
    ($($piece:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut text = $crate::show::Text::new();
        $(text.and(&$piece);)*
        text
    }};
}
