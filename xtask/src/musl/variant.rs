//! The variants of musl.

/// The insertions into musl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Variant {
    /// With the hooks.
    Hooked,
    /// With the hooks, which register only with `MUSL_RSEQ=1` in the environment.
    Off,
    /// The distribution's musl, built with the same flags: for comparison.
    Stock,
    /// With the hooks and per-CPU caches in front of malloc.
    Percpu,
    /// Broken on purpose: the cache is popped by plain stores.
    PercpuBroken,
    /// Broken on purpose: the hook of detached threads comes after the unmap, so it never runs.
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
            Variant::Percpu => "percpu",
            Variant::PercpuBroken => "percpu-broken",
            Variant::DetachedAfterUnmap => "detached-after-unmap",
            Variant::DetachedAbsent => "detached-absent",
        }
    }

    /// Whether its malloc has per-CPU caches.
    pub fn is_percpu(self) -> bool {
        matches!(self, Variant::Percpu | Variant::PercpuBroken)
    }
}

/// The allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Malloc {
    /// musl's own, mallocng.
    Stock,
    /// mallocng behind a cache for each CPU, without lock or atomic instruction: docs/malloc.md.
    Percpu,
}
