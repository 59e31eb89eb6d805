/*
 * stops.h - stops a restartable sequence of one's own at each of its instructions. To copy; for tests only.
 *
 * For sections that are written with RSEQ_RT_SECTION_* of rseq_rt_percpu.h, and for its operations. Linux, C99 with GCC
 * or clang, x86_64, aarch64, riscv64, any libc, no privileges. _GNU_SOURCE is defined before the first header, and
 * the program is compiled with -O2 -pthread.
 *
 * The sections are found by their descriptors in the ELF section __rseq_cs. In the memory of the test, one instruction at a
 * time is replaced: by a trap, whose SIGTRAP is a signal at exactly that instruction, or by a branch to itself, at which
 * the thread stands until it is moved and signalled. The lines themselves are what is shipped.
 *
 *     static void prepare(void);		// gives each slot the same contents, and the inputs their values
 *     static uint64_t view(size_t slot);	// stops_hash of what others rely on in a slot
 *     STOPS_CALL(push_two, slab_push(rseq, slots, batch, 2))
 *
 *     static const struct stops_case cases[] = { { "two", prepare, push_two }, { "no room", prepare_full, push_two } };
 *     static const struct stops_section push = { "push", COUNT, view, NULL, cases, 2, 0 };
 *     stops_run(&push);			// on the thread that rseq is of
 *
 * In every case, at each instruction k (moved only in the first case that reaches it):
 *
 *   signalled  a signal at k, three times, and each time the handler moves the thread to another CPU; then it commits
 *   exhausted  a signal at k in every try, as under a debugger that steps, until it ends as RSEQ_RT_ABORTED
 *   nested     a signal at k, whose handler makes the same call
 *   moved      the thread stands at k; another thread moves it to its own CPU and signals it; then it commits
 *
 * At each stop the interrupted place must be the abort handler; the view of all slots, the stack pointer and the red zone
 * must be as before. At the end outcome, view and answer must be those of an undisturbed call (nested: of two), and
 * the registers that the compiler had in use must have kept their values. Every instruction must be reached in some case,
 * and every branch out must have its RSEQ_RT_SECTION_EXIT. A loop is stopped in its first turn and behind it.
 *
 * The first finding is printed, and ends the process with its number.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef STOPS_H
#define STOPS_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "rseq_rt_percpu.h"

/* The exit status of each finding. */
enum {
	STOPS_CHANGED = 101,	/* what others rely on has changed before the commit, or without one */
	STOPS_RESULT,		/* it does not end as an undisturbed call does */
	STOPS_REGISTER,		/* a register that is no clobber, the stack pointer or the red zone has changed */
	STOPS_NOT_ABORTED,	/* the kernel has not aborted it */
	STOPS_UNREACHED,	/* no case reaches this instruction */
	STOPS_EXIT,		/* a branch out that is no RSEQ_RT_SECTION_EXIT */
	STOPS_USAGE		/* the test is wrong, or the system refuses something */
};

struct stops_case {
	const char *name;
	void (*prepare)(void);
	int (*call)(void);	/* of STOPS_CALL; runs one section or more, once */
};

struct stops_section {
	const char *name;
	size_t slots;
	uint64_t (*view)(size_t slot);
	uint64_t (*answer)(void);	/* of what the call hands out beside its outcome; or NULL */
	const struct stops_case *cases;
	size_t count;
	int brief;		/* without `moved`, which takes the longest on a busy machine */
};

/* FNV-1a; begins with 0. */
static inline uint64_t stops_hash(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *from = data;

	hash ^= 0xcbf29ce484222325u;
	while (bytes--)
		hash = (hash ^ *from++) * 0x100000001b3u;
	return hash;
}

/*
 * A function that makes the call with everything inlined, and with more values in use than there are registers, so that
 * the compiler has one in each that the section does not name as a clobber. No other function is called in it: what an
 * external function such as rseq_rt_current answers is fetched before.
 */
#define STOPS_EACH(x) \
	x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15) \
	x(16) x(17) x(18) x(19) x(20) x(21) x(22) x(23) x(24) x(25) x(26) x(27) x(28) x(29) x(30) x(31)
#define STOPS_LOAD(n) unsigned long stops_g##n = stops_values[n]; double stops_v##n = stops_floats[n];
#define STOPS_COMPARE(n) stops_lost |= stops_g##n != stops_values[n] || stops_v##n != stops_floats[n];
#define STOPS_CALL(name, expression) \
	static __attribute__((__noinline__, __flatten__)) int name(void) \
	{ \
		int stops_outcome, stops_lost = 0; \
		STOPS_EACH(STOPS_LOAD) \
		stops_outcome = (expression); \
		STOPS_EACH(STOPS_COMPARE) \
		stops_registers |= stops_lost; \
		return stops_outcome; \
	}

static volatile unsigned long stops_values[32];
static volatile double stops_floats[32];
static volatile int stops_registers;

/* ---- the CPU ---- */

typedef uintptr_t __attribute__((__may_alias__)) stops_word;

#if defined(__x86_64__)
#define STOPS_PC(context) (*(stops_word *)&(context)->uc_mcontext.gregs[REG_RIP])
#define STOPS_SP(context) ((uintptr_t)(context)->uc_mcontext.gregs[REG_RSP])
#define STOPS_RED_ZONE 128
#elif defined(__aarch64__)
#define STOPS_PC(context) (*(stops_word *)&(context)->uc_mcontext.pc)
#define STOPS_SP(context) ((uintptr_t)(context)->uc_mcontext.sp)
#define STOPS_RED_ZONE 0
#else
#define STOPS_PC(context) (*(stops_word *)&(context)->uc_mcontext.__gregs[0])
#define STOPS_SP(context) ((uintptr_t)(context)->uc_mcontext.__gregs[2])
#define STOPS_RED_ZONE 0
#endif

/* The target of a direct branch; 0 for every other instruction. */
static uintptr_t stops_target(uintptr_t pc)
{
#if defined(__x86_64__)
	const unsigned char *code = (const unsigned char *)pc;
	int32_t far;

	if ((code[0] & 0xf0) == 0x70 || (code[0] & 0xfc) == 0xe0 || code[0] == 0xeb)
		return pc + 2 + (uintptr_t)(intptr_t)(signed char)code[1];
	if (code[0] == 0xe9) {
		memcpy(&far, code + 1, 4);
		return pc + 5 + (uintptr_t)(intptr_t)far;
	}
	if (code[0] == 0x0f && (code[1] & 0xf0) == 0x80) {
		memcpy(&far, code + 2, 4);
		return pc + 6 + (uintptr_t)(intptr_t)far;
	}
	return 0;
#elif defined(__aarch64__)
	uint32_t code = *(const uint32_t *)pc;

	/* The offset's bits are moved to the top, and down again with their sign, times four. */
	if ((code & 0x7c000000) == 0x14000000)
		return pc + (uintptr_t)(intptr_t)((int32_t)(code << 6) >> 4);
	if ((code & 0xff000010) == 0x54000000 || (code & 0x7e000000) == 0x34000000)
		return pc + (uintptr_t)(intptr_t)((int32_t)(code << 8) >> 11 & ~3);
	if ((code & 0x7e000000) == 0x36000000)
		return pc + (uintptr_t)(intptr_t)((int32_t)(code << 13) >> 16 & ~3);
	return 0;
#else
	uint32_t code = *(const uint16_t *)pc, to;
	int bits;

	if ((code & 3) == 3)
		code |= (uint32_t)((const uint16_t *)pc)[1] << 16;
	if ((code & 0x7f) == 0x63) {
		to = code >> 31 << 12 | (code >> 7 & 1) << 11 | (code >> 25 & 0x3f) << 5 | (code >> 8 & 0xf) << 1;
		bits = 13;
	} else if ((code & 0x7f) == 0x6f) {
		to = code >> 31 << 20 | (code >> 12 & 0xff) << 12 | (code >> 20 & 1) << 11 | (code >> 21 & 0x3ff) << 1;
		bits = 21;
	} else if ((code & 0xe003) == 0xa001) {
		to = (code >> 12 & 1) << 11 | (code >> 11 & 1) << 4 | (code >> 9 & 3) << 8 | (code >> 8 & 1) << 10
			| (code >> 7 & 1) << 6 | (code >> 6 & 1) << 7 | (code >> 3 & 7) << 1 | (code >> 2 & 1) << 5;
		bits = 12;
	} else if ((code & 0xc003) == 0xc001) {
		to = (code >> 12 & 1) << 8 | (code >> 10 & 3) << 3 | (code >> 5 & 3) << 6 | (code >> 3 & 3) << 1
			| (code >> 2 & 1) << 5;
		bits = 9;
	} else {
		return 0;
	}
	return pc + (uintptr_t)(intptr_t)((int32_t)(to << (32 - bits)) >> (32 - bits));
#endif
}

/* The length of an instruction; on x86_64 of one behind which the thread was seen at next. */
static size_t stops_length(uintptr_t pc, uintptr_t next)
{
	const unsigned char *code = (const unsigned char *)pc;

#if defined(__x86_64__)
	if (stops_target(pc))
		return code[0] == 0x0f ? 6 : code[0] == 0xe9 ? 5 : 2;
	return next - pc;
#elif defined(__aarch64__)
	(void)code, (void)next;
	return 4;
#else
	(void)next;
	return (code[0] & 3) == 3 ? 4 : 2;
#endif
}

/* ---- the sections of the program ---- */

struct stops_descriptor {
	uint32_t version, flags;
	uint64_t start, length, abort;
};

extern const struct stops_descriptor __start___rseq_cs[] __attribute__((__visibility__("hidden")));
extern const struct stops_descriptor __stop___rseq_cs[] __attribute__((__visibility__("hidden")));
extern const uint64_t __start___rseq_exit_point_array[] __attribute__((__visibility__("hidden")));
extern const uint64_t __stop___rseq_exit_point_array[] __attribute__((__visibility__("hidden")));

/* One for each byte of a section: at the start of an instruction its length, and what was done there. */
struct stops_place {
	unsigned char length, reached, moved;
};

static struct {
	const struct stops_section *section;
	const struct stops_case *at;
	uint64_t *before;		/* the views */
	struct stops_place **places;	/* of the sections that were run, by their descriptors */
	enum { STOPS_FIND, STOPS_WALK, STOPS_SIGNALLED, STOPS_EXHAUSTED, STOPS_NESTED, STOPS_MOVED } mode;
	const struct stops_descriptor *in;
	size_t offset;			/* k */
	uintptr_t walked;		/* the instruction that was stepped over last */
	size_t wanted;			/* k, from the start of the call on */
	unsigned long hits, stops;
	uintptr_t sp;
	unsigned char red_zone[STOPS_RED_ZONE + 1];
	unsigned char original[4];
	int nested;			/* the outcome */
	cpu_set_t allowed;
	int cpus[CPU_SETSIZE];
	size_t count;			/* CPUs */
	pid_t thread;
	sem_t go, handled, over;
	int ended, quit;
} stops_;

static const char *const stops_modes[] = { "found", "walked", "signalled", "exhausted", "nested", "moved" };

static void stops_found(int finding, const char *text)
{
	fprintf(stderr, "%s, %s, %s at instruction +%#zx: %s\n", stops_.section->name,
		stops_.at ? stops_.at->name : "all cases", stops_modes[stops_.mode], stops_.offset, text);
	_exit(finding);
}

/* ---- the code in memory ---- */

static void stops_write(uintptr_t pc, const unsigned char *code, size_t length)
{
	memcpy((void *)pc, code, length);
#if defined(__riscv)
	syscall(259, pc, pc + length, 0ul); /* riscv_flush_icache, for all threads */
#else
	__builtin___clear_cache((char *)pc, (char *)pc + length);
#endif
}

/* Replaces the instruction at k of a section by a trap, or by a branch to itself. */
static void stops_plant(const struct stops_descriptor *in, size_t offset, int trap)
{
#if defined(__x86_64__)
	static const unsigned char traps[] = { 0xcc }, branches[] = { 0xeb, 0xfe };
	size_t length = trap ? 1 : 2;
#elif defined(__aarch64__)
	static const unsigned char traps[] = { 0, 0, 0x20, 0xd4 }, branches[] = { 0, 0, 0, 0x14 };
	size_t length = 4;
#else
	static const unsigned char wide[] = { 0x73, 0, 0x10, 0 }, still[] = { 0x6f, 0, 0, 0 };
	static const unsigned char narrow[] = { 0x02, 0x90 }, narrow_still[] = { 0x01, 0xa0 };
	size_t length = stops_length(in->start + offset, 0);
	const unsigned char *traps = length == 4 ? wide : narrow, *branches = length == 4 ? still : narrow_still;
#endif

	stops_.in = in;
	stops_.offset = offset;
	memcpy(stops_.original, (const void *)(in->start + offset), 4);
	stops_write(in->start + offset, trap ? traps : branches, length);
}

static void stops_restore(void)
{
	stops_write(stops_.in->start + stops_.offset, stops_.original, sizeof stops_.original);
}

/* ---- what others see ---- */

/* How a call ended: the slots that it changed, and the view of them. */
struct stops_end {
	int outcome, alike;
	size_t changed;
	uint64_t view, answer;
};

static void stops_unchanged(void)
{
	size_t slot;

	for (slot = 0; slot < stops_.section->slots; slot++)
		if (stops_.section->view(slot) != stops_.before[slot])
			stops_found(STOPS_CHANGED, "what others rely on has changed before the commit");
}

static struct stops_end stops_end(int outcome)
{
	struct stops_end end = { outcome, 1, 0, 0, 0 };
	size_t slot;

	for (slot = 0; slot < stops_.section->slots; slot++) {
		uint64_t view = stops_.section->view(slot);

		if (view == stops_.before[slot])
			continue;
		end.alike &= !end.changed || view == end.view;
		end.view = view;
		end.changed++;
	}
	if (outcome != RSEQ_RT_COMMITTED && end.changed && stops_.mode != STOPS_NESTED)
		stops_found(STOPS_CHANGED, "what others rely on has changed without a commit");
	if (stops_registers)
		stops_found(STOPS_REGISTER, "a register has changed that is no clobber");
	if (stops_.section->answer)
		end.answer = stops_.section->answer();
	return end;
}

/* Makes the call with everything as prepared. */
static struct stops_end stops_prepared_call(void)
{
	size_t slot;

	stops_.at->prepare();
	for (slot = 0; slot < stops_.section->slots; slot++)
		stops_.before[slot] = stops_.section->view(slot);
	stops_.hits = 0;
	return stops_end(stops_.at->call());
}

static void stops_compare(const struct stops_end *is, const struct stops_end *expected)
{
	if (is->outcome != expected->outcome || is->changed != expected->changed || is->view != expected->view
	    || is->answer != expected->answer)
		stops_found(STOPS_RESULT, "it does not end as an undisturbed call does");
}

/* ---- a stop ---- */

/* To one of the CPUs that the process may use, in turn. */
static void stops_move(pid_t thread, size_t cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(stops_.cpus[cpu % stops_.count], &one);
	sched_setaffinity(thread, sizeof one, &one);
}

#if defined(__x86_64__)
/*
 * Steps over one instruction after another. The kernel has forgotten the section when it aborted it, so that
 * it runs to its end; nothing else runs, and the thread has one CPU.
 */
static void stops_walk(ucontext_t *context)
{
	uintptr_t start = stops_.in->start, now = STOPS_PC(context);

	if (!stops_.hits++) {
		stops_restore();
		STOPS_PC(context) = now = start;
		context->uc_mcontext.gregs[REG_EFL] |= 0x100;
	} else {
		size_t length = stops_length(stops_.walked, now);

		stops_.offset = stops_.walked - start;
		if (length > 15)
			stops_found(STOPS_EXIT, "an indirect branch");
		stops_.places[stops_.in - __start___rseq_cs][stops_.offset].length = (unsigned char)length;
	}
	stops_.walked = now;
	if (now - start >= stops_.in->length)
		context->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}
#endif

/* At the start for the first time: notes the stack, and goes on to k. */
static void stops_begin(const ucontext_t *context)
{
	stops_restore();
	stops_.sp = STOPS_SP(context);
	memcpy(stops_.red_zone, (const void *)(stops_.sp - STOPS_RED_ZONE), STOPS_RED_ZONE);
	stops_plant(stops_.in, stops_.wanted, 1);
}

static void stops_trapped(int signal, siginfo_t *info, void *context_)
{
	ucontext_t *context = context_;
	int error = errno;

	(void)signal, (void)info;
#if defined(__x86_64__)
	if (stops_.mode == STOPS_WALK && stops_.hits) {
		stops_walk(context);
		return;
	}
#endif
	if (STOPS_PC(context) != stops_.in->abort)
		stops_found(STOPS_NOT_ABORTED, "the kernel does not abort it");
	stops_unchanged();
	switch (stops_.mode) {
	case STOPS_FIND:
		stops_.hits = 1;
		stops_restore();
		break;
	case STOPS_WALK:
#if defined(__x86_64__)
		stops_walk(context);
#endif
		break;
	default:
		if (!stops_.hits++) {
			stops_begin(context);
			break;
		}
		stops_.stops++;
		if (STOPS_SP(context) != stops_.sp
		    || memcmp(stops_.red_zone, (const void *)(stops_.sp - STOPS_RED_ZONE), STOPS_RED_ZONE))
			stops_found(STOPS_REGISTER, "the stack pointer or the red zone has changed");
		if (stops_.mode == STOPS_SIGNALLED) {
			stops_move(0, stops_.hits);
			if (stops_.hits > 3)
				stops_restore();
		} else if (stops_.mode == STOPS_NESTED) {
			stops_restore();
			stops_.nested = stops_.at->call();
		}
	}
	errno = error;
}

/* ---- the other thread ---- */

static void stops_signalled(int signal, siginfo_t *info, void *context_)
{
	ucontext_t *context = context_;

	(void)signal, (void)info;
	/* Not there yet, or gone already, if it is not. */
	if (!stops_.ended && STOPS_PC(context) == stops_.in->abort) {
		stops_unchanged();
		stops_.stops++;
		stops_restore();
		__atomic_store_n(&stops_.ended, 1, __ATOMIC_RELEASE);
	}
	sem_post(&stops_.handled);
}

static void stops_wait(sem_t *semaphore)
{
	while (sem_wait(semaphore))
		;
}

static void *stops_other(void *unused)
{
	stops_move(0, 0);
	for (;;) {
		stops_wait(&stops_.go);
		if (stops_.quit)
			return unused;
		while (!__atomic_load_n(&stops_.ended, __ATOMIC_ACQUIRE)) {
			/* To this CPU, which that thread gets when it has its signal. */
			stops_move(stops_.thread, 0);
			syscall(SYS_tgkill, getpid(), stops_.thread, SIGUSR2);
			stops_wait(&stops_.handled);
		}
		sem_post(&stops_.over);
	}
}

/* ---- the cases ---- */

/* One call that is stopped at k in one of the ways. */
static struct stops_end stops_one(int mode, const struct stops_descriptor *in, size_t offset)
{
	struct stops_end end;

	stops_.mode = mode;
	stops_.wanted = offset;
	if (mode == STOPS_MOVED) {
		stops_plant(in, offset, 0);
		stops_.ended = 0;
		stops_move(0, 1);
		sem_post(&stops_.go);
	} else {
		stops_plant(in, 0, 1);
	}
	end = stops_prepared_call();
	if (mode == STOPS_MOVED) {
		__atomic_store_n(&stops_.ended, 1, __ATOMIC_RELEASE);
		stops_wait(&stops_.over);
	}
	stops_restore();
	return end;
}

static void stops_at_each(const struct stops_descriptor *in, const struct stops_end *once, const struct stops_end *twice)
{
	struct stops_place *places = stops_.places[in - __start___rseq_cs];
	struct stops_end end;
	size_t offset;

	for (offset = 0; offset < in->length; offset += places[offset].length ? places[offset].length : 1) {
		if (!places[offset].length)
			continue;
		end = stops_one(STOPS_SIGNALLED, in, offset);
		stops_compare(&end, once);
		/* The first hit is that of the start. */
		if (stops_.hits < 2)
			continue;
		places[offset].reached = 1;
		end = stops_one(STOPS_EXHAUSTED, in, offset);
		if (end.outcome != RSEQ_RT_ABORTED)
			stops_found(STOPS_RESULT, "it is aborted in every try and does not say so");
		end = stops_one(STOPS_NESTED, in, offset);
		/* The id has changed between the two: each has changed a slot of its own. */
		if (end.outcome == once->outcome && stops_.nested == once->outcome && end.changed == 2 && end.alike)
			end.changed = 1;
		else if (stops_.nested != once->outcome)
			stops_found(STOPS_RESULT, "the call in the handler is not as an undisturbed one");
		else
			stops_compare(&end, twice);
		/* Once is enough; on x86_64 one byte has no room for a branch. */
		if (places[offset].moved || places[offset].length < 2 || stops_.section->brief)
			continue;
		places[offset].moved = 1;
		end = stops_one(STOPS_MOVED, in, offset);
		/* On a loaded machine the bound may be used up by preemptions. */
		if (end.outcome != RSEQ_RT_ABORTED)
			stops_compare(&end, once);
	}
}

/* The instructions of a section, and the exits of those that branch out. */
static void stops_read(const struct stops_descriptor *in)
{
	struct stops_place **places = &stops_.places[in - __start___rseq_cs];
	size_t offset;

	if (!*places)
		*places = calloc(in->length, sizeof **places);
	if (!*places)
		stops_found(STOPS_USAGE, "no memory");
#if defined(__x86_64__)
	stops_.mode = STOPS_WALK;
	stops_plant(in, 0, 1);
	stops_prepared_call();
#else
	for (offset = 0; offset < in->length; offset += (*places)[offset].length)
		(*places)[offset].length = (unsigned char)stops_length(in->start + offset, 0);
#endif
	for (offset = 0; offset < in->length; offset++) {
		uintptr_t target = (*places)[offset].length ? stops_target(in->start + offset) : 0;
		const uint64_t *exit = __start___rseq_exit_point_array;

		if (!target || target - in->start <= in->length)
			continue;
		while (exit < __stop___rseq_exit_point_array && (exit[0] != in->start || exit[1] != target))
			exit += 2;
		stops_.offset = offset;
		if (exit >= __stop___rseq_exit_point_array)
			stops_found(STOPS_EXIT, "a branch out that is no RSEQ_RT_SECTION_EXIT");
	}
}

static void stops_case(const struct stops_case *at)
{
	const struct stops_descriptor *in;
	struct stops_end once, twice;
	int some = 0;

	stops_.at = at;
	stops_.mode = STOPS_FIND;
	stops_.offset = 0;
	stops_move(0, 0);
	once = stops_prepared_call();
	if (once.outcome == RSEQ_RT_OUT_OF_RANGE || once.changed != (once.outcome == RSEQ_RT_COMMITTED))
		stops_found(STOPS_USAGE, "an undisturbed call has no slot, or its commit is not in the view of one");
	/* The second on the same slot. */
	do {
		stops_.mode = STOPS_NESTED;
		stops_prepared_call();
		twice = stops_end(at->call());
	} while (twice.changed > once.changed);
	for (in = __start___rseq_cs; in < __stop___rseq_cs; in++) {
		stops_.mode = STOPS_FIND;
		stops_plant(in, 0, 1);
		stops_prepared_call();
		stops_restore();
		if (!stops_.hits)
			continue;
		some = 1;
		stops_read(in);
		stops_at_each(in, &once, &twice);
	}
	if (!some)
		stops_found(STOPS_USAGE, "the call runs no section");
}

/* Each instruction of the sections that were run has been reached; their number. */
static unsigned stops_all_reached(void)
{
	const struct stops_descriptor *in;
	unsigned instructions = 0;

	stops_.at = NULL;
	for (in = __start___rseq_cs; in < __stop___rseq_cs; in++) {
		struct stops_place *places = stops_.places[in - __start___rseq_cs];

		if (!places)
			continue;
		for (stops_.offset = 0; stops_.offset < in->length; stops_.offset += places[stops_.offset].length) {
			if (!places[stops_.offset].reached)
				stops_found(STOPS_UNREACHED, "no case reaches it");
			instructions++;
		}
		free(places);
	}
	return instructions;
}

/* Makes the code of all sections writable. */
static void stops_unprotect(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const struct stops_descriptor *in;

	for (in = __start___rseq_cs; in < __stop___rseq_cs; in++) {
		uintptr_t first = in->start & -page;

		if (mprotect((void *)first, in->start + in->length + sizeof stops_.original - first,
			     PROT_READ | PROT_WRITE | PROT_EXEC))
			stops_found(STOPS_USAGE, "mprotect(2) refuses code that can be written");
	}
}

/* All cases of a section, on the calling thread; ends the process at the first finding. */
static void stops_run(const struct stops_section *section)
{
	struct sigaction action, before[2];
	pthread_t other;
	unsigned instructions;
	size_t i;

	memset(&stops_, 0, sizeof stops_);
	stops_.section = section;
	stops_.thread = (pid_t)syscall(SYS_gettid);
	stops_.before = calloc(section->slots, sizeof *stops_.before);
	stops_.places = calloc((size_t)(__stop___rseq_cs - __start___rseq_cs), sizeof *stops_.places);
	if (!stops_.before || !stops_.places || sched_getaffinity(0, sizeof stops_.allowed, &stops_.allowed))
		stops_found(STOPS_USAGE, "no memory, or more CPUs than cpu_set_t has");
	for (i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &stops_.allowed))
			stops_.cpus[stops_.count++] = (int)i;
	for (i = 0; i < 32; i++) {
		stops_values[i] = 0x9e3779b97f4a7c15u * (i + 1);
		stops_floats[i] = (double)(i + 1) / 3;
	}
	stops_unprotect();
	memset(&action, 0, sizeof action);
	action.sa_flags = SA_SIGINFO;
	/* A call in the handler is not stopped, but may be moved. */
	sigfillset(&action.sa_mask);
	action.sa_sigaction = stops_trapped;
	sigaction(SIGTRAP, &action, &before[0]);
	action.sa_sigaction = stops_signalled;
	sigaction(SIGUSR2, &action, &before[1]);
	if (sem_init(&stops_.go, 0, 0) || sem_init(&stops_.handled, 0, 0) || sem_init(&stops_.over, 0, 0)
	    || pthread_create(&other, NULL, stops_other, NULL))
		stops_found(STOPS_USAGE, "no second thread");

	for (i = 0; i < section->count; i++)
		stops_case(&section->cases[i]);
	instructions = stops_all_reached();

	stops_.quit = 1;
	sem_post(&stops_.go);
	pthread_join(other, NULL);
	sigaction(SIGTRAP, &before[0], NULL);
	sigaction(SIGUSR2, &before[1], NULL);
	sched_setaffinity(0, sizeof stops_.allowed, &stops_.allowed);
	free(stops_.before);
	free(stops_.places);
	printf("%s: %u instructions, %lu stops\n", section->name, instructions, stops_.stops);
}

#endif
