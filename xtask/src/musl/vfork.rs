//! The insertions into vfork, which is assembly: it returns twice on one stack.

use super::insertion::{Insertion, Side::After, Version, at, since};
use crate::arch::Arch;

/// The first version with a real vfork on aarch64 and riscv64: earlier ones fork, which needs nothing.
pub const REAL_VFORK: Version = [1, 2, 4];

/// An insertion behind a line of the CPU's vfork.
const fn vfork(
    arch: Arch,
    anchor: &'static str,
    text: &'static str,
    why: &'static str,
) -> Insertion {
    at(file(arch), After, anchor, text, why)
}

const fn file(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "src/process/x86_64/vfork.s",
        Arch::Aarch64 => "src/process/aarch64/vfork.s",
        Arch::Riscv64 => "src/process/riscv64/vfork.s",
    }
}

const fn newer(
    arch: Arch,
    anchor: &'static str,
    text: &'static str,
    why: &'static str,
) -> Insertion {
    since(REAL_VFORK, vfork(arch, anchor, text, why))
}

/// In the order of the files.
pub const VFORK: &[Insertion] = &[
    vfork(
        Arch::X86_64,
        "vfork:\n",
        "\t.hidden __rseq_lend\n\
             \tsub $8,%rsp\n\
             \tcall __rseq_lend\n\
             \tadd $8,%rsp\n\
             \tmov %eax,%r8d\n",
        "before the return address leaves the stack for a register, since a call may use all of those. The \
             token goes where the kernel keeps it for parent and child: not on the stack, which the child overwrites",
    ),
    vfork(
        Arch::X86_64,
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
    newer(
        Arch::Aarch64,
        "vfork:\n",
        "\t.hidden __rseq_lend\n\
                 \tstp x29, x30, [sp, -16]!\n\
                 \tbl __rseq_lend\n\
                 \tldp x29, x30, [sp], 16\n\
                 \tmov w9, w0\n",
        "before the registers of the call are set. The token goes where the kernel keeps it for both",
    ),
    newer(
        Arch::Aarch64,
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
    newer(
        Arch::Riscv64,
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
    newer(
        Arch::Riscv64,
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
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{command, output};

    /// Insertions around their anchors only, without musl's source; on a machine with that CPU's assembler.
    #[test]
    fn the_insertions_are_assembly() {
        for arch in Arch::ALL {
            let gcc = arch.cross_linker();
            if which::which(&gcc).is_err() {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("vfork.s");
            let mine = VFORK.iter().filter(|one| one.file == super::file(arch));
            let texts: Vec<String> = mine
                .map(|one| format!("{}{}", one.anchor, one.text))
                .collect();
            assert_eq!(texts.len(), 2);
            std::fs::write(&file, texts.concat()).unwrap();
            let mut assemble = command(gcc);
            assemble
                .arg("-c")
                .arg(&file)
                .arg("-o")
                .arg(folder.path().join("vfork.o"));
            let assembled = output(&mut assemble, "as", 60);
            assert!(assembled.is_ok(), "{assembled:?}");
        }
    }
}
