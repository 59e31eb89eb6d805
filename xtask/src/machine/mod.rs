//! The machines that guests run on: this one, qemu-user, and real kernels in qemu.

mod apt;
pub mod boot;
mod initramfs;
mod kernel;
mod packages;
pub mod place;
mod source;
mod systems;

pub use apt::{RELEASES, source_package};
pub use kernel::known_version;
pub use source::selftests;
