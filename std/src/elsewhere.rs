//! The implementation on targets without rseq, or without support in rseq-rt: atomics only.

use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::hooks::Support;

pub(crate) fn start() {}

pub(crate) fn stop() {}

pub(crate) fn support() -> Support {
    Support::Atomics("not 64-bit Linux on x86_64, aarch64 or riscv64")
}

pub(crate) fn cpu() -> Option<usize> {
    None
}

pub(crate) fn possible_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Stub of the per-CPU parts of a counter.
pub(crate) struct Sums;

impl Sums {
    pub(crate) const fn new() -> Self {
        Self
    }

    pub(crate) fn add(&self, _: u64) -> bool {
        false
    }

    pub(crate) fn sum(&self) -> u64 {
        0
    }
}

/// A node without links.
pub(crate) struct Node<V> {
    pub(crate) value: V,
}

impl<V> Node<V> {
    pub(crate) const fn new(value: V) -> Self {
        Self { value }
    }
}

/// Stub of the per-CPU lists of a pool.
pub(crate) struct Lists<V>(PhantomData<fn() -> V>);

impl<V> Lists<V> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }

    /// # Safety
    /// 1. None: it is not taken.
    pub(crate) unsafe fn push(&self, _: NonNull<Node<V>>) -> bool {
        false
    }

    pub(crate) fn pop(&self) -> Option<NonNull<Node<V>>> {
        None
    }

    pub(crate) fn drain(&self, _: &mut impl FnMut(NonNull<Node<V>>)) {}
}
