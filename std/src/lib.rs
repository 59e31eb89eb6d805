#![doc = include_str!("../README.md")]

mod counter;
mod cpus;
mod hooks;
mod lazy;
mod percpu;
mod pool;
mod shards;

#[cfg_attr(
    all(
        target_os = "linux",
        target_pointer_width = "64",
        target_endian = "little",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    ),
    path = "linux/mod.rs"
)]
#[cfg_attr(
    not(all(
        target_os = "linux",
        target_pointer_width = "64",
        target_endian = "little",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    )),
    path = "elsewhere.rs"
)]
mod here;

pub use counter::Counter;
pub use cpus::{current_cpu, possible_cpus};
pub use hooks::{Support, on_thread_start, on_thread_stop, support};
pub use percpu::PerCpu;
pub use pool::{Item, Pool};

#[cfg(not(target_has_atomic = "64"))]
compile_error!("rseq-rt-std needs 64-bit atomics");
