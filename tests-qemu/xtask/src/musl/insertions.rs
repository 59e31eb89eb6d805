//! Every line that rseq adds to musl: where, and why there.
//!
//! `docs/embedding.md` has the same table for readers.

use crate::arch::Arch;

/// One insertion.
#[derive(Clone, Copy, Debug)]
pub struct Insertion {
    /// The file, from the root of musl's source.
    pub file: &'static str,
    /// A version that has the file, where 1.2.3 has not: there the insertion is left out.
    pub since: Option<&'static str>,
    /// For one CPU only.
    pub arch: Option<Arch>,
    /// Text that is in the file exactly once.
    pub anchor: &'static str,
    /// On which side of the anchor.
    pub side: Side,
    /// What goes there.
    pub text: &'static str,
    /// Why there and not one line later.
    pub why: &'static str,
}

/// Where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Just before the anchor.
    Before,
    /// Just after the anchor.
    After,
}

use Side::{After, Before};

const fn at(
    file: &'static str,
    side: Side,
    anchor: &'static str,
    text: &'static str,
    why: &'static str,
) -> Insertion {
    Insertion {
        file,
        since: None,
        arch: None,
        anchor,
        side,
        text,
        why,
    }
}

const fn on(arch: Arch, insertion: Insertion) -> Insertion {
    Insertion {
        arch: Some(arch),
        ..insertion
    }
}

const fn since(version: &'static str, insertion: Insertion) -> Insertion {
    Insertion {
        since: Some(version),
        ..insertion
    }
}

/// The file with the release hook, which the broken variants change.
pub const CREATE: &str = "src/thread/pthread_create.c";

/// The release hook, alone: the broken variants move it or leave it out.
pub const DETACHED: Insertion = at(
    CREATE,
    After,
    "\t\t__block_all_sigs(&set);\n",
    "\t\tif (__rseq_release() < 0) for (;;) __syscall(SYS_exit, 0);\n",
    "no handler may find the thread without its registration, so after the mask; and before the robust list \
     is taken off, since a thread that the kernel does not let go ends with its memory, list included, in place. \
     Two lines later that memory is gone, and the kernel kills the process at the next switch",
);

/// The same line where it comes too late.
pub const DETACHED_AFTER_UNMAP: Insertion = at(
    CREATE,
    After,
    "\t\t__unmapself(self->map_base, self->map_size);\n",
    DETACHED.text,
    "a negative test: never reached",
);

/// All but the release hook.
pub const COMMON: &[Insertion] = &[
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
         before the mask is restored, one line later, when handlers run and may look at the area",
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
        "\t/* Wake any joiner. */\n",
        "\t__rseq_keep();\n",
        "a joinable thread, or one on a stack of the program's: no handler of the program runs any more, and \
         the test for the last thread, which goes back to run atexit handlers, is past. The joiner frees the memory \
         only after clear-tid (__tl_sync), so that no system call is needed; before the wake, so that nobody who \
         was told that the thread is over finds its state alive",
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
        "the child has its own memory by now, or none: clone returned, be it with an error",
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
    on(
        Arch::X86_64,
        at(
            "src/process/x86_64/vfork.s",
            After,
            "vfork:\n",
            "\t.hidden __rseq_lend\n\
             \tsub $8,%rsp\n\
             \tcall __rseq_lend\n\
             \tadd $8,%rsp\n\
             \tmov %eax,%r8d\n",
            "before the return address leaves the stack for a register, since a call may use all of those. The \
             token goes where the kernel keeps it for parent and child: not on the stack, which the child overwrites",
        ),
    ),
    on(
        Arch::X86_64,
        at(
            "src/process/x86_64/vfork.s",
            After,
            "\tpush %rdx\n",
            "\t.hidden __rseq_unlend\n\
             \ttest %rax,%rax\n\
             \tjz 1f\n\
             \tpush %rax\n\
             \tmov %r8d,%edi\n\
             \tcall __rseq_unlend\n\
             \tpop %rax\n\
             1:\n",
            "the parent alone, and after it has its return address back on the stack, which a call would overwrite. \
             In the child the area stays lent until it executes another program or ends",
        ),
    ),
    since(
        "1.2.5",
        on(
            Arch::Aarch64,
            at(
                "src/process/aarch64/vfork.s",
                After,
                "vfork:\n",
                "\t.hidden __rseq_lend\n\
             \tstp x29, x30, [sp, -16]!\n\
             \tbl __rseq_lend\n\
             \tldp x29, x30, [sp], 16\n\
             \tmov w9, w0\n",
                "before the registers of the call are set. The token goes where the kernel keeps it for both",
            ),
        ),
    ),
    since(
        "1.2.5",
        on(
            Arch::Aarch64,
            at(
                "src/process/aarch64/vfork.s",
                After,
                "\tsvc 0\n",
                "\t.hidden __rseq_unlend\n\
             \tcbz x0, 1f\n\
             \tstp x0, x30, [sp, -16]!\n\
             \tmov w0, w9\n\
             \tbl __rseq_unlend\n\
             \tldp x0, x30, [sp], 16\n\
             1:\n",
                "the parent alone; it pushes after the child, which used the same stack, is done with it",
            ),
        ),
    ),
    since(
        "1.2.5",
        on(
            Arch::Riscv64,
            at(
                "src/process/riscv64/vfork.s",
                After,
                "vfork:\n",
                "\t.hidden __rseq_lend\n\
             \taddi sp, sp, -16\n\
             \tsd ra, 8(sp)\n\
             \tcall __rseq_lend\n\
             \tld ra, 8(sp)\n\
             \taddi sp, sp, 16\n\
             \tmv t1, a0\n",
                "as on aarch64",
            ),
        ),
    ),
    since(
        "1.2.5",
        on(
            Arch::Riscv64,
            at(
                "src/process/riscv64/vfork.s",
                After,
                "\tecall\n",
                "\t.hidden __rseq_unlend\n\
             \tbeqz a0, 1f\n\
             \taddi sp, sp, -16\n\
             \tsd ra, 8(sp)\n\
             \tsd a0, 0(sp)\n\
             \tmv a0, t1\n\
             \tcall __rseq_unlend\n\
             \tld a0, 0(sp)\n\
             \tld ra, 8(sp)\n\
             \taddi sp, sp, 16\n\
             1:\n",
                "as on aarch64",
            ),
        ),
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
