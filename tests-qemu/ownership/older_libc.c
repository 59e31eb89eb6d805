/* What the linker finds in place of the libc: the functions of `older.c` and of the start code, and no `__rseq_*`. */
void __libc_start_main(void);
void _exit(int status);

void __libc_start_main(void)
{
}

void _exit(int status)
{
	(void)status;
	for (;;)
		;
}
