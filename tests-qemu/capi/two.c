/* Two Rust archives in one program. */
#include "rseq_rt.h"

unsigned other_rust(size_t index);

int main(void)
{
	return other_rust(1) == 8 && rseq_rt_init(0) == 0 ? 0 : 1;
}
