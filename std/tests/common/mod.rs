//! Functions shared by the test programs.
#![allow(dead_code, reason = "each of them needs its part of it")]

use std::time::Duration;

/// Runs `body` in a fork child. Panics unless it returns `true` there in time. Its threads are [`LibcThread`]s.
pub fn in_child(body: impl FnOnce() -> bool) {
    // SAFETY: the child ends by _exit. It allocates and starts threads, which glibc and musl allow for.
    let child = match unsafe { libc::fork() } {
        0 => {
            // The test harness would keep the text of a panic in the memory of the child.
            std::panic::set_hook(Box::new(|panic| {
                let text = format!("in a child: {panic}\n");
                // SAFETY: reads the local text.
                unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
            }));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!matches!(result, Ok(true)))) }
        }
        child => child,
    };
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    for _ in 0..3000 {
        // SAFETY: writes the local word.
        if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
            assert_eq!(status, 0, "the child's status, as of waitpid(2)");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: our own child.
    unsafe { libc::kill(child, libc::SIGKILL) };
    panic!("the child does not end");
}

/// A thread made by the libc. std's own threads take a lock of std as they start and end; in a fork child that lock stays
/// locked for ever if a thread of the parent held it.
pub struct LibcThread(libc::pthread_t);

impl LibcThread {
    pub fn start(body: fn() -> bool) -> Self {
        extern "C" fn run(body: *mut libc::c_void) -> *mut libc::c_void {
            // SAFETY: the function that `start` was given.
            let body: fn() -> bool = unsafe { std::mem::transmute(body) };
            std::ptr::without_provenance_mut(usize::from(body()))
        }
        let mut thread = std::mem::MaybeUninit::uninit();
        let attributes = std::ptr::null();
        // SAFETY: writes the local number; `run` takes what it is given.
        let error =
            unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run, body as *mut _) };
        assert_eq!(error, 0, "pthread_create");
        // SAFETY: written.
        Self(unsafe { thread.assume_init() })
    }

    /// Detaches the thread.
    pub fn detach(self) {
        // SAFETY: neither joined nor detached before.
        let error = unsafe { libc::pthread_detach(self.0) };
        assert_eq!(error, 0, "pthread_detach");
    }

    /// Joins the thread; returns the result of its body.
    pub fn join(self) -> bool {
        let mut result = std::ptr::null_mut();
        // SAFETY: joined once; writes the local word.
        let error = unsafe { libc::pthread_join(self.0, &raw mut result) };
        error == 0 && result.addr() == 1
    }
}

/// The CPUs that the calling thread may use.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes the local set.
    let got = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    assert_eq!(got, 0);
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: below the size.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Binds the calling thread to one CPU.
pub fn run_on(cpu: usize) {
    // SAFETY: zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: one of `allowed_cpus`.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the local set.
    let moved = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(moved, 0);
}

/// Makes the kernel refuse these system calls to the whole process, with EPERM.
pub fn refuse(calls: &[libc::c_long]) -> std::io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt| libc::sock_filter { code, jt, jf: 0, k };
    // The number of the call is the first word.
    let mut program = [step(RETURN, libc::SECCOMP_RET_ALLOW, 0); 16];
    let (last, length) = (calls.len() as u8, calls.len() + 3);
    program[0] = step(LOAD, 0, 0);
    for (index, &call) in calls.iter().enumerate() {
        program[1 + index] = step(EQUAL, call as u32, last - index as u8);
    }
    program[length - 1] = step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0);
    let program = libc::sock_fprog {
        len: length as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: no pointer.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: reads the local program.
    let installed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    if installed == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
