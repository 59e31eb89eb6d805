//! The insertions of `--malloc percpu`: per-CPU caches in front of musl's allocator, mallocng.

use super::insertion::Insertion;
use super::insertion::Side::{After, Before};
use super::insertion::at;

const MALLOC: &str = "src/malloc/mallocng/malloc.c";
const FREE: &str = "src/malloc/mallocng/free.c";
const CREATE: &str = "src/thread/pthread_create.c";
const CLONE: &str = "src/linux/clone.c";

pub const SOURCE: &str = "src/malloc/percpu.c";

/// The files, and their places in musl.
pub const FILES: [(&str, &str); 2] = [
    ("src/internal/percpu.h", include_str!("percpu.h")),
    (SOURCE, include_str!("percpu.c")),
];

/// The headers from `include` that they need, and their places in musl.
pub const HEADERS: [(&str, &str); 3] = [
    ("src/internal/rseq_rt_percpu.h", "rseq_rt_percpu.h"),
    (
        "src/internal/rseq_rt_percpu_operations.h",
        "rseq_rt_percpu_operations.h",
    ),
    ("src/internal/rseq_rt_structures.h", "rseq_rt_structures.h"),
];

pub const PERCPU: &[Insertion] = &[
    at(
        CREATE,
        After,
        "weak_alias(dummy_0, __acquire_ptc);\n",
        "weak_alias(dummy_0, __malloc_percpu);\n",
        "a static program without malloc has no cache either",
    ),
    at(
        CREATE,
        Before,
        "\t\tlibc.threaded = 1;\n",
        "\t\t__malloc_percpu();\n",
        "before the first thread is made, so that every other one finds what this writes as it is, without a barrier; \
         a program that makes none has musl's own malloc and no memory for caches",
    ),
    at(
        "src/malloc/mallocng/glue.h",
        After,
        "#include \"dynlink.h\"\n",
        "#include \"percpu.h\"\n",
        "for the calls below",
    ),
    at(
        "src/malloc/mallocng/glue.h",
        After,
        "static inline void malloc_atfork(int who)\n{\n",
        "\t__malloc_percpu_atfork(who);\n",
        "before the lock is taken: malloc_trim holds its own lock and takes this one",
    ),
    at(
        MALLOC,
        Before,
        "void *malloc(size_t n)\n{\n",
        "#undef malloc\n#define malloc __malloc_behind\n\n",
        "malloc is the one of the caches, which calls this one; all else that allocates goes through the caches",
    ),
    at(
        MALLOC,
        Before,
        "\tctr = ctx.mmap_counter;\n\tunlock();\n",
        "\tmask = __malloc_percpu_reserve(g, n);\n",
        "under the lock, which guards the mask of free slots",
    ),
    at(
        MALLOC,
        Before,
        "\treturn enframe(g, idx, n, ctr);\n",
        "\tif (mask) __malloc_percpu_fill(g, mask);\n",
        "after the lock is released: what finds no room is freed, which takes it",
    ),
    at(
        FREE,
        Before,
        "void free(void *p)\n{\n",
        "#undef free\n#define free __malloc_behind_free\n\n",
        "as malloc",
    ),
    at(
        FREE,
        Before,
        "\t// atomic free without locking if this is neither first or last slot\n",
        "\t(void)self, (void)all;\n\
         \t__malloc_free_slot(g, idx);\n\
         }\n\
         \n\
         void __malloc_free_slot(struct meta *g, int idx)\n\
         {\n\
         \tuint32_t self = 1u<<idx, all = (2u<<g->last_idx)-1;\n",
        "the block has been checked and its header made invalid. What follows marks the slot free, which a cache that is \
         full or given back does later",
    ),
    at(
        CLONE,
        Before,
        "int clone(",
        "static void dummy_off(void) { }\nweak_alias(dummy_off, __malloc_percpu_off);\n\n",
        "a static program without malloc has no cache either",
    ),
    at(
        CLONE,
        After,
        "\tva_end(ap);\n",
        "\tif ((flags & (CLONE_VM|CLONE_VFORK)) == CLONE_VM) __malloc_percpu_off();\n",
        "a child that shares the memory and runs beside its parent, on the parent's area: the kernel would not abort its \
         sections. The flags are read, and the child does not exist yet",
    ),
    at(
        "include/malloc.h",
        After,
        "size_t malloc_usable_size(void *);\n",
        "int malloc_trim(size_t);\n",
        "gives the caches back",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_insertion_is_in_the_page() {
        let page = include_str!("../../../docs/malloc.md");
        for one in PERCPU {
            assert!(page.contains(&format!("`{}`", one.file)), "{}", one.file);
            let words = one.text.split(|c: char| c != '_' && !c.is_alphanumeric());
            for call in words.filter(|word| word.starts_with("__malloc")) {
                assert!(page.contains(&format!("`{call}`")), "{}: {call}", one.file);
            }
        }
    }
}
