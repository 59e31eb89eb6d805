//! Counts the system calls of each section of a traced child. A section begins and ends with a call that the hooks
//! never make, whose arguments carry the section's name.

use core::fmt;

use heapless::Vec;
use linux_raw_sys::general::{
    __NR_exit as EXIT, __NR_futex as FUTEX, __NR_getcpu as GETCPU, __NR_getppid as MARK,
    __NR_munmap as MUNMAP, __NR_rseq as RSEQ, __NR_rt_sigprocmask as RT_SIGPROCMASK,
    __NR_set_tid_address as SET_TID_ADDRESS, FUTEX_WAKE_OP, SIG_SETMASK,
};
use rseq_rt::Area;
use rseq_rt::abi::FLAG_UNREGISTER;
use rseq_rt::arch::SIGNATURE;

use crate::sys::process::Status;
use crate::sys::ptrace;
use crate::sys::raw::call2;
use crate::trace::{Event, Tracee};

/// More than any section should make.
const CALLS: usize = 12;

/// In the child: labels the calls that `body` makes.
pub fn section<R>(name: &'static str, body: impl FnOnce() -> R) -> R {
    rest(name);
    let result = body();
    mark("");
    result
}

/// In the child: labels all calls of this thread from here to its end.
pub fn rest(name: &'static str) {
    mark(name);
}

fn mark(name: &'static str) {
    let at = name.as_ptr().expose_provenance();
    // SAFETY: getppid(2) takes no arguments.
    unsafe { call2(MARK, at, name.len()) };
}

/// One call: its number and its significant arguments. A mask stands in place of its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Call {
    nr: u64,
    args: [u64; 4],
}

impl Call {
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

    pub fn rseq(area: &Area, length: u32, flags: u32) -> Self {
        let at = core::ptr::from_ref(area).addr() as u64;
        let (length, flags) = (u64::from(length), u64::from(flags));
        Self::new(RSEQ, [at, length, flags, u64::from(SIGNATURE)])
    }

    pub fn register(area: &Area, length: u32) -> Self {
        Self::rseq(area, length, 0)
    }

    pub fn unregister(area: &Area, length: u32) -> Self {
        Self::rseq(area, length, FLAG_UNREGISTER)
    }

    /// futex(2), to test whether the memory is writable.
    pub const PROBE: Self = Self::new(FUTEX, [FUTEX_WAKE_OP as u64, 0, 0, 0]);
    pub const GETCPU: Self = Self::new(GETCPU, [0; 4]);
    pub const EXIT: Self = Self::new(EXIT, [0; 4]);
    /// set_tid_address(null).
    pub const FORGET_CLEAR_TID: Self = Self::new(SET_TID_ADDRESS, [0; 4]);

    /// set_tid_address(2) of a word inside `area`.
    pub fn clear_tid_in(area: &Area) -> Self {
        let behind_the_word = core::ptr::from_ref(area).addr() + Area::STATE_OFFSET + 4;
        Self::new(SET_TID_ADDRESS, [behind_the_word as u64, 0, 0, 0])
    }

    pub fn munmap(base: *mut u8, length: usize) -> Self {
        Self::new(MUNMAP, [base.addr() as u64, length as u64, 0, 0])
    }

    /// The call that the stopped thread `tid` is about to make.
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

impl fmt::Debug for Call {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.nr) {
            Ok(RT_SIGPROCMASK) => to.write_str("rt_sigprocmask"),
            Ok(RSEQ) => to.write_str("rseq"),
            Ok(MUNMAP) => to.write_str("munmap"),
            Ok(FUTEX) => to.write_str("futex"),
            Ok(GETCPU) => to.write_str("getcpu"),
            Ok(EXIT) => to.write_str("exit"),
            Ok(SET_TID_ADDRESS) => to.write_str("set_tid_address"),
            _ => write!(to, "call {}", self.nr),
        }?;
        let [a, b, c, d] = self.args;
        write!(to, "({a:#x} {b:#x} {c:#x} {d:#x})")
    }
}

struct Section {
    name: &'static str,
    tid: i32,
    open: bool,
    calls: Vec<Call, CALLS>,
}

/// The calls of each section.
pub struct Calls(Vec<Section, 32>);

impl Calls {
    /// Runs `body` in a traced child, which must succeed.
    #[track_caller]
    pub fn of(body: impl FnOnce()) -> Self {
        let mut calls = Self(Vec::new());
        let end = Tracee::watch(body, |_, tid, event| match event {
            Event::Enter { nr, args } if nr == u64::from(MARK) => {
                let [at, len, ..] = args;
                calls.close(tid);
                // SAFETY: the child is a fork of this very program, and `mark` gave a literal's place.
                let name = unsafe { literal(at, len) };
                if !name.is_empty() {
                    calls.open(tid, name);
                }
            }
            Event::Enter { nr, args } => calls.count(tid, Call::seen(tid, nr, args)),
            Event::Gone(_) => calls.close(tid),
            Event::Signal(_) | Event::Leave(_) | Event::Thread => {}
        });
        assert_eq!(end, Status::Exited(0), "the traced child");
        calls
    }

    fn of_thread(&mut self, tid: i32) -> Option<&mut Section> {
        let mut sections = self.0.iter_mut();
        sections.find(|section| section.open && section.tid == tid)
    }

    fn open(&mut self, tid: i32, name: &'static str) {
        assert!(self.named(name).is_none(), "{name}: twice");
        let section = Section {
            name,
            tid,
            open: true,
            calls: Vec::new(),
        };
        assert!(self.0.push(section).is_ok(), "too many sections");
    }

    fn close(&mut self, tid: i32) {
        if let Some(section) = self.of_thread(tid) {
            section.open = false;
        }
    }

    fn count(&mut self, tid: i32, call: Call) {
        if let Some(section) = self.of_thread(tid) {
            // If full, there are too many calls already.
            let _ = section.calls.push(call);
        }
    }

    fn named(&self, name: &str) -> Option<&[Call]> {
        let mut sections = self.0.iter();
        let section = sections.find(|section| section.name == name)?;
        Some(&section.calls)
    }

    /// Whether the section made exactly these calls, in this order. A section that never ran made none.
    pub fn are(&self, name: &str, expected: &[Call]) -> bool {
        self.named(name) == Some(expected)
    }

    /// As [`Self::are`], or the test fails and shows the calls.
    #[track_caller]
    pub fn expect(&self, name: &str, expected: &[Call]) {
        assert_eq!(self.named(name), Some(expected), "{name}");
    }

    /// As [`Self::expect`], for a create: one rseq(2) per length with its flags, between two masks if any.
    #[track_caller]
    pub fn expect_attempts(
        &self,
        name: &str,
        area: &Area,
        attempts: &[(u32, u32)],
        masks: Option<(u64, u64)>,
    ) {
        let masks = masks.filter(|_| !attempts.is_empty());
        let (before, after) = masks.unzip();
        let asked = attempts
            .iter()
            .map(|&(length, flags)| Call::rseq(area, length, flags));
        let before = before.map(Call::mask).into_iter();
        let expected: Vec<Call, CALLS> = before.chain(asked).chain(after.map(Call::mask)).collect();
        self.expect(name, &expected);
    }
}

/// # Safety
/// 1. `len` bytes at `at` are a literal of this program.
unsafe fn literal(at: u64, len: u64) -> &'static str {
    let at = core::ptr::with_exposed_provenance(at as usize);
    // SAFETY: 1.
    unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(at, len as usize)) }
}
