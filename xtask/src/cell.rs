//! The cells of the test matrix.

use serde::Serialize;

use crate::arch::Arch;
use crate::context::Context;
use crate::machine::known_version;
use crate::machine::place::Place;

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The sources alone: no CPU and no kernel.
    Host,
    /// Files linked for one CPU, inspected or run under qemu-user.
    Link(Arch),
    /// Programs under this machine's libcs.
    Libcs(Arch),
    Place(Place),
}

impl At {
    /// All cells without a kernel, in column order.
    pub fn without_kernels() -> Vec<At> {
        let mut all = vec![At::Host];
        all.extend(Arch::ALL.map(At::Link));
        all.extend(Arch::host().map(At::Libcs));
        all
    }

    pub fn cell(self, cx: &Context) -> Cell {
        let (order, label) = match self {
            At::Host => (0, "host".to_owned()),
            At::Link(arch) => (5 + arch as usize, format!("{arch}/link")),
            At::Libcs(arch) => (9, format!("{arch}/libcs")),
            At::Place(place) => {
                let version = place.system().and_then(|system| known_version(cx, system));
                place.column(version.as_deref())
            }
        };
        Cell { order, label }
    }

    /// The place, if guests run in this cell.
    pub fn place(self) -> Option<Place> {
        match self {
            At::Place(place) => Some(place),
            _ => None,
        }
    }

    pub fn required(self) -> bool {
        self.place().is_none_or(|place| place.required())
    }

    pub fn arch(self) -> Option<Arch> {
        match self {
            At::Host => None,
            At::Link(arch) | At::Libcs(arch) => Some(arch),
            At::Place(place) => Some(place.arch),
        }
    }
}

/// Keeps the full console of a run at `place`, of which a failure prints the tail only.
pub fn keep_console(cx: &Context, what: &str, place: Place, console: &str) {
    let label = At::Place(place).cell(cx).label.replace('/', "-");
    let folder = cx.store().join("consoles");
    let file = folder.join(format!("{what}-{label}.txt"));
    let _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, console));
}

/// A column of the matrix, e.g. `aarch64/7.2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Cell {
    /// Sort key of the column.
    #[serde(skip)]
    pub order: usize,
    pub label: String,
}
