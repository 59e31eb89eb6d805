//! Text from pieces, for the tests that return a [`Verdict`](crate::harness::Verdict): others use `core::fmt`.

use crate::errno::Errno;
use crate::sys::process::Status;
pub use crate::text::Text;

impl Text {
    /// Appends a value; returns the text, so that pieces can be chained.
    pub fn and(&mut self, value: &(impl Show + ?Sized)) -> &mut Self {
        value.show(self);
        self
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

macro_rules! displayed {
    ($($type:ty)*) => {$(
        impl Show for $type {
            fn show(&self, to: &mut Text) {
                let _ = core::fmt::Write::write_fmt(to, format_args!("{self}"));
            }
        }
    )*};
}

displayed!(Errno Status char u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

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

/// A number in hexadecimal, with 0x.
pub struct Hex(pub u64);

impl Show for Hex {
    fn show(&self, to: &mut Text) {
        let _ = core::fmt::Write::write_fmt(to, format_args!("{:#x}", self.0));
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

/// Writes a line of the pieces: `line!("cpu ", n, " of ", m)`.
#[macro_export]
macro_rules! line {
    ($($piece:expr),* $(,)?) => {
        $crate::console::put_line($crate::text!($($piece),*))
    };
}
