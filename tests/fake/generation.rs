//! The answers of each generation of Linux, as a table. Source: `kernel/rseq.c` of each, and runs of real ones, on
//! which `tests-qemu` checks the same rows.

use rseq_rt::abi::CS_FLAG_SLICE_EXT_AVAILABLE;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation {
    pub name: &'static str,
    /// `AT_RSEQ_FEATURE_SIZE` and `AT_RSEQ_ALIGN`, absent before 6.3.
    pub auxv: Option<(usize, usize)>,
    lengths: Lengths,
    /// Before 6.17 a leftover `rseq_cs` kills on the return from the registration.
    pub stale_cs_kills: bool,
    /// `CONFIG_DEBUG_RSEQ` (6.14 to 6.18): every field but `cpu_id` must be zero.
    pub wants_zeroes: bool,
    /// Before 7.0 a read-only area is accepted, and kills on the return.
    pub read_only_kills: bool,
    /// From 6.19 an area that became read-only kills at unregistration; EFAULT before.
    pub read_only_unregister_kills: bool,
    /// With lengths above 32, stray user stores are checked for, and are fatal.
    pub has_v2: bool,
    pub has_slice: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lengths {
    Exactly32,
    AtLeast32,
    /// 32, or at least the feature size at the alignment of auxv.
    LegacyOrWhole,
}

const OLDEST: Generation = Generation {
    name: "4.18 to 6.2",
    auxv: None,
    lengths: Lengths::Exactly32,
    stale_cs_kills: true,
    wants_zeroes: false,
    read_only_kills: true,
    read_only_unregister_kills: false,
    has_v2: false,
    has_slice: false,
};

pub const LINUX_4_18: Generation = OLDEST;

pub const LINUX_6_3: Generation = Generation {
    name: "6.3 to 6.16",
    auxv: Some((28, 32)),
    lengths: Lengths::AtLeast32,
    ..OLDEST
};

pub const LINUX_6_14_DEBUG: Generation = Generation {
    name: "6.14 to 6.16 with CONFIG_DEBUG_RSEQ",
    wants_zeroes: true,
    ..LINUX_6_3
};

pub const LINUX_6_17: Generation = Generation {
    name: "6.17 and 6.18",
    stale_cs_kills: false,
    ..LINUX_6_3
};

pub const LINUX_6_19: Generation = Generation {
    name: "6.19",
    read_only_unregister_kills: true,
    ..LINUX_6_17
};

pub const LINUX_7_0: Generation = Generation {
    name: "7.0.0 to 7.0.9",
    auxv: Some((33, 64)),
    lengths: Lengths::LegacyOrWhole,
    read_only_kills: false,
    has_slice: true,
    ..LINUX_6_19
};

pub const LINUX_7_1: Generation = Generation {
    name: "7.0.10 and later",
    has_v2: true,
    ..LINUX_7_0
};

/// Built without `CONFIG_RSEQ_SLICE_EXTENSION`, the usual configuration.
pub const LINUX_7_1_NO_SLICE: Generation = Generation {
    name: "7.0.10 and later without the slice extension",
    has_slice: false,
    ..LINUX_7_1
};

/// A later kernel whose area still fits, and one whose area does not.
pub const LATER_48: Generation = Generation {
    name: "a later one with 48 bytes",
    auxv: Some((48, 64)),
    ..LINUX_7_1
};

pub const LATER_200: Generation = Generation {
    name: "a later one with 200 bytes",
    auxv: Some((200, 256)),
    ..LINUX_7_1
};

pub const ALL: [Generation; 9] = [
    LINUX_4_18,
    LINUX_6_3,
    LINUX_6_14_DEBUG,
    LINUX_6_17,
    LINUX_6_19,
    LINUX_7_0,
    LINUX_7_1,
    LATER_48,
    LATER_200,
];

impl Generation {
    /// Whether the kernel accepts this length at this address.
    pub fn takes(&self, length: u32, address: usize) -> bool {
        let (feature_size, align) = self.auxv.unwrap_or((20, 32));
        let length = length as usize;
        let demanded = match self.lengths {
            Lengths::Exactly32 if length == 32 => 32,
            Lengths::AtLeast32 if length >= 32 => 32,
            Lengths::LegacyOrWhole if length == 32 => 32,
            Lengths::LegacyOrWhole if length >= feature_size => align,
            _ => return false,
        };
        address.is_multiple_of(demanded)
    }

    /// Bytes of fields that the kernel fills in an area registered with `length`.
    pub fn fills(&self, length: u32) -> usize {
        self.auxv.map_or(20, |(size, _)| size).min(length as usize)
    }

    /// The slice extension's bits in the area's `flags`.
    pub fn slice_flags(&self, length: u32) -> u32 {
        if self.has_slice && length > 32 {
            CS_FLAG_SLICE_EXT_AVAILABLE
        } else {
            0
        }
    }

    /// From 7.0 on the kernel accepts an area in any state.
    pub fn lays_out(&self) -> bool {
        self.lengths == Lengths::LegacyOrWhole
    }

    pub fn is_v2(&self, length: u32) -> bool {
        self.has_v2 && length > 32
    }
}
