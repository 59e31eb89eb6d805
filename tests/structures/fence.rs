//! The fence where the kernel has none, and where it refuses.

use std::cell::RefCell;

use rseq_rt::Errno;
use rseq_rt::percpu::MmCid;
use rseq_rt::structures::{
    Buffer, BufferSlot, CpuSet, DrainError, Fence, FreeList, ListSlot, Membarrier, Node,
};

use crate::fake::Fake;

/// What the calls answer, in turn, and which were made.
struct Script<'a> {
    membarrier: &'a [Result<(), Errno>],
    moves: &'a [Result<(), Errno>],
    calls: RefCell<Vec<(u32, u32, u32)>>,
    moved: RefCell<Vec<CpuSet>>,
}

/// A number that only the largest machines have.
const BEFORE: u32 = 2047;

// SAFETY: Membarrier (1): no other thread is there.
unsafe impl Membarrier for &Script<'_> {
    fn membarrier(&self, command: u32, flags: u32, cpu: u32) -> Result<(), Errno> {
        let mut calls = self.calls.borrow_mut();
        calls.push((command, flags, cpu));
        self.membarrier[calls.len() - 1]
    }

    fn affinity(&self) -> Result<CpuSet, Errno> {
        Ok(CpuSet::one(BEFORE))
    }

    fn set_affinity(&self, cpus: &CpuSet) -> Result<(), Errno> {
        let mut moved = self.moved.borrow_mut();
        moved.push(*cpus);
        self.moves[moved.len() - 1]
    }
}

const REGISTER: (u32, u32, u32) = (256, 0, 0);
const ONE: (u32, u32, u32) = (128, 1, 1);
const ALL: (u32, u32, u32) = (128, 0, 0);

type Calls = Vec<(u32, u32, u32)>;

/// A list with one node in CPU 1's slot, which a drain takes or leaves: what it answered, the calls, and the moves.
fn drain(
    membarrier: &[Result<(), Errno>],
    moves: &[Result<(), Errno>],
) -> (Result<usize, DrainError>, Calls, Vec<u32>) {
    let script = Script {
        membarrier,
        moves,
        calls: RefCell::default(),
        moved: RefCell::default(),
    };
    let mut node = Node::new(7_u32);
    let slots = [const { ListSlot::new() }; 2];
    // SAFETY: new (1) slots of its own.
    let list = unsafe { FreeList::<u32>::new(&slots) };
    // The overflow slot is not what is drained here: the node goes to slot 1 by the one actor there.
    let given = std::sync::Mutex::new(Some(&mut node));
    let weather = crate::world::Weather::default();
    crate::world::explore(weather, &[1], true, |world, start| {
        start(&[&|me| {
            let node = given.lock().expect("no panic inside").take();
            list.push(Fake::new(world, me), node.expect("one plan"));
        }]);
        true
    });
    let fence = Fence::register_on(&script);
    let took = list.take(1, &fence).map(Iterator::count);
    if took.is_err() {
        let left = list.take(1, &Fence::register_on(crate::fake::Alone));
        assert_eq!(
            left.map(Iterator::count),
            Ok(1),
            "what was not taken is there"
        );
    }
    let moved = script
        .moved
        .take()
        .into_iter()
        .flat_map(CpuSet::iter)
        .collect();
    (took, script.calls.take(), moved)
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
        let drained = drain(&[Err(errno)], &[Ok(()), Ok(())]);
        assert_eq!(drained, (Ok(1), vec![REGISTER], vec![1, BEFORE]));
    }
    let filtered = [Ok(()), Err(Errno::PERM), Err(Errno::PERM)];
    let drained = drain(&filtered, &[Ok(()), Ok(())]);
    assert_eq!(
        drained,
        (Ok(1), vec![REGISTER, ONE, REGISTER], vec![1, BEFORE])
    );
}

#[test]
fn refused_and_nothing_taken() {
    let (took, _, moved) = drain(&[Err(Errno::NOSYS)], &[Err(Errno::INVAL)]);
    assert_eq!(took, Err(DrainError::Refused(Errno::INVAL)));
    assert_eq!(moved, [1]);
}

#[test]
fn concurrency_ids_stop_all_and_have_no_fallback() {
    let outcome = |membarrier: &[Result<(), Errno>]| {
        let script = Script {
            membarrier,
            moves: &[],
            calls: RefCell::default(),
            moved: RefCell::default(),
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
