//! Per-CPU operations on the host's own kernel, with the area that glibc has registered.

use std::mem::offset_of;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicUsize};

use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, MmCid, Operation, Slots, StorageError};
use rseq_rt::structures::CpuSet;
use rseq_rt::{Area, Config, Exit, ExitMode, Owner, Process, State};

#[derive(Default)]
#[repr(C, align(128))]
struct Slot {
    word: AtomicUsize,
    second: AtomicUsize,
    head: AtomicPtr<Node>,
    bytes: [AtomicUsize; 8],
}

#[derive(Default)]
#[repr(C)]
struct Node {
    value: usize,
    next: AtomicUsize,
}

const WORD: usize = offset_of!(Slot, word);
const SECOND: usize = offset_of!(Slot, second);
const HEAD: usize = offset_of!(Slot, head);
const BYTES: usize = offset_of!(Slot, bytes);
const NEXT: isize = offset_of!(Node, next) as isize;

const ADD: Operation = Operation::Add {
    word: WORD,
    value: 1,
};
const POP: Operation = Operation::Pop {
    word: HEAD,
    empty: null_mut(),
    link: NEXT,
};

fn slots() -> Vec<Slot> {
    let mut slots = Vec::new();
    slots.resize_with(1024, Slot::default);
    slots
}

fn process() -> Process {
    let process = Process::new();
    // SAFETY: getauxval(3) has no conditions.
    let ask = |kind| match unsafe { libc::getauxval(kind) } {
        0 => None,
        value => Some(value as usize),
    };
    process.init(Config::new(ask(27), ask(28))).expect("once");
    process.allow_sections();
    process
}

/// Runs `body` on this thread, if it may run sections.
fn with_current<I: Index>(process: &Process, body: impl FnOnce(Current<'_, I>)) -> bool {
    let area = Area::new();
    // SAFETY: (1, 2) this thread's; under an owning libc it is a thread of that libc, otherwise released below.
    unsafe {
        if process.ensure_registered(&area) != Ok(State::Registered(Owner::Libc)) {
            if let Ok(thread) = process.current_thread(&area) {
                let exit = thread.on_exit(ExitMode::Release);
                assert!(matches!(exit, Exit::Released(_)));
            }
            eprintln!("skipped: this libc has registered nothing");
            return false;
        }
        // SAFETY: (1) as above; (2) not after `body`.
        match process.current(&area) {
            Some(current) => body(current),
            None => return false,
        }
    }
    true
}

fn each_operation<I: Index>() {
    let process = process();
    let storage = slots();
    let slots = Slots::<I, Slot>::new(&storage).expect("good storage");
    with_current::<I>(&process, |current| {
        let sum = |word: fn(&Slot) -> usize| slots.iter().map(word).sum::<usize>();
        for commit in [Commit::Relaxed, Commit::Release] {
            // SAFETY: (1, 2, 3) the words of `Slot`, the bytes and the nodes below.
            let run = |operation| unsafe { current.run(slots, operation, commit) };
            // Single-threaded: the first one always lands in some slot, and compared values are read on one CPU.
            let retry = |operation: &dyn Fn(&Slot) -> Operation| {
                while run(operation(slots.get(current.id()).expect("a slot"))).is_err() {}
            };
            let before = sum(|slot| slot.word.load(SeqCst));
            // SAFETY: (1, 2, 3) the words of `Slot`, the bytes and the nodes below.
            unsafe {
                run(Operation::Add {
                    word: WORD,
                    value: 5,
                })
                .expect("added");
                retry(&|slot| {
                    let word = slot.word.load(SeqCst);
                    Operation::CompareAndStore {
                        word: WORD,
                        expect: word,
                        new: word + 1,
                    }
                });
                retry(&|slot| {
                    let (word, second) = (slot.word.load(SeqCst), slot.second.load(SeqCst));
                    Operation::CompareTwoAndStore {
                        word: WORD,
                        expect: word,
                        second: SECOND,
                        expect_second: second,
                        new: word + 1,
                    }
                });
                retry(&|slot| {
                    let word = slot.word.load(SeqCst);
                    Operation::CompareStoreAndStore {
                        word: WORD,
                        expect: word,
                        second: SECOND,
                        value: 77,
                        new: word + 1,
                    }
                });
                assert_eq!(sum(|slot| slot.word.load(SeqCst)), before + 8);
                let one = Operation::CompareAndStore {
                    word: WORD,
                    expect: usize::MAX,
                    new: 0,
                };
                let two = Operation::CompareTwoAndStore {
                    word: BYTES + 56,
                    expect: 0,
                    second: SECOND,
                    expect_second: 1,
                    new: 0,
                };
                assert_eq!([one, two].map(run), [Err(Miss::Differs); 2]);
                for length in 0..=64 {
                    let source: Vec<u8> = (0..length as u8).map(|byte| byte ^ 0x5a).collect();
                    let here = std::cell::Cell::new(0);
                    retry(&|slot| {
                        here.set(std::ptr::from_ref(slot).addr());
                        let word = slot.word.load(SeqCst);
                        let from = source.as_ptr();
                        Operation::CompareCopyAndStore {
                            word: WORD,
                            expect: word,
                            offset: BYTES,
                            source: from,
                            length,
                            new: word + 1,
                        }
                    });
                    let copied = slots.iter().any(|slot| {
                        let bytes = slot.bytes.as_ptr().cast::<u8>();
                        std::slice::from_raw_parts(bytes, length) == source
                    });
                    assert!(copied, "{length} bytes");
                }
                let mut node = Node {
                    value: 3,
                    ..Node::default()
                };
                let at = &raw mut node;
                retry(&|slot| {
                    let head = slot.head.load(SeqCst).expose_provenance();
                    let link = (*at).next.as_ptr();
                    Operation::CompareLinkAndStore {
                        word: HEAD,
                        expect: head,
                        link,
                        new: at.expose_provenance(),
                    }
                });
                let popped = loop {
                    if let Ok(head) = run(POP) {
                        break head.cast::<Node>();
                    }
                };
                assert_eq!((popped, (*popped).value), (at, 3));
                assert_eq!(run(POP), Err(Miss::Differs));
                for slot in slots.iter() {
                    slot.second.store(
                        std::ptr::from_ref(&slot.bytes[1]).expose_provenance(),
                        SeqCst,
                    );
                    slot.bytes[2].store(0, SeqCst);
                }
                run(Operation::AddThrough {
                    word: SECOND,
                    offset: 8,
                    value: 9,
                })
                .expect("added");
                assert_eq!(sum(|slot| slot.bytes[2].load(SeqCst)), 9);
            }
        }
    });
}

#[test]
fn each_operation_by_cpu() {
    each_operation::<CpuId>();
}

#[test]
fn each_operation_by_concurrency_id() {
    each_operation::<MmCid>();
}

#[test]
fn many_threads_add() {
    const THREADS: usize = 12;
    const EACH: usize = 100_000;
    let process = process();
    let storage = slots();
    let slots = Slots::<CpuId, Slot>::new(&storage).expect("good storage");
    let overflow = AtomicUsize::new(0);
    let ran = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let with = with_current::<CpuId>(&process, |current| {
                    for _ in 0..EACH {
                        // SAFETY: (1, 2) a counter.
                        let added = unsafe { current.run(slots, ADD, Commit::Relaxed) };
                        if added.is_err() {
                            overflow.fetch_add(1, Relaxed);
                        }
                    }
                });
                ran.fetch_add(usize::from(with), Relaxed);
            });
        }
    });
    let sum: usize = slots.iter().map(|slot| slot.word.load(Acquire)).sum();
    assert_eq!(sum + overflow.load(Relaxed), ran.load(Relaxed) * EACH);
}

/// By an assertion, which a release build omits.
#[test]
#[cfg(debug_assertions)]
fn a_current_of_another_thread_is_found() {
    struct Smuggled<T>(T);
    // SAFETY: violated, as the assertion must detect.
    unsafe impl<T> Send for Smuggled<T> {}
    impl<'a> Smuggled<Current<'a>> {
        fn id(&self) -> usize {
            self.0.id()
        }
    }
    let process = process();
    with_current::<CpuId>(&process, |current| {
        let smuggled = Smuggled(current);
        let used = std::thread::scope(|scope| scope.spawn(move || smuggled.id()).join());
        let why = used.expect_err("it is another thread's");
        let why = why.downcast_ref::<String>().expect("a text");
        assert!(why.contains("is used on thread"), "{why}");
        let _ = current.id();
        // SAFETY: fork(2): the child reads the number and ends.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                let _ = current.id();
                libc::_exit(0);
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        };
        assert_eq!(status, 0, "the child of the same thread may use it");
    });
}

#[test]
fn bad_storage_is_refused() {
    #[repr(C, align(8))]
    struct Three([AtomicUsize; 3]);
    #[repr(C)]
    struct Bytes([u8; 16]);
    let storage = slots();
    let (base, size) = (storage.as_ptr(), size_of::<Slot>());
    // SAFETY: (1) `storage`, or refused.
    let from = |base, stride, count| unsafe {
        Slots::<CpuId, Slot>::from_raw(base, stride, count).map(|slots| slots.count())
    };
    assert_eq!(from(base, size, 4), Ok(4));
    assert_eq!(from(null(), size, 4), Err(StorageError::Null));
    assert_eq!(from(base, size / 2, 4), Err(StorageError::WrongStride));
    assert_eq!(from(base, 0, 4), Err(StorageError::WrongStride));
    assert_eq!(from(base, size, 0), Err(StorageError::NoSlots));
    assert_eq!(
        from(base, size, usize::MAX),
        Err(StorageError::TooManySlots)
    );
    let off = base.wrapping_byte_add(4);
    assert_eq!(from(off, size, 4), Err(StorageError::Misaligned));
    let three = [Three([const { AtomicUsize::new(0) }; 3])];
    assert_eq!(
        Slots::<CpuId, Three>::new(&three).err(),
        Some(StorageError::WrongStride)
    );
    assert_eq!(
        Slots::<CpuId, Bytes>::new(&[Bytes([0; 16])]).err(),
        Some(StorageError::Misaligned)
    );
    let _ = (three[0].0[0].load(Relaxed), Bytes([0; 16]).0);
}

#[test]
fn an_id_beyond_the_slots_misses_and_changes_nothing() {
    let process = process();
    let storage = slots();
    let slots = Slots::<CpuId, Slot>::new(&storage[..1]).expect("good storage");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Any CPU but 0.
            let allowed = CpuSet::allowed().expect("sched_getaffinity");
            let other = allowed.iter().find(|&cpu| cpu != 0).map(CpuSet::one);
            let moved = other.is_some_and(|other| other.allow().is_ok());
            if !moved {
                eprintln!("skipped: there is one CPU");
                return;
            }
            with_current::<CpuId>(&process, |current| {
                let compare = Operation::CompareAndStore {
                    word: WORD,
                    expect: 0,
                    new: 1,
                };
                for operation in [ADD, compare, POP] {
                    for commit in [Commit::Relaxed, Commit::Release] {
                        // SAFETY: (1, 2) the words of `Slot`.
                        let end = unsafe { current.run(slots, operation, commit) };
                        assert_eq!(end, Err(Miss::OutOfRange));
                    }
                }
            });
        });
    });
    assert!(storage.iter().all(|slot| slot.word.load(Relaxed) == 0));
}

#[test]
fn without_the_word_of_the_kernel_layer_nothing_runs() {
    let process = Process::new();
    process.init(Config::new(None, None)).expect("once");
    let area = Area::new();
    // SAFETY: (1) nothing is registered; (2) the result is `None`.
    assert!(unsafe { process.current::<CpuId>(&area) }.is_none());
}
