#include "inline.h"

static operation *const here[] = { both, Slot<long>::add };

operation *const *other_unit()
{
	return here;
}
