//! The stack of at-exit callbacks.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::from_ref;

use crate::fake::generation::LINUX_7_1;
use crate::fake::{Hooks as _, Machine, PLAIN, as_is, run};
use rseq_rt::{AtExit, Callback, Error, Exit, ExitMode, State, Thread};

/// Shared by the callbacks of a test: their running order, and their further actions.
struct Log<'a, const N: usize> {
    stack: &'a AtExit<N>,
    ran: RefCell<Vec<u32>>,
    adds: Cell<u32>,
    answers: RefCell<Vec<Result<(), Error>>>,
}

struct Entry<'a, const N: usize> {
    log: &'a Log<'a, N>,
    name: u32,
}

unsafe extern "C" fn note<const N: usize>(argument: *mut c_void) {
    // SAFETY: `callback` below passes an Entry that outlives the stack.
    let entry = unsafe { &*argument.cast::<Entry<'_, N>>() };
    let log = entry.log;
    log.ran.borrow_mut().push(entry.name);
    for _ in 0..log.adds.take() {
        let answer = log.stack.push(callback(entry));
        log.answers.borrow_mut().push(answer);
    }
}

fn callback<const N: usize>(entry: &Entry<'_, N>) -> Callback {
    // SAFETY: Callback::new (1): every Entry of a test lives until its stack was run, on this thread.
    unsafe { Callback::new(note::<N>, from_ref(entry).cast_mut().cast()) }
}

fn log<const N: usize>(stack: &AtExit<N>) -> Log<'_, N> {
    Log {
        stack,
        ran: RefCell::default(),
        adds: Cell::new(0),
        answers: RefCell::default(),
    }
}

fn on_a_thread(test: impl FnOnce(&Thread<'_, &Machine>)) {
    run(LINUX_7_1, PLAIN, as_is, |_, process, areas| {
        let thread = process.create(&areas[0]).expect("a new area");
        test(&thread);
        assert!(matches!(
            thread.on_exit(ExitMode::Release),
            Exit::Released(_)
        ));
    });
}

#[test]
fn last_in_first_out() {
    on_a_thread(|thread| {
        let stack = AtExit::<4>::new();
        let log = log(&stack);
        let entries = [1, 2, 3].map(|name| Entry { log: &log, name });
        for entry in &entries {
            assert_eq!(stack.push(callback(entry)), Ok(()));
        }
        thread.run_at_exit(&stack);
        assert_eq!(*log.ran.borrow(), [3, 2, 1]);
        assert_eq!(stack.push(callback(&entries[0])), Err(Error::Exiting));
        thread.run_at_exit(&stack);
        assert_eq!(*log.ran.borrow(), [3, 2, 1], "each runs once");
    });
}

#[test]
fn a_callback_adds_callbacks() {
    on_a_thread(|thread| {
        let stack = AtExit::<2>::new();
        let log = log(&stack);
        log.adds.set(3);
        let entries = [1, 2].map(|name| Entry { log: &log, name });
        for entry in &entries {
            assert_eq!(stack.push(callback(entry)), Ok(()));
        }
        thread.run_at_exit(&stack);
        // 2 runs and finds one free place; the callback it added runs before 1, which was there earlier.
        assert_eq!(
            *log.answers.borrow(),
            [Ok(()), Err(Error::CallbacksFull), Err(Error::CallbacksFull)]
        );
        assert_eq!(*log.ran.borrow(), [2, 2, 1]);
    });
}

#[test]
fn full_is_said_and_changes_nothing() {
    on_a_thread(|thread| {
        let stack = AtExit::<2>::new();
        let log = log(&stack);
        let entries = [1, 2, 3].map(|name| Entry { log: &log, name });
        let pushed = [0, 1, 2].map(|which: usize| stack.push(callback(&entries[which])));
        assert_eq!(pushed, [Ok(()), Ok(()), Err(Error::CallbacksFull)]);
        thread.run_at_exit(&stack);
        assert_eq!(*log.ran.borrow(), [2, 1]);
    });
}

#[test]
fn no_room_at_all() {
    on_a_thread(|thread| {
        let stack = AtExit::<0>::default();
        let log = log(&stack);
        let entry = Entry { log: &log, name: 1 };
        assert_eq!(stack.push(callback(&entry)), Err(Error::CallbacksFull));
        thread.run_at_exit(&stack);
        assert_eq!(stack.push(callback(&entry)), Err(Error::Exiting));
    });
}

unsafe extern "C" fn look_at_state(argument: *mut c_void) {
    // SAFETY: the test below passes these two, which outlive the call.
    let (thread, seen) =
        unsafe { &*argument.cast::<(&Thread<'_, &Machine>, Cell<Option<(State, bool)>>)>() };
    let reads = thread.process().current_cpu(thread.area()).is_ok();
    seen.set(Some((thread.state(), reads)));
}

#[test]
fn rseq_works_in_them() {
    on_a_thread(|thread| {
        let stack = AtExit::<1>::new();
        let shared = (thread, Cell::new(None));
        // SAFETY: Callback::new (1): `shared` lives until the stack was run, on this thread.
        let callback = unsafe { Callback::new(look_at_state, from_ref(&shared).cast_mut().cast()) };
        assert_eq!(stack.push(callback), Ok(()));
        let before = thread.state();
        thread.run_at_exit(&stack);
        assert_eq!(shared.1.get(), Some((before, true)));
    });
}
