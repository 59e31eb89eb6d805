//! Which musl: what is inserted.

/// Which musl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Variant {
    /// With the hooks.
    Hooked,
    /// With the hooks, which register only where the environment has `MUSL_RSEQ=1`.
    Off,
    /// As the distribution has it, built with the same flags: for comparison.
    Stock,
    /// Broken on purpose: the hook of detached threads comes after the unmap, so never.
    DetachedAfterUnmap,
    /// Broken on purpose: detached threads have no exit hook.
    DetachedAbsent,
}

impl Variant {
    pub fn name(self) -> &'static str {
        match self {
            Variant::Hooked => "hooked",
            Variant::Off => "off",
            Variant::Stock => "stock",
            Variant::DetachedAfterUnmap => "detached-after-unmap",
            Variant::DetachedAbsent => "detached-absent",
        }
    }
}
