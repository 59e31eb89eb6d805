#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cpus.h"
#include "../capi/check.h"
#include "trap.h"

/* linux/filter.h and linux/seccomp.h, which a bare musl does not have. */
struct instruction {
	uint16_t code;
	uint8_t if_true, if_false;
	uint32_t operand;
};
struct program {
	unsigned short length;
	struct instruction *code;
};
enum { LOAD_WORD = 0x20, JUMP_IF_EQUAL = 0x15, RETURN = 0x06 };
#define RETURN_TRAP 0x00030000u
#define RETURN_EPERM 0x00050001u
#define RETURN_ALLOW 0x7fff0000u
#define MODE_FILTER 2

int trapped;

static void count(int number)
{
	(void)number;
	__atomic_add_fetch(&trapped, 1, __ATOMIC_RELAXED);
}

static void filter_rseq(uint32_t answer)
{
	/* The number of the call is the first word of a filter's input. */
	struct instruction code[] = {
		{ LOAD_WORD, 0, 0, 0 },
		{ JUMP_IF_EQUAL, 0, 1, SYS_rseq },
		{ RETURN, 0, 0, answer },
		{ RETURN, 0, 0, RETURN_ALLOW },
	};
	struct program program = { sizeof code / sizeof *code, code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, MODE_FILTER, &program) != 0)
		abort();
}

void trap_rseq(void)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = count;
	if (sigaction(SIGSYS, &action, NULL) != 0)
		abort();
	filter_rseq(RETURN_TRAP);
}

void refuse_rseq(void)
{
	filter_rseq(RETURN_EPERM);
}

void on_every_cpu(int (*cpu)(void))
{
	struct cpus all;
	unsigned before, after;
	int number, seen;
	allowed_cpus(&all);
	for (number = 0; number < CPUS; number++) {
		if (!has_cpu(&all, number))
			continue;
		CHECK_IS(move_to_cpu(0, number), 0);
		syscall(SYS_getcpu, &before, NULL, NULL);
		seen = cpu();
		syscall(SYS_getcpu, &after, NULL, NULL);
		/* Other processes on this machine move threads too. */
		if (before == after)
			CHECK_IS(seen, (int)before);
	}
	allow_cpus(0, &all);
}

int raw_rseq(const void *area, unsigned length, int flags)
{
#if defined __x86_64__
	unsigned signature = 0x53053053;
#elif defined __aarch64__
	unsigned signature = 0xd428bc00;
#else
	unsigned signature = 0xf1401073;
#endif
	return syscall(SYS_rseq, area, length, flags, signature);
}

int kernel_has_none(void)
{
	static __thread struct { unsigned words[16]; } __attribute__((__aligned__(64))) scratch;
	memset(&scratch, 0, sizeof scratch);
	if (raw_rseq(&scratch, 32, 0) != 0)
		return 0;
	CHECK_IS(raw_rseq(&scratch, 32, 1), 0);
	return 1;
}

int hidden_owner(void)
{
	static __thread struct { unsigned words[8]; } __attribute__((__aligned__(32))) mine = { { 0, -1 } };
	return raw_rseq(&mine, sizeof mine, 0);
}
