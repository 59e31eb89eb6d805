/*
 * The rseq.c of the kernel's selftests for a libc that owns rseq. From 7.2 on param_test registers its threads itself,
 * and fails if the libc has done so; here that is accepted, as before.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#define __rseq_register_current_thread register_or_find_registered
#include <rseq.c>
#undef __rseq_register_current_thread

int __rseq_register_current_thread(bool nolibc, bool legacy)
{
	(void)nolibc;
	return register_or_find_registered(false, legacy);
}
