/* A libc that seals: the three symbols are read-only when this program starts, and its own data a moment later. */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <sys/mman.h>

#include "check.h"
#include "raw.h"

int failures;

static _Thread_local rseq_rt_area area;

#define NOW(variable) (*(const volatile __typeof__(variable) *)&(variable))

/* The writable data of the program, library included, after the part sealed by its linker. The program comes first. */
static int protect(struct dl_phdr_info *info, size_t size, void *protection)
{
	unsigned long start = 0, end = 0;
	int i;
	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *one = &info->dlpi_phdr[i];
		unsigned long after = info->dlpi_addr + one->p_vaddr + one->p_memsz;
		if (one->p_type == PT_GNU_RELRO)
			start = after & -4096UL;
		else if (one->p_type == PT_LOAD && one->p_flags & PF_W)
			end = (after + 4095) & -4096UL;
	}
	return mprotect((void *)start, end - start, *(int *)protection) ? -1 : 1;
}

static int seal(int protection)
{
	return dl_iterate_phdr(protect, &protection);
}

static void export_is_refused(void)
{
	CHECK_IS(rseq_rt_init(NULL), 0);
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_REGISTERED);
	CHECK_IS(rseq_rt_export(&area), -EFAULT);
	CHECK_IS(NOW(__rseq_size), 0);
	CHECK_IS(NOW(__rseq_offset), 0);
	CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_REGISTERED);
}

static int life(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_REGISTERED);
	CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_RELEASE), RSEQ_RT_RELEASED);
	return 7;
}

/* The owner of rseq is decided, so nothing is written any more. */
static void init_and_hooks_write_nothing(void)
{
	int again, other, owner, sealed = seal(PROT_READ);
	struct raw *thread;
	again = rseq_rt_init(NULL);
	other = rseq_rt_init_flags(NULL, RSEQ_RT_DISABLED);
	owner = rseq_rt_owner();
	thread = raw_start(life, NULL);
	raw_join(thread);
	CHECK_IS(seal(PROT_READ | PROT_WRITE), 1);
	CHECK_IS(sealed, 1);
	CHECK_IS(again, -EALREADY);
	CHECK_IS(other, -EALREADY);
	CHECK_IS(owner, RSEQ_RT_OWNER_RUNTIME);
	CHECK_IS(thread->outcome, 7);
	raw_free(thread);
}

int main(void)
{
	RUN(export_is_refused);
	RUN(init_and_hooks_write_nothing);
	return failures != 0;
}
