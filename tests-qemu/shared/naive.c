/* Exports the three names without a version, as a library may that ignores glibc's. */
#include <stddef.h>

ptrdiff_t __rseq_offset;
unsigned int __rseq_size, __rseq_flags;
