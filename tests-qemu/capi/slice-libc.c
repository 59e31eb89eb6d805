/* The part of a libc: an area of the kernel's whole length, and the three symbols. Linked statically, with -z norelro. */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "rseq_rt.h"

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#endif

/* slice_ctrl in the kernel's structure. */
#define CONTROL 28

/* glibc's, which is told not to register; it fills them before they become read-only. */
extern const ptrdiff_t __rseq_offset;
extern const unsigned __rseq_size, __rseq_flags;

static _Thread_local unsigned char libcs[256] __attribute__((__aligned__(64)));

const void *register_as_libc(void)
{
	unsigned long length = getauxval(AT_RSEQ_FEATURE_SIZE);

	CHECK(length > CONTROL + 4 && length <= sizeof libcs);
	CHECK_IS(__rseq_size, 0);
	CHECK_IS(syscall(SYS_rseq, libcs, length, 0, RSEQ_RT_SIG), 0);
	*(ptrdiff_t *)&__rseq_offset = (char *)libcs - (char *)__builtin_thread_pointer();
	*(unsigned *)&__rseq_size = length;
	return libcs + CONTROL;
}
