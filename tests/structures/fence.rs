//! The fence on kernels without it, and where it is refused.

use std::cell::RefCell;

use rseq_rt::percpu::MmCid;
use rseq_rt::structures::{
    Buffer, BufferSlot, DrainError, Fence, FreeList, ListSlot, Membarrier, Node,
};
use rseq_rt::{Errno, Linux};

use super::fake::Fake;
use super::world::{Weather, explore, lock};

/// The successive answers of the calls, and the calls made.
struct Script<'a> {
    membarrier: &'a [Result<(), Errno>],
    visits: &'a [Result<(), Errno>],
    calls: RefCell<Vec<(u32, u32, u32)>>,
    visited: RefCell<Vec<u32>>,
}

// SAFETY: Membarrier (1): there is no other thread.
unsafe impl Membarrier for &Script<'_> {
    fn membarrier(&self, command: u32, flags: u32, cpu: u32) -> Result<(), Errno> {
        let mut calls = self.calls.borrow_mut();
        calls.push((command, flags, cpu));
        self.membarrier[calls.len() - 1]
    }

    fn visit(&self, cpu: u32) -> Result<(), Errno> {
        let mut visited = self.visited.borrow_mut();
        visited.push(cpu);
        self.visits[visited.len() - 1]
    }
}

const REGISTER: (u32, u32, u32) = (256, 0, 0);
const ONE: (u32, u32, u32) = (128, 1, 1);
const ALL: (u32, u32, u32) = (128, 0, 0);

type Calls = Vec<(u32, u32, u32)>;

/// A list with one node in CPU 1's slot, which a drain takes or leaves. Returns its result, the calls, and the visits.
fn drain(
    membarrier: &[Result<(), Errno>],
    visits: &[Result<(), Errno>],
) -> (Result<usize, DrainError>, Calls, Vec<u32>) {
    let script = Script {
        membarrier,
        visits,
        calls: RefCell::default(),
        visited: RefCell::default(),
    };
    let mut node = Node::new(7_u32);
    let slots = [const { ListSlot::new() }; 2];
    // SAFETY: new (1) slots of its own.
    let list = unsafe { FreeList::<u32>::new(&slots) };
    // The overflow slot is not under test: the only actor puts the node into slot 1.
    let given = std::sync::Mutex::new(Some(&mut node));
    let weather = Weather::default();
    explore(weather, &[1], true, |world, start| {
        start(&|me| {
            let node = lock(&given).take();
            list.push(Fake::new(world, me), node.expect("one plan"));
        });
        true
    });
    let fence = Fence::register_on(&script);
    let took = list.take(1, &fence).map(Iterator::count);
    if took.is_err() {
        let left = list.take(1, &Fence::register_on(super::fake::Alone));
        assert_eq!(
            left.map(Iterator::count),
            Ok(1),
            "what was not taken is there"
        );
    }
    (took, script.calls.take(), script.visited.take())
}

#[test]
fn one_call() {
    let drained = drain(&[Ok(()), Ok(())], &[]);
    assert_eq!(drained, (Ok(1), vec![REGISTER, ONE], vec![]));
}

#[test]
fn registered_anew_where_it_was_forgotten() {
    let drained = drain(&[Ok(()), Err(Errno::PERM), Ok(()), Ok(())], &[]);
    assert_eq!(drained, (Ok(1), vec![REGISTER, ONE, REGISTER, ONE], vec![]));
}

#[test]
fn without_membarrier_the_caller_goes_there_and_comes_back() {
    for errno in [Errno::NOSYS, Errno::INVAL, Errno::PERM] {
        let drained = drain(&[Err(errno)], &[Ok(())]);
        assert_eq!(drained, (Ok(1), vec![REGISTER], vec![1]));
    }
    let filtered = [Ok(()), Err(Errno::PERM), Err(Errno::PERM)];
    let drained = drain(&filtered, &[Ok(())]);
    assert_eq!(drained, (Ok(1), vec![REGISTER, ONE, REGISTER], vec![1]));
}

#[test]
fn refused_and_nothing_taken() {
    let (took, _, visited) = drain(&[Err(Errno::NOSYS)], &[Err(Errno::INVAL)]);
    assert_eq!(took, Err(DrainError::Refused(Errno::INVAL)));
    assert_eq!(visited, [1]);
}

#[test]
fn concurrency_ids_stop_all_and_have_no_fallback() {
    let outcome = |membarrier: &[Result<(), Errno>]| {
        let script = Script {
            membarrier,
            visits: &[],
            calls: RefCell::default(),
            visited: RefCell::default(),
        };
        let slots = [const { BufferSlot::new() }; 2];
        let buffer = Buffer::<u32, 14, MmCid>::new(&slots);
        let drained = buffer.drain(1, &Fence::register_on(&script), |_| ());
        (drained, script.calls.take())
    };
    assert_eq!(outcome(&[Ok(()), Ok(())]), (Ok(0), vec![REGISTER, ALL]));
    let refused = Err(DrainError::Refused(Errno::NOSYS));
    assert_eq!(outcome(&[Err(Errno::INVAL)]), (refused, vec![REGISTER]));
}

/// The thread is back on its allowed CPUs after any visit, and an invalid number changes nothing.
#[test]
#[cfg_attr(miri, ignore = "asks the real kernel")]
fn a_visit_ends_where_the_thread_may_run() {
    let allowed = || {
        // SAFETY: sched_getaffinity(2) writes the local set, which is valid whatever it holds.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
            (0..libc::CPU_SETSIZE as usize)
                .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
                .collect::<Vec<_>>()
        }
    };
    let before = allowed();
    for &cpu in &before {
        assert_eq!(Linux.visit(cpu as u32), Ok(()));
        assert_eq!(allowed(), before);
    }
    for none in [8191, 8192, u32::MAX] {
        assert_eq!(Linux.visit(none), Err(Errno::INVAL));
        assert_eq!(allowed(), before);
    }
}
