//! The counter: which system calls each section of a traced child makes.
//!
//! A section begins and ends with a call that the hooks never make, whose arguments say the section's name.

use linux_raw_sys::general::{
    __NR_exit as EXIT, __NR_futex as FUTEX, __NR_getcpu as GETCPU, __NR_getppid as MARK,
    __NR_munmap as MUNMAP, __NR_rseq as RSEQ, __NR_rt_sigprocmask as RT_SIGPROCMASK,
    __NR_set_tid_address as SET_TID_ADDRESS, FUTEX_WAKE_OP, SIG_SETMASK,
};
use rseq_rt::Area;
use rseq_rt::abi::FLAG_UNREGISTER;
use rseq_rt::arch::SIGNATURE;

use crate::harness::{Failed, failed};
use crate::show::{Hex, Show, Text};
use crate::sys::process::Status;
use crate::sys::ptrace;
use crate::sys::raw::call2;
use crate::trace::{Event, Tracee};
use crate::{check, text};

const SECTIONS: usize = 32;
const CALLS: usize = 8;

/// In the child: names the calls that `body` makes.
pub fn section<R>(name: &'static str, body: impl FnOnce() -> R) -> R {
    rest(name);
    let result = body();
    mark("");
    result
}

/// In the child: names all calls of this thread from here to its end.
pub fn rest(name: &'static str) {
    mark(name);
}

fn mark(name: &'static str) {
    let at = name.as_ptr().expose_provenance();
    // SAFETY: getppid(2) looks at no argument.
    unsafe { call2(MARK, at, name.len()) };
}

/// One call: its number and those arguments that mean something. In place of a mask's address stands the mask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Call {
    nr: u64,
    args: [u64; 4],
}

impl Call {
    const NONE: Self = Self {
        nr: u64::MAX,
        args: [0; 4],
    };

    const fn new(nr: u32, args: [u64; 4]) -> Self {
        Self {
            nr: nr as u64,
            args,
        }
    }

    /// rt_sigprocmask(SIG_SETMASK, mask), all 64 signals.
    pub const fn mask(mask: u64) -> Self {
        Self::new(RT_SIGPROCMASK, [SIG_SETMASK as u64, mask, 8, 0])
    }

    /// rseq(2) with these flags.
    pub fn rseq(area: &Area, length: u32, flags: u32) -> Self {
        let at = core::ptr::from_ref(area).addr() as u64;
        let (length, flags) = (u64::from(length), u64::from(flags));
        Self::new(RSEQ, [at, length, flags, u64::from(SIGNATURE)])
    }

    /// rseq(2): registration.
    pub fn register(area: &Area, length: u32) -> Self {
        Self::rseq(area, length, 0)
    }

    /// rseq(2): unregistration.
    pub fn unregister(area: &Area, length: u32) -> Self {
        Self::rseq(area, length, FLAG_UNREGISTER)
    }

    /// futex(2): does the memory take a store?
    pub const PROBE: Self = Self::new(FUTEX, [FUTEX_WAKE_OP as u64, 0, 0, 0]);
    /// getcpu(2).
    pub const GETCPU: Self = Self::new(GETCPU, [0; 4]);
    /// exit(0).
    pub const EXIT: Self = Self::new(EXIT, [0; 4]);
    /// set_tid_address(null).
    pub const FORGET_CLEAR_TID: Self = Self::new(SET_TID_ADDRESS, [0; 4]);

    /// set_tid_address(2) of a word inside `area`.
    pub fn clear_tid_in(area: &Area) -> Self {
        let behind_the_word = core::ptr::from_ref(area).addr() + Area::STATE_OFFSET + 4;
        Self::new(SET_TID_ADDRESS, [behind_the_word as u64, 0, 0, 0])
    }

    /// munmap(2).
    pub fn munmap(base: *mut u8, length: usize) -> Self {
        Self::new(MUNMAP, [base.addr() as u64, length as u64, 0, 0])
    }

    /// As the stopped thread `tid` is about to make it.
    fn seen(tid: i32, nr: u64, [a, b, c, d, ..]: [u64; 6]) -> Self {
        let low = |word: u64| word & u64::from(u32::MAX);
        let args = match u32::try_from(nr) {
            Ok(RT_SIGPROCMASK) => [low(a), ptrace::peek(tid, b).unwrap_or(0), d, 0],
            Ok(RSEQ) => [a, low(b), low(c), low(d)],
            Ok(MUNMAP) => [a, b, 0, 0],
            Ok(FUTEX) => [low(b), 0, 0, 0],
            Ok(GETCPU) => [0; 4],
            Ok(EXIT | SET_TID_ADDRESS) => [a, 0, 0, 0],
            _ => [a, b, c, d],
        };
        Self { nr, args }
    }
}

impl Show for Call {
    fn show(&self, to: &mut Text) {
        match u32::try_from(self.nr) {
            Ok(RT_SIGPROCMASK) => to.and("rt_sigprocmask"),
            Ok(RSEQ) => to.and("rseq"),
            Ok(MUNMAP) => to.and("munmap"),
            Ok(FUTEX) => to.and("futex"),
            Ok(GETCPU) => to.and("getcpu"),
            Ok(EXIT) => to.and("exit"),
            Ok(SET_TID_ADDRESS) => to.and("set_tid_address"),
            _ => to.and("call ").and(&self.nr),
        };
        to.and("(");
        for arg in self.args {
            to.and(" ").and(&Hex(arg));
        }
        to.and(" )");
    }
}

#[derive(Clone, Copy)]
struct Section {
    name: &'static str,
    tid: i32,
    open: bool,
    count: usize,
    calls: [Call; CALLS],
}

/// What was counted.
pub struct Calls([Option<Section>; SECTIONS]);

impl Calls {
    /// Runs `body` in a traced child, which has to end well; what it checks counts for the test.
    pub fn of(body: impl FnOnce()) -> Result<Self, Failed> {
        let mut calls = Self([None; SECTIONS]);
        let mut child = Tracee::start(body)?;
        let mut ended = None;
        while let Some((tid, event)) = child.next_event()? {
            match event {
                Event::Enter { nr, args } if nr == u64::from(MARK) => {
                    let [at, len, ..] = args;
                    calls.close(tid);
                    // SAFETY: the child is a fork of this very program, and `mark` gave a literal's place.
                    let name = unsafe { literal(at, len) };
                    check!(name.is_empty() || calls.open(tid, name), "section ", *name);
                }
                Event::Enter { nr, args } => calls.count(tid, Call::seen(tid, nr, args)),
                Event::Gone(status) => {
                    calls.close(tid);
                    if tid == child.pid() {
                        ended = Some(status);
                    }
                }
                Event::Signal(_) | Event::Leave(_) | Event::Thread => {}
            }
        }
        check!(ended == Some(Status::Exited(0)), "the tracee ended badly");
        Ok(calls)
    }

    fn of_thread(&mut self, tid: i32) -> Option<&mut Section> {
        let sections = self.0.iter_mut().flatten();
        sections
            .into_iter()
            .find(|section| section.open && section.tid == tid)
    }

    fn open(&mut self, tid: i32, name: &'static str) -> bool {
        let twice = self.named(name).is_some();
        let free = self.0.iter_mut().find(|section| section.is_none());
        let Some(free) = free.filter(|_| !twice) else {
            return false;
        };
        *free = Some(Section {
            name,
            tid,
            open: true,
            count: 0,
            calls: [Call::NONE; CALLS],
        });
        true
    }

    fn close(&mut self, tid: i32) {
        if let Some(section) = self.of_thread(tid) {
            section.open = false;
        }
    }

    fn count(&mut self, tid: i32, call: Call) {
        if let Some(section) = self.of_thread(tid) {
            if let Some(place) = section.calls.get_mut(section.count) {
                *place = call;
            }
            section.count += 1;
        }
    }

    fn named(&self, name: &str) -> Option<&Section> {
        self.0
            .iter()
            .flatten()
            .find(|section| section.name.as_bytes() == name.as_bytes())
    }

    /// Did the section make exactly these calls, in this order? A section that never ran made none of them.
    pub fn are(&self, name: &str, expected: &[Call]) -> bool {
        self.named(name).is_some_and(|section| {
            section.count == expected.len() && section.calls.get(..section.count) == Some(expected)
        })
    }

    /// As [`Self::expect`], of a create: one rseq(2) for each length with its flags, between two masks if there are any.
    #[track_caller]
    pub fn expect_attempts(
        &self,
        name: &str,
        area: &Area,
        attempts: &[(u32, u32)],
        masks: Option<(u64, u64)>,
    ) -> Result<(), Failed> {
        let (mut expected, mut count) = ([Call::NONE; CALLS], 0);
        let asked = attempts
            .iter()
            .map(|&(length, flags)| Call::rseq(area, length, flags));
        let masks = masks.filter(|_| !attempts.is_empty());
        let (before, after) = masks.unzip();
        let calls = (before.map(Call::mask).into_iter())
            .chain(asked)
            .chain(after.map(Call::mask));
        for (place, call) in expected.iter_mut().zip(calls) {
            *place = call;
            count += 1;
        }
        self.expect(name, expected.get(..count).unwrap_or(&[]))
    }

    /// As [`Self::are`], or the test fails and says what was seen.
    #[track_caller]
    pub fn expect(&self, name: &str, expected: &[Call]) -> Result<(), Failed> {
        if self.are(name, expected) {
            return Ok(());
        }
        let mut seen = text!(*name, ": ");
        match self.named(name) {
            None => seen.push(b"never ran"),
            Some(section) => {
                seen.and(&section.count).and(" calls:");
                for call in section.calls.iter().take(section.count) {
                    seen.and(" ").and(call);
                }
            }
        }
        Err(failed(seen))
    }
}

/// # Safety
/// 1. `len` bytes at `at` are a literal of this program.
unsafe fn literal(at: u64, len: u64) -> &'static str {
    let at = core::ptr::with_exposed_provenance(at as usize);
    // SAFETY: 1.
    unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(at, len as usize)) }
}
