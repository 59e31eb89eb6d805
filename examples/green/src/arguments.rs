//! The arguments of the program.

/// The arguments, the program's name first.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a>(pub &'a [&'static [u8]]);

impl Arguments<'_> {
    /// The `n`th argument.
    pub fn nth(self, n: usize) -> Option<&'static [u8]> {
        self.0.get(n).copied()
    }

    /// The argument after `name`.
    pub fn value_of(self, name: &str) -> Option<&'static [u8]> {
        let at = self.0.iter().position(|one| *one == name.as_bytes())?;
        self.nth(at + 1)
    }

    /// The argument after `name` as a number.
    pub fn number_of(self, name: &str) -> Option<u64> {
        core::str::from_utf8(self.value_of(name)?)
            .ok()?
            .parse()
            .ok()
    }
}
