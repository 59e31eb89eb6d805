/* Stands in for the libc at link time: the functions used by `older.c` and by the start code, and no `__rseq_*`. */
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
