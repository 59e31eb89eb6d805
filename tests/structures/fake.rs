//! Sections that can be aborted at each step, and a kernel whose fence aborts them.

use std::ptr::{null_mut, with_exposed_provenance, with_exposed_provenance_mut};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use rseq_rt::Errno;
use rseq_rt::percpu::{Commit, CpuId, Miss, Operation, RESTARTS, Slots};
use rseq_rt::structures::{Membarrier, ThreadSections};

use super::world::{Event, World};

/// One actor, as the structures see it.
#[derive(Clone, Copy)]
pub struct Fake<'w> {
    pub world: &'w World,
    pub me: usize,
    /// The action of this actor's signal handler, which runs at most once.
    pub handler: Option<&'w (dyn Fn(Fake<'w>) + Sync)>,
    /// Sections unknown to the kernel: the broken variant of an unregistered thread that uses the slots.
    pub unprotected: bool,
    /// It may not run sections.
    pub unregistered: bool,
}

struct Aborted;

enum End {
    Aborted,
    Miss(Miss),
}

impl From<Aborted> for End {
    fn from(Aborted: Aborted) -> Self {
        Self::Aborted
    }
}

const DIFFERS: End = End::Miss(Miss::Differs);

fn word<T>(slot: &T, offset: usize) -> &AtomicUsize {
    let at = std::ptr::from_ref(slot).cast::<u8>().wrapping_add(offset);
    // SAFETY: the structures pass offsets of words in their slots, and `slot` is one.
    unsafe { &*at.cast() }
}

impl<'w> Fake<'w> {
    pub fn new(world: &'w World, me: usize) -> Self {
        Self {
            world,
            me,
            handler: None,
            unprotected: false,
            unregistered: false,
        }
    }

    fn pause(self) {
        if self.world.step(self.me) == Event::Handler
            && let Some(handler) = self.handler
        {
            handler(Self {
                handler: None,
                ..self
            });
        }
    }

    fn step(self) -> Result<(), Aborted> {
        self.pause();
        if self.world.goes_on(self.me) || self.unprotected {
            Ok(())
        } else {
            Err(Aborted)
        }
    }

    /// The pseudo-code of the operations that the structures use, one step per line.
    fn steps<T>(self, slot: &T, operation: Operation) -> Result<*mut u8, End> {
        let compare = |at, expect| match word(slot, at).load(SeqCst) == expect {
            true => self.step().map_err(End::from),
            false => Err(DIFFERS),
        };
        let (commit, value) = match operation {
            Operation::Add { word: at, value } => {
                // Two steps, as on CPUs that add in registers.
                let before = word(slot, at).load(SeqCst);
                self.step()?;
                (at, before.wrapping_add(value))
            }
            Operation::CompareTwoAndStore {
                word,
                expect,
                second,
                expect_second,
                new,
            } => {
                compare(word, expect)?;
                compare(second, expect_second)?;
                (word, new)
            }
            Operation::CompareStoreAndStore {
                word: at,
                expect,
                second,
                value,
                new,
            } => {
                compare(at, expect)?;
                word(slot, second).store(value, SeqCst);
                self.step()?;
                (at, new)
            }
            Operation::CompareLinkAndStore {
                word,
                expect,
                link,
                new,
            } => {
                compare(word, expect)?;
                // SAFETY: only the list uses it.
                unsafe { AtomicUsize::from_ptr(link) }.store(expect, SeqCst);
                self.step()?;
                (word, new)
            }
            Operation::Pop {
                word: at,
                empty,
                link,
            } => {
                let head = word(slot, at).load(SeqCst);
                if head == empty.addr() {
                    return Err(DIFFERS);
                }
                self.step()?;
                let next = with_exposed_provenance::<AtomicUsize>(head.wrapping_add_signed(link));
                // SAFETY: readable while the slot holds `head`; otherwise this section is aborted.
                let next = unsafe { &*next }.load(SeqCst);
                self.step()?;
                word(slot, at).store(next, SeqCst);
                return Ok(with_exposed_provenance_mut(head));
            }
            Operation::CompareCopyAndStore {
                word,
                expect,
                offset,
                source,
                length,
                new,
            } => {
                compare(word, expect)?;
                let to = std::ptr::from_ref(slot).cast::<u8>().cast_mut();
                for n in 0..length {
                    // SAFETY: in the slot, in a cell, and unused while the word is `expect`; the caller's bytes.
                    unsafe { to.add(offset + n).write(source.add(n).read()) };
                    self.step()?;
                }
                (word, new)
            }
            Operation::AddThrough { .. } | Operation::CompareAndStore { .. } => {
                unreachable!("no structure uses it")
            }
        };
        word(slot, commit).store(value, SeqCst);
        Ok(null_mut())
    }

    fn section<T: Sync, R>(
        self,
        slots: Slots<'_, CpuId, T>,
        steps: impl Fn(&T) -> Result<R, End>,
    ) -> Result<R, Miss> {
        if self.unregistered {
            return Err(Miss::OutOfRange);
        }
        for _ in 0..=RESTARTS {
            self.pause();
            self.world.enter(self.me);
            let once = || {
                self.step()?;
                let slot = slots.get(self.world.cpu(self.me));
                steps(slot.ok_or(End::Miss(Miss::OutOfRange))?)
            };
            let end = once();
            self.world.leave(self.me);
            match end {
                Ok(result) => return Ok(result),
                Err(End::Miss(miss)) => return Err(miss),
                Err(End::Aborted) => {}
            }
        }
        Err(Miss::Aborted)
    }
}

// SAFETY: ThreadSections (1): the pseudo-code.
unsafe impl ThreadSections<CpuId> for Fake<'_> {
    fn index(self) -> Option<usize> {
        self.pause();
        (!self.unregistered).then(|| self.world.cpu(self.me))
    }

    unsafe fn run<T: Sync>(
        self,
        slots: Slots<'_, CpuId, T>,
        operation: Operation,
        _: Commit,
    ) -> Result<*mut u8, Miss> {
        self.section(slots, |slot| self.steps(slot, operation))
    }

    fn between(self) {
        self.pause();
    }
}

/// The kernel of one actor: its fences, and its moves to another CPU.
#[derive(Clone, Copy)]
pub struct Kernel<'w> {
    pub world: &'w World,
    pub me: usize,
    /// The answer of membarrier(2) to the fence.
    pub answer: Result<(), Errno>,
    /// The result of visiting a CPU.
    pub moves: Result<(), Errno>,
}

impl<'w> Kernel<'w> {
    pub fn new(world: &'w World, me: usize) -> Self {
        Self {
            world,
            me,
            answer: Ok(()),
            moves: Ok(()),
        }
    }
}

// SAFETY: Membarrier (1), violated in worlds whose fence does nothing, by tests that want that.
unsafe impl Membarrier for Kernel<'_> {
    fn membarrier(&self, command: u32, flags: u32, cpu: u32) -> Result<(), Errno> {
        // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ
        if command == 256 {
            return self.answer;
        }
        assert_eq!((command, flags), (128, 1), "the fence of one CPU");
        self.world.step(self.me);
        self.answer?;
        self.world.fence(self.me, Some(cpu as usize));
        self.world.step(self.me);
        Ok(())
    }

    fn visit(&self, cpu: u32) -> Result<(), Errno> {
        self.world.step(self.me);
        self.moves?;
        // Moves to the CPU, which preempts the actor there, and back, which need not.
        self.world.fence(self.me, Some(cpu as usize));
        self.world.step(self.me);
        Ok(())
    }
}

/// The kernel without actors: there is nothing to abort.
pub struct Alone;

// SAFETY: Membarrier (1): as stated.
unsafe impl Membarrier for Alone {
    fn membarrier(&self, _: u32, _: u32, _: u32) -> Result<(), Errno> {
        Ok(())
    }

    fn visit(&self, _: u32) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}
