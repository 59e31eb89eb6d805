//! C9: the number of system calls that each step may make, given the state before it.

use rseq_rt::{Owner, State};

use super::step::Act;
use super::world::{Life, World};
use crate::fake::answers::CALLS;
use crate::fake::{Call, Foreign};

/// Calls of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    pub mask: u32,
    pub rseq: u32,
}

impl Cost {
    const NONE: Self = Self { mask: 0, rseq: 0 };

    pub fn between(before: [u32; CALLS], after: [u32; CALLS]) -> Self {
        let spent = |call: Call| after[call as usize] - before[call as usize];
        Self {
            mask: spent(Call::Mask),
            rseq: spent(Call::Rseq),
        }
    }
}

impl World<'_> {
    /// The cost of a step; `None` where an open decision or a refusal may cost more.
    pub fn cost(&self, thread: usize, act: Act) -> Option<Cost> {
        let foreign = self.process.owner() == Some(Owner::Libc);
        match act {
            Act::Create | Act::Ensure | Act::Scope => self.cost_of_registration(thread, 2),
            Act::CreateMasked => self.cost_of_registration(thread, 0).map(|cost| Cost {
                // The two calls of the caller, which blocks and restores.
                mask: cost.mask + 2,
                ..cost
            }),
            Act::Keep if foreign => Some(Cost::NONE),
            Act::Keep => Some(Cost { mask: 1, rseq: 0 }),
            Act::KeepMasked => Some(Cost { mask: 1, rseq: 0 }),
            Act::Release | Act::ReleaseMasked => Some(Cost {
                mask: 1,
                rseq: self.is_ours(thread),
            }),
            Act::EndScope | Act::DropScope => Some(Cost {
                mask: 2 * self.is_ours(thread),
                rseq: self.is_ours(thread),
            }),
            _ => Some(Cost::NONE),
        }
    }

    fn is_ours(&self, thread: usize) -> u32 {
        u32::from(self.registered_here(thread).is_some())
    }

    fn cost_of_registration(&self, thread: usize, mask: u32) -> Option<Cost> {
        if !self.initialized || self.areas[thread].state() != State::Unregistered {
            return Some(Cost::NONE);
        }
        match self.process.owner() {
            Some(Owner::Nobody | Owner::Libc) => Some(Cost::NONE),
            Some(Owner::Runtime) if self.answers_are_plain() => Some(Cost { mask, rseq: 1 }),
            None if self.answers_are_plain() => Some(Cost { mask, rseq: 1 }),
            _ => None,
        }
    }

    fn answers_are_plain(&self) -> bool {
        let answers = self.scenario.answers;
        answers.filter.is_none()
            && !answers.only_32
            && matches!(answers.foreign, Foreign::None | Foreign::Off)
    }

    /// Costs are exact only where no handler makes calls, and no filter cuts a step short.
    pub fn costs_are_exact(&self) -> bool {
        !self.scenario.signals && self.scenario.answers.filter.is_none()
    }

    pub fn is_live(&self, thread: usize) -> bool {
        matches!(self.lives[thread], Life::Live(_))
    }
}
