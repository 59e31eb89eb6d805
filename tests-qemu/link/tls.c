/* A program of linker/init.ld without any library: finds its thread-local variables, its
 * constructors and its indirect functions by itself. The exit code says what it did not find. */
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

static long call(long number, long a, long b)
{
#if defined __x86_64__
	long answer;
	__asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return answer;
#elif defined __aarch64__
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
	return x0;
#else
	register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b;
	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1) : "memory");
	return a0;
#endif
}

static __thread long initialised = 42;
static __thread long zeroed;
static __thread char aligned[64] __attribute__((aligned(64))) = "aligned";
static int order;

__attribute__((constructor(101))) static void first(void) { order = order * 10 + 2; }
__attribute__((constructor)) static void second(void) { order = order * 10 + 3; }
__attribute__((destructor)) static void last(void) { order = order * 10 + 4; }
static void before(void) { order = order * 10 + 1; }
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = before;

static int resolved(void) { return 8; }
static int (*resolve(void))(void) { return resolved; }
int indirect(void) __attribute__((ifunc("resolve")));

typedef void (*function)(void);
extern const function __preinit_array_start[], __preinit_array_end[];
extern const function __init_array_start[], __init_array_end[];
extern const function __fini_array_start[], __fini_array_end[];

extern const Elf64_Rela __rela_iplt_start[], __rela_iplt_end[];

static void run(const function *at, const function *end)
{
	for (; at != end; at++)
		(*at)();
}

static _Alignas(64) char block[1024];

/* Lays out the main thread's variables and sets the thread pointer. Returns an exit code if PT_TLS is unusable. */
static int thread(const Elf64_Phdr *at, size_t count)
{
	for (; count && at->p_type != PT_TLS; count--)
		at++;
	if (!count)
		return 2;
	if (at->p_memsz > 512 || at->p_align != 64)
		return 3;
	/* x86_64: below the thread pointer, which points at itself. The others: above it, after 16 bytes or none. */
#if defined __x86_64__
	char *pointer = block + 512;
	char *to = pointer - (at->p_memsz + 63) / 64 * 64;
	*(char **)pointer = pointer;
#elif defined __aarch64__
	char *pointer = block, *to = block + 64;
#else
	char *pointer = block, *to = block;
#endif
	const char *from = (const char *)at->p_vaddr;
	for (size_t n = 0; n < at->p_filesz; n++)
		to[n] = from[n];
#if defined __x86_64__
	if (call(SYS_arch_prctl, 0x1002, (long)pointer))
		return 4;
#elif defined __aarch64__
	__asm__ volatile("msr tpidr_el0, %0" : : "r"(pointer) : "memory");
#else
	__asm__ volatile("mv tp, %0" : : "r"(pointer) : "memory");
#endif
	return 0;
}

static int judge(void)
{
	volatile long *one = &initialised, *other = &zeroed;
	if (*one != 42 || *other != 0)
		return 5;
	if ((uintptr_t)aligned % 64 || *(volatile char *)aligned != 'a')
		return 6;
	for (const Elf64_Rela *at = __rela_iplt_start; at != __rela_iplt_end; at++)
		*(long *)at->r_offset = ((long (*)(void))at->r_addend)();
	if (indirect() != 8)
		return 8;
	run(__preinit_array_start, __preinit_array_end);
	run(__init_array_start, __init_array_end);
	run(__fini_array_start, __fini_array_end);
	return order == 1234 ? 0 : 7;
}

__attribute__((used)) static void start(const long *stack)
{
	const long *at = stack + 1 + *stack + 1;
	const Elf64_Phdr *headers = NULL;
	size_t count = 0;
	while (*at++)
		;
	for (; *at; at += 2) {
		if (at[0] == 3)
			headers = (const Elf64_Phdr *)at[1];
		if (at[0] == 5)
			count = (size_t)at[1];
	}
	int code = headers ? thread(headers, count) : 1;
	call(SYS_exit_group, code ? code : judge(), 0);
}

__asm__(
	".globl _start\n"
	"_start:\n"
#if defined __x86_64__
	"mov %rsp, %rdi\n"
	"and $-16, %rsp\n"
	"call start\n"
#elif defined __aarch64__
	"mov x0, sp\n"
	"bl start\n"
#else
	".option push\n"
	".option norelax\n"
	"lla gp, __global_pointer$\n"
	".option pop\n"
	"mv a0, sp\n"
	"call start\n"
#endif
);
