//! The kernel seam: the crate's calls, with the kernel's order of checks.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};

use rseq_rt::abi::{CS_FLAG_SLICE_EXT_ENABLED, FLAG_SLICE_EXT_DEFAULT_ON, FLAG_UNREGISTER, Rseq};
use rseq_rt::{Errno, Kernel, Trio};

use super::answers::{Answer, Call, Memory};
use super::machine::Machine;
use super::task::{ALL_BUT_SIGSYS, Ids, Registration, is_blocked};

const USER_END: usize = 1 << 47;

impl Machine {
    /// One call: unblocked signals are delivered on the way in and on the way out.
    fn call<R>(
        &self,
        call: Call,
        pretended: R,
        body: impl FnOnce() -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.deliver_signal(Some(call));
        let answer = match self.enter(call) {
            Some(Answer::Refuse(errno)) => Err(errno),
            Some(Answer::Pretend) => Ok(pretended),
            None => body(),
        };
        if call == Call::Rseq {
            self.interlude();
        }
        self.deliver_signal(Some(call));
        answer
    }

    fn register(&self, area: *const Rseq, request: Registration, flags: u32) -> Result<(), Errno> {
        let generation = self.generation;
        let slice = flags & FLAG_SLICE_EXT_DEFAULT_ON != 0;
        if flags & !FLAG_SLICE_EXT_DEFAULT_ON != 0 || slice && !generation.has_slice {
            return Err(Errno::INVAL);
        }
        let me = self.current();
        if let Some(held) = self.task(me).registration {
            return Err(if (held.area, held.length) != (area, request.length) {
                Errno::INVAL
            } else if held.signature != request.signature {
                Errno::PERM
            } else {
                Errno::BUSY
            });
        }
        if !generation.takes(request.length, area.addr())
            || self.answers.only_32 && request.length != 32
        {
            return Err(Errno::INVAL);
        }
        if area.addr() >= USER_END || self.answers.memory == Memory::Unmapped {
            return Err(Errno::FAULT);
        }
        if self.answers.memory == Memory::ReadOnly {
            if generation.read_only_kills {
                self.break_rule("killed: a read-only area was registered");
            }
            return Err(Errno::FAULT);
        }
        // SAFETY: Kernel::rseq (1).
        let memory = unsafe { &*area };
        if memory.rseq_cs.load(Relaxed) != 0 {
            if generation.stale_cs_kills {
                self.break_rule("killed: stale rseq_cs at registration");
            }
            memory.rseq_cs.store(0, Relaxed);
        }
        let fresh = Ids {
            cpu_id: -1,
            ..Ids::default()
        };
        if generation.lays_out() {
            // The kernel initialises all of it, whatever it contains.
            memory.slice_ctrl.store(0, Relaxed);
            let available = generation.slice_flags(request.length);
            let enabled = if slice && available != 0 {
                CS_FLAG_SLICE_EXT_ENABLED
            } else {
                0
            };
            memory.flags.store(available | enabled, Relaxed);
        } else if Ids::read(memory) != fresh || memory.flags.load(Relaxed) != 0 {
            if generation.wants_zeroes {
                self.break_rule("killed: CONFIG_DEBUG_RSEQ found a field that is not zero");
            }
            self.break_rule("an area was registered that was not prepared");
        }
        self.set_registration(me, Some(request));
        self.write_ids(me);
        Ok(())
    }

    fn unregister(&self, request: Registration) -> Result<(), Errno> {
        let me = self.current();
        let held = self.task(me).registration.ok_or(Errno::INVAL)?;
        if (held.area, held.length) != (request.area, request.length) {
            return Err(Errno::INVAL);
        }
        if held.signature != request.signature {
            return Err(Errno::PERM);
        }
        if self.answers.memory != Memory::Writable {
            if self.generation.read_only_unregister_kills {
                self.break_rule("killed: unregistration of an unwritable area");
            }
            return Err(Errno::FAULT);
        }
        // SAFETY: registered, so Kernel::rseq (1) still holds.
        let memory = unsafe { &*held.area };
        if memory.rseq_cs.load(Relaxed) != 0 {
            self.break_rule("unregistration with a descriptor that may be gone");
        }
        let reset = Ids {
            cpu_id: -1,
            ..Ids::default()
        };
        reset.write(memory, self.generation.fills(request.length));
        self.set_registration(me, None);
        Ok(())
    }
}

impl Machine {
    /// The `flags` of the calling thread's area, if the kernel lets the extension be switched.
    fn slice_flags(&self) -> Result<&AtomicU32, Errno> {
        const ENXIO: Option<Errno> = Errno::from_raw(6);
        const NOT_SUPPORTED: Option<Errno> = Errno::from_raw(524);
        if !self.generation.has_slice {
            return Err(Errno::INVAL);
        }
        let held = self.task(self.current()).registration;
        let held = held.ok_or(ENXIO.expect("an errno"))?;
        if held.length <= 32 {
            return Err(NOT_SUPPORTED.expect("an errno"));
        }
        // SAFETY: registered, so Kernel::rseq (1) still holds.
        Ok(&unsafe { &*held.area }.flags)
    }
}

// SAFETY: Kernel (1, 2) by the model, which forgets an area as it unregisters it; (3) the trio is of an area that the test keeps.
unsafe impl Kernel for &Machine {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Errno> {
        let request = Registration {
            area,
            length,
            signature,
        };
        if flags & FLAG_UNREGISTER == 0 && self.handler.is_exiting(self.current()) {
            self.break_rule("registration of a thread that is exiting");
        }
        let mask = self.task(self.current()).mask;
        if mask != ALL_BUT_SIGSYS && !self.is_filtered(Call::Mask) {
            self.break_rule("rseq(2) with signals open, or with SIGSYS blocked");
        }
        if self.current() == super::machine::VFORK_CHILD {
            self.break_rule("rseq(2) in a vfork child");
        }
        self.call(Call::Rseq, (), || match flags {
            FLAG_UNREGISTER => self.unregister(request),
            flags => self.register(area, request, flags),
        })
    }

    fn set_signal_mask(&self, mask: u64) -> Result<u64, Errno> {
        let me = self.current();
        let answer = self.call(Call::Mask, 0, || {
            let previous = self.task(me).mask;
            self.update(me, |task| task.mask = mask);
            Ok(previous)
        });
        if answer.is_err() && is_blocked(self.task(me).mask) {
            self.mask_stuck.set(true);
        }
        answer
    }

    fn getcpu(&self) -> Result<(u32, u32), Errno> {
        self.call(Call::Getcpu, (0, 0), || {
            let task = self.task(self.current());
            Ok((task.cpu, task.node()))
        })
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32) -> Result<(), Errno> {
        self.call(Call::Futex, (), || {
            if word.load(Relaxed) != expected {
                return Err(Errno::AGAIN);
            }
            match self.futex_noise.get() {
                0 => {}
                left => {
                    self.futex_noise.set(left - 1);
                    return Err(if left % 2 == 0 {
                        Errno::INTR
                    } else {
                        Errno::AGAIN
                    });
                }
            }
            let Some(thread) = self.dying.take() else {
                self.break_rule("a wait that nobody ends");
                word.store(0, Release);
                return Ok(());
            };
            self.exit_task(thread);
            word.store(0, Release);
            Ok(())
        })
    }

    fn slice_yield(&self) -> Result<bool, Errno> {
        self.call(Call::SliceYield, false, || {
            self.slice_yields.set(self.slice_yields.get() + 1);
            if self.generation.has_slice {
                Ok(self.slice_in_time.get())
            } else {
                Err(Errno::NOSYS)
            }
        })
    }

    fn set_slice_extension(&self, on: bool) -> Result<(), Errno> {
        self.call(Call::SlicePrctl, (), || {
            let flags = self.slice_flags()?;
            if on {
                flags.fetch_or(CS_FLAG_SLICE_EXT_ENABLED, Relaxed);
            } else {
                flags.fetch_and(!CS_FLAG_SLICE_EXT_ENABLED, Relaxed);
            }
            Ok(())
        })
    }

    fn slice_extension(&self) -> Result<bool, Errno> {
        self.call(Call::SlicePrctl, false, || {
            let flags = self.slice_flags()?.load(Relaxed);
            Ok(flags & CS_FLAG_SLICE_EXT_ENABLED != 0)
        })
    }

    fn probe_write(&self, _address: *const AtomicU32) -> Result<(), Errno> {
        self.call(Call::Probe, (), || match self.answers.memory {
            Memory::Writable => Ok(()),
            Memory::ReadOnly | Memory::Unmapped => Err(Errno::FAULT),
        })
    }

    fn release(&self) -> Result<[u8; 65], Errno> {
        self.call(Call::Uname, [0; 65], || Ok(self.answers.release))
    }

    fn libc_trio(&self) -> Option<Trio> {
        self.deliver_signal(None);
        self.trio()
    }

    unsafe fn thread_pointer(&self) -> *const u8 {
        self.libc_thread_pointer()
    }
}
