/* The trio is read-only: a libc seals it when it starts, if it seals anything. */
#define _GNU_SOURCE
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

const void *trio_of_library_at(int which);

static const void *const program_at[] = { &__rseq_offset, &__rseq_size, &__rseq_flags };
static const void *target;

static void store(void)
{
	*(volatile unsigned *)target = 0;
}

static int store_dies(const void *at)
{
	int status;
	target = at;
	status = in_child(store);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static int in_relro(struct dl_phdr_info *info, size_t size, void *at)
{
	int i;
	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		ElfW(Addr) start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO && (ElfW(Addr))at - start < info->dlpi_phdr[i].p_memsz)
			return 1;
	}
	return 0;
}

static void trio_is_sealed(void)
{
	int i, sealed = 0;
	for (i = 0; i < 3; i++) {
		const void *other = trio_of_library_at(i);
		/* One trio per process. */
		CHECK(program_at[i] == other);
		CHECK_IS(dl_iterate_phdr(in_relro, (void *)other), 1);
		sealed += store_dies(other);
	}
#if defined SHARED && defined PAGE_SIZE
	CHECK_IS(sealed, 3);
#else
	/* musl's static start seals nothing. Where the page size is known at run time only (aarch64, riscv64), the
	   dynamic linker computes, up to 1.2.5, what to seal of libc.so before it knows that size: nothing. */
	CHECK(sealed == 0 || sealed == 3);
#endif
	tell(sealed ? "a store dies" : "lies in PT_GNU_RELRO, which this musl does not seal");
}

const struct test sealed_tests[] = {
	{ "trio_is_sealed", trio_is_sealed },
	{ NULL, NULL },
};
