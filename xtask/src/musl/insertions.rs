//! Every line that rseq adds to musl, and why it is there. `docs/embedding.md` has the same table for readers.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::insertion::Side::{After, Before};
use super::insertion::{FIRST, Insertion, Version, at};
use super::percpu::PERCPU;
use super::variant::Variant;
use super::vfork::VFORK;

/// The file with the release hook, which the broken variants change.
const CREATE: &str = "src/thread/pthread_create.c";

/// The release hook: the broken variants move it or leave it out.
pub const DETACHED: Insertion = at(
    CREATE,
    Before,
    "\t\t/* Detached threads must block even implementation-internal\n",
    "\t\tif (__rseq_release()) __rseq_exit_kept();\n",
    "the hook blocks all signals but SIGSYS, by which a filter answers rseq(2); one line later musl blocks that as \
     well, and the kernel would kill instead. Under the thread list lock, so that a thread that the kernel does \
     not let go is on the list of those to be unmapped before anybody can look. Two lines later the memory is \
     gone, and the kernel kills the process at the next switch",
);

/// The same line, too late.
const DETACHED_AFTER_UNMAP: Insertion = at(
    CREATE,
    After,
    "\t\t__unmapself(self->map_base, self->map_size);\n",
    DETACHED.text,
    "a negative test: never reached",
);

/// All insertions except the release hook and vfork's.
pub const COMMON: &[Insertion] = &[
    at(
        "Makefile",
        Before,
        "lib/libc.so: $(LOBJS) $(LDSO_OBJS)\n",
        "RSEQ_RT = $(srcdir)/arch/$(ARCH)/rseq_rt_trio-$(ARCH).s\n\
         OBJCOPY = $(CROSS_COMPILE)objcopy\n\
         \n\
         obj/src/thread/rseq.o obj/src/thread/rseq.lo: $(srcdir)/src/thread/rseq.c $(RSEQ_RT) $(GENH) $(IMPH)\n\
         \t$(CC_CMD)\n\
         \t$(CC) $(CFLAGS_ALL) -c -o $@.library $(RSEQ_RT)\n\
         \t$(CC) -nostdlib -r -o $@.both $@ $@.library\n\
         \t$(OBJCOPY) --wildcard '--localize-symbol=rseq_rt_*' $@.both $@\n\
         \trm -f $@.both $@.library\n\
         \n",
        "the library, which is one assembly file for each CPU, and its only caller become one object, in which the \
         library's functions are local: a program that brings a library of the same name meets none of them",
    ),
    at(
        "src/internal/pthread_impl.h",
        After,
        "#include \"pthread_arch.h\"\n",
        "#include \"rseq_rt.h\"\n#include \"rseq_impl.h\"\n",
        "the structure below holds an area",
    ),
    at(
        "src/internal/pthread_impl.h",
        Before,
        "\n\t/* Part 3 -- the positions of these fields relative to",
        "\trseq_rt_area rseq;\n\
         #ifdef TLS_ABOVE_TP\n\
         \tunsigned char rseq_pad[RSEQ_RT_AREA_ALIGN - 2*sizeof(uintptr_t)];\n\
         #endif\n",
        "last of the part that is nobody's ABI: part 1 keeps its place from the start. Part 3 keeps its place \
         from the end only if the structure ends with it, hence the padding; one line later the area itself would \
         move it. The alignment of the area becomes the structure's, and MIN_TLS_ALIGN and with it every copy follow",
    ),
    at(
        "src/env/__init_tls.c",
        After,
        "\tif (__init_tp(__copy_tls(mem)) < 0)\n\t\ta_crash();\n",
        "\t__rseq_main();\n",
        "a static program: its only control block is installed and auxv is known (__init_libc stores it before). \
         Not inside __init_tp, which the dynamic linker calls for a provisional block too, while the kernel \
         knows one area a thread. Later come constructors, which may start threads",
    ),
    at(
        "ldso/dynlink.c",
        After,
        "\tstatic_tls_cnt = tls_cnt;\n",
        "\tif (initial_tls != builtin_tls && __init_tp(__copy_tls(initial_tls)) < 0) a_crash();\n\
         \t__rseq_main();\n",
        "a dynamic program: the final control block is chosen here. The next line relocates: it seals the trio's \
         memory (RELRO) and copies the trio into a program with copy relocations, so the values must be there. \
         musl installs the final block after that, which fills in relocated TLS images and touches no area; \
         to install it here as well, early, is what lets one registration do",
    ),
    at(
        CREATE,
        Before,
        "\t__syscall(SYS_rt_sigprocmask, SIG_SETMASK, &args->sig_mask, 0, _NSIG/8);\n\t__pthread_exit(",
        "\t__rseq_create();\n",
        "a thread: after the wait for its scheduling, so that one that fails half-way is never registered; \
         before the mask is restored, one line later, when handlers run and may look at the area. The mask holds \
         SIGSYS too, which the hook opens for its call",
    ),
    at(
        CREATE,
        Before,
        "\tint (*start)(void*) = (int(*)(void*)) args->start_func;\n",
        "\t__rseq_create();\n",
        "a C11 thread: first, as the code after it is the program's",
    ),
    at(
        CREATE,
        Before,
        "\t__acquire_ptc();\n",
        "\t__rseq_sweep();\n",
        "before a stack is mapped, which may need the room, and before any lock is taken: it takes that of the thread \
         list, and waits for holders of the vmlock",
    ),
    at(
        CREATE,
        Before,
        "\t/* Wake any joiner. */\n",
        "\t__rseq_keep();\n",
        "a joinable thread, or one on a stack of the program's: no handler of the program runs any more, and \
         the test for the last thread, which goes back to run atexit handlers, is past. The joiner frees the memory \
         only after clear-tid (__tl_sync), so that no system call is needed; before the wake, so that nobody who \
         was told that the thread is over finds its state alive",
    ),
    at(
        "src/process/_Fork.c",
        After,
        "\t\tif (libc.need_locks) libc.need_locks = -1;\n",
        "\t\t__rseq_repair();\n",
        "the child of a vfork child, or of a handler that forks during a loan: nobody tells it of the end of the \
         loan. Last, as a SIGSYS handler may run, which finds the thread's tid in order; before signals are opened, \
         so that no other handler finds the area lent. Any other child costs a load",
    ),
    at(
        "src/process/posix_spawn.c",
        Before,
        "\tpid = __clone(child, stack+sizeof stack,\n",
        "\tint lent = __rseq_lend();\n",
        "the child shares the memory and starts unregistered: before it exists, with signals blocked already. \
         system and popen come here too",
    ),
    at(
        "src/process/posix_spawn.c",
        After,
        "\t\tCLONE_VM|CLONE_VFORK|SIGCHLD, &args);\n",
        "\t__rseq_unlend(lent);\n",
        "the child has its own memory by now, or does not exist: clone returned, possibly with an error",
    ),
    at(
        "src/linux/clone.c",
        After,
        "\tva_end(ap);\n",
        "\tif ((flags & (CLONE_VM|CLONE_VFORK)) == (CLONE_VM|CLONE_VFORK)) {\n\
         \t\tint lent = __rseq_lend();\n\
         \t\tint pid = __clone(func, stack, flags, arg, ptid, tls, ctid);\n\
         \t\t__rseq_unlend(lent);\n\
         \t\treturn __syscall_ret(pid);\n\
         \t}\n",
        "the one clone that the parent waits for. All arguments are read; of what follows nothing is for a child \
         with this memory. Any other child that shares the memory runs beside its parent, whose area cannot be lent \
         for as long",
    ),
    at(
        "src/sched/sched_getcpu.c",
        After,
        "#include \"atomic.h\"\n",
        "#include \"pthread_impl.h\"\n",
        "for the area below",
    ),
    at(
        "src/sched/sched_getcpu.c",
        After,
        "int sched_getcpu(void)\n{\n\tint r;\n\tunsigned cpu;\n",
        "\n\tr = rseq_rt_cpu_by_load(&__pthread_self()->rseq);\n\tif (r >= 0) return r;\n",
        "before the vDSO, which is slower; where the thread is not registered, or lends its area, that answers as before",
    ),
];

pub fn version(source: &Path) -> Result<Version> {
    let text = std::fs::read_to_string(source.join("VERSION")).context("musl's VERSION")?;
    let version = parse(&text).with_context(|| format!("musl's version is {text:?}"))?;
    ensure!(
        version >= FIRST,
        "musl {} is older than the insertions",
        text.trim()
    );
    Ok(version)
}

fn parse(text: &str) -> Option<Version> {
    let mut numbers = text.trim().split('.').map(|one| one.parse().ok());
    let version = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(version)
}

/// The insertions of a variant into the source of that version.
pub fn insertions(source: &Path, version: Version, variant: Variant) -> Vec<Insertion> {
    let common = COMMON.iter().chain(VFORK).copied();
    let release = match variant {
        Variant::Stock => return Vec::new(),
        Variant::Hooked | Variant::Off | Variant::Percpu | Variant::PercpuBroken => Some(DETACHED),
        Variant::DetachedAfterUnmap => Some(DETACHED_AFTER_UNMAP),
        Variant::DetachedAbsent => None,
    };
    let caches = if variant.is_percpu() { PERCPU } else { &[] };
    common
        .chain(release)
        .chain(caches.iter().copied())
        .filter(|one| one.since <= version || source.join(one.file).exists())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    #[test]
    fn the_variants_differ_in_one_file() {
        let none = Path::new("/nonexistent");
        let common = insertions(none, FIRST, Variant::DetachedAbsent);
        for variant in [Variant::Hooked, Variant::DetachedAfterUnmap] {
            let all = insertions(none, FIRST, variant);
            assert_eq!(all.len(), common.len() + 1);
            assert_eq!(all[common.len()].file, DETACHED.file);
        }
        assert!(insertions(none, FIRST, Variant::Stock).is_empty());
    }

    #[test]
    fn a_place_is_left_out_of_older_versions_alone() {
        let folder = tempfile::tempdir().unwrap();
        let has = |version, name: &str| {
            let all = insertions(folder.path(), version, Variant::Hooked);
            all.iter().any(|one| one.file == name)
        };
        for arch in Arch::ALL {
            let name = format!("src/process/{arch}/vfork.s");
            assert_eq!(has(FIRST, &name), arch == Arch::X86_64);
            assert!(has([1, 2, 4], &name) && has([1, 10, 0], &name));
            // Between two releases the source states the older version.
            std::fs::create_dir_all(folder.path().join(&name)).unwrap();
            assert!(has(FIRST, &name));
        }
    }
}
