/*
 * rseq_rt_buffers.h - per-CPU buffers, inline: a bounded stack of pointers, and a bounded run of bytes, for each CPU.
 *
 * As in rseq_rt_structures.h: a thread that is registered changes the slot of its CPU by a critical section, every other
 * one the overflow slot by atomics, so that any thread may use them, at any time, a signal handler included, with its area
 * or with a null one, as which a misaligned one counts. Inline, since the size of a slot is the program's: that of
 * RSEQ_RT_SLOT_SHIFT, which is defined before the first header of rseq_rt in every file that uses one of these. 128 bytes hold
 * 14 pointers; a log wants more:
 *
 *     #define RSEQ_RT_SLOT_SHIFT 12			// 4096 bytes, 4080 of them for records
 *     #include "rseq_rt_buffers.h"
 *
 *     size_t count = rseq_rt_cpu_bound();		// storage: count + 1 slots, all zero
 *     rseq_rt_bytes_init(&log, storage, RSEQ_RT_SLOT_SIZE, count);
 *
 *     if (rseq_rt_bytes_push(&log, area, line, strlen(line)) != 0)
 *         ...						// full: drained too seldom
 *     for (cpu = 0; cpu < count; cpu++)
 *         rseq_rt_bytes_drain(&log, &fence, cpu, write_out, file);
 *     rseq_rt_bytes_drain_overflow(&log, write_out, file);
 *
 * Storage is the caller's, zero at first, and serves one buffer for ever; slots that are too few are slow and never wrong.
 * int is 0 or a number, or a negative errno, and nothing has changed then:
 *     -EFAULT     a null pointer
 *     -EINVAL     a misaligned pointer; a stride that is not RSEQ_RT_SLOT_SIZE; no slots; no such slot
 *     -EOVERFLOW  more slots than a CPU number can count
 *     -ENOSPC     no room, in the slot or, for a thread without one, in the overflow slot
 *     -ENOENT     nothing there, whatever is on other CPUs
 *     -EAGAIN     for the moment: a drain has the slot, or another thread is in the middle of it
 * Calls make no system call but where "Costs" says so. C99 or C++98 on, GCC or clang; -mno-outline-atomics on
 * aarch64 where there is no libgcc.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_RT_BUFFERS_H
#define RSEQ_RT_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

#include "rseq_rt_percpu.h"
#include "rseq_rt_structures.h"

#ifdef __cplusplus
#define RSEQ_RT_BUFFERS_AT(type, address) reinterpret_cast<type *>(address)
#define RSEQ_RT_BUFFERS_INT(number) static_cast<int>(number)
extern "C" {
#else
#define RSEQ_RT_BUFFERS_AT(type, address) ((type *)(address))
#define RSEQ_RT_BUFFERS_INT(number) ((int)(number))
#endif

#define RSEQ_RT_BUFFERS_INLINE static __inline__ __attribute__((__unused__))

/* A slot: how much is in it, one word; whether a drain is at work, another; the content. */
#define RSEQ_RT_BUFFERS_END 0
#define RSEQ_RT_BUFFERS_CONTENT (2 * sizeof(uintptr_t))

/* No section expects an end with this bit, and none stores one: a drain has closed the slot. */
#define RSEQ_RT_BUFFERS_MARK (sizeof(char) << 63)

#if RSEQ_RT_SLOT_SHIFT < 5
#error "a slot of a buffer has two words and content: RSEQ_RT_SLOT_SHIFT is 5 or more"
#endif

/* The check of the arguments that all calls have in common. */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffers_given(const void *pointer)
{
	if (!pointer)
		return -14;
	return RSEQ_RT_PERCPU_ADDRESS(pointer) % sizeof(uintptr_t) ? -22 : 0;
}

/* A slot, as its words. The overflow slot is the one behind the last. */
RSEQ_RT_BUFFERS_INLINE uintptr_t *rseq_rt_buffers_slot(struct rseq_rt_slots slots, size_t number)
{
	return RSEQ_RT_BUFFERS_AT(uintptr_t, slots.base) + number * (RSEQ_RT_SLOT_SIZE / sizeof(uintptr_t));
}

/* That of the calling thread, at this moment; null where it has none. */
RSEQ_RT_BUFFERS_INLINE uintptr_t *rseq_rt_buffers_here(struct rseq_rt_slots slots, const struct rseq *rseq)
{
	unsigned number = rseq ? rseq_rt_percpu_id(rseq) : ~0u;

	return number < slots.count ? rseq_rt_buffers_slot(slots, number) : NULL;
}

/* Closes a slot: its content is the drain's, which opens it. Or an errno, and the slot as it was. */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffers_close(uintptr_t *slot, const struct rseq_rt_fence *fence, size_t number,
	uintptr_t *end)
{
	int refused = 0, tries;

	/* Two drains would take each other's mark for their own. */
	if (__atomic_exchange_n(&slot[1], 1, __ATOMIC_ACQUIRE))
		return -11;
	for (tries = 0; tries < RSEQ_RT_RESTARTS; tries++) {
		__atomic_fetch_or(&slot[0], RSEQ_RT_BUFFERS_MARK, __ATOMIC_ACQ_REL);
		refused = rseq_rt_fence_abort(fence, number);
		if (refused) {
			/* Whatever a section in flight stores now or later has no mark, and is right for the end it found. */
			__atomic_fetch_and(&slot[0], ~RSEQ_RT_BUFFERS_MARK, __ATOMIC_RELAXED);
			break;
		}
		/* Gone, if a section that had compared before the mark stored over it. If it is there, none did or can any more. */
		*end = __atomic_load_n(&slot[0], __ATOMIC_ACQUIRE);
		if (*end & RSEQ_RT_BUFFERS_MARK) {
			*end &= ~RSEQ_RT_BUFFERS_MARK;
			/* Before the content is given away: a fork child would find in the slot what has been freed by then. */
			__atomic_store_n(&slot[0], RSEQ_RT_BUFFERS_MARK, __ATOMIC_RELAXED);
			__atomic_signal_fence(__ATOMIC_SEQ_CST);
			return 0;
		}
	}
	__atomic_store_n(&slot[1], 0, __ATOMIC_RELEASE);
	return refused ? refused : -11;
}

/* Opens it again, empty. */
RSEQ_RT_BUFFERS_INLINE void rseq_rt_buffers_open(uintptr_t *slot)
{
	__atomic_store_n(&slot[0], 0, __ATOMIC_RELEASE);
	__atomic_store_n(&slot[1], 0, __ATOMIC_RELEASE);
}

/* In a fork child: ends drains whose threads are not there. A slot that needs no repair is not written to. */
RSEQ_RT_BUFFERS_INLINE void rseq_rt_buffers_reopen(struct rseq_rt_slots slots)
{
	size_t number;

	for (number = 0; number < slots.count; number++) {
		uintptr_t *slot = rseq_rt_buffers_slot(slots, number);
		uintptr_t end = __atomic_load_n(&slot[0], __ATOMIC_RELAXED);

		if (end & RSEQ_RT_BUFFERS_MARK)
			__atomic_store_n(&slot[0], end & ~RSEQ_RT_BUFFERS_MARK, __ATOMIC_RELAXED);
		if (__atomic_load_n(&slot[1], __ATOMIC_RELAXED))
			__atomic_store_n(&slot[1], 0, __ATOMIC_RELAXED);
	}
}

/* ---- a buffer: a stack of pointers for each CPU, last in, first out ---- */

struct rseq_rt_buffer {
	struct rseq_rt_slots rseq_rt_opaque;
};

/* Pointers that a slot has room for, and as many for all threads that have no slot. */
#define RSEQ_RT_BUFFER_CAPACITY (RSEQ_RT_SLOT_SIZE / sizeof(uintptr_t) - 2)

/* Empty, over count + 1 slots, the last of them for threads without one. */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffer_init(struct rseq_rt_buffer *buffer, void *storage, size_t stride, size_t count)
{
	int refused = rseq_rt_buffers_given(buffer);

	return refused ? refused : rseq_rt_slots_init(&buffer->rseq_rt_opaque, storage, stride, count);
}

/*
 * Stores a pointer, which is not null, in the slot of the CPU. It promises nothing about what it points to: that is between
 * who pushes and who pops. -ENOSPC.
 */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffer_push(const struct rseq_rt_buffer *buffer, const rseq_rt_area *area, void *pointer)
{
	int refused = rseq_rt_buffers_given(buffer), tries;
	struct rseq_rt_slots slots;
	uintptr_t *slot;
	struct rseq *rseq;
	size_t at;

	if (refused || !pointer)
		return refused ? refused : -14;
	slots = buffer->rseq_rt_opaque;
	rseq = rseq_rt_current(area);
	for (tries = 0; tries < RSEQ_RT_RESTARTS && (slot = rseq_rt_buffers_here(slots, rseq)) != NULL; tries++) {
		uintptr_t count = __atomic_load_n(&slot[0], __ATOMIC_RELAXED);
		int outcome;

		if (count & RSEQ_RT_BUFFERS_MARK)
			break;
		if (count >= RSEQ_RT_BUFFER_CAPACITY)
			return -28;
		outcome = rseq_rt_percpu_compare_store_and_store(rseq, slots, RSEQ_RT_BUFFERS_END, count,
			RSEQ_RT_BUFFERS_CONTENT + count * sizeof count, RSEQ_RT_PERCPU_ADDRESS(pointer), count + 1);
		if (outcome == RSEQ_RT_COMMITTED)
			return 0;
		if (outcome != RSEQ_RT_DIFFERS)
			break;
	}
	/* Cells that hold a pointer or 0, in no order. The count first, so that who finds it 0 has missed nobody who was through. */
	slot = rseq_rt_buffers_slot(slots, slots.count);
	__atomic_fetch_add(&slot[0], 1, __ATOMIC_SEQ_CST);
	for (at = 2; at < RSEQ_RT_BUFFER_CAPACITY + 2; at++) {
		uintptr_t empty = 0;

		if (__atomic_compare_exchange_n(&slot[at], &empty, RSEQ_RT_PERCPU_ADDRESS(pointer), 0, __ATOMIC_RELEASE,
		    __ATOMIC_RELAXED))
			return 0;
	}
	__atomic_fetch_sub(&slot[0], 1, __ATOMIC_SEQ_CST);
	return -28;
}

/* One of the overflow slot; 0 where it has none. */
RSEQ_RT_BUFFERS_INLINE uintptr_t rseq_rt_buffers_pop_overflow(struct rseq_rt_slots slots)
{
	uintptr_t *slot = rseq_rt_buffers_slot(slots, slots.count);
	size_t at;

	if (!__atomic_load_n(&slot[0], __ATOMIC_SEQ_CST))
		return 0;
	for (at = 2; at < RSEQ_RT_BUFFER_CAPACITY + 2; at++) {
		uintptr_t value = __atomic_load_n(&slot[at], __ATOMIC_RELAXED);

		/* By its value, so that there is no ABA. */
		if (value && __atomic_compare_exchange_n(&slot[at], &value, 0, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			__atomic_fetch_sub(&slot[0], 1, __ATOMIC_SEQ_CST);
			return value;
		}
	}
	return 0;
}

/*
 * The pointer that was last stored on this CPU, or one of the overflow slot. -ENOENT where both are empty, whatever is on
 * other CPUs; -EAGAIN.
 */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffer_pop(const struct rseq_rt_buffer *buffer, const rseq_rt_area *area, void **pointer)
{
	int refused = rseq_rt_buffers_given(buffer), missed = -2, tries;
	struct rseq_rt_slots slots;
	uintptr_t *slot, value = 0;
	struct rseq *rseq;

	if (!refused)
		refused = rseq_rt_buffers_given(pointer);
	if (refused)
		return refused;
	slots = buffer->rseq_rt_opaque;
	rseq = rseq_rt_current(area);
	for (tries = 0; !value && (slot = rseq_rt_buffers_here(slots, rseq)) != NULL; tries++) {
		uintptr_t count = __atomic_load_n(&slot[0], __ATOMIC_RELAXED), last;
		int outcome;

		if (count & RSEQ_RT_BUFFERS_MARK || tries == RSEQ_RT_RESTARTS) {
			missed = -11;
			break;
		}
		if (!count)
			break;
		last = __atomic_load_n(&slot[count + 1], __ATOMIC_RELAXED);
		/* The count alone would not do: it may be the same again, with another pointer below it. */
		outcome = rseq_rt_percpu_compare_two_and_store(rseq, slots, RSEQ_RT_BUFFERS_END, count,
			RSEQ_RT_BUFFERS_CONTENT + (count - 1) * sizeof count, last, count - 1);
		if (outcome == RSEQ_RT_COMMITTED)
			value = last;
		else if (outcome != RSEQ_RT_DIFFERS) {
			missed = outcome == RSEQ_RT_ABORTED ? -11 : -2;
			break;
		}
	}
	if (!value)
		value = rseq_rt_buffers_pop_overflow(slots);
	if (!value)
		return missed;
	*pointer = RSEQ_RT_BUFFERS_AT(void, value);
	return 0;
}

/*
 * Takes all pointers of one slot, of any CPU, and gives them to each, last stored first; how many. The slot is closed
 * meanwhile: what is pushed there goes to the overflow slot, and each needs another place for what that has no room for. If
 * each does not return, the slot stays closed. Costs: 1, rarely more.
 */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffer_drain(const struct rseq_rt_buffer *buffer, const struct rseq_rt_fence *fence,
	size_t slot, void (*each)(void *pointer, void *argument), void *argument)
{
	int refused = rseq_rt_buffers_given(buffer);
	uintptr_t *words, count, at;

	if (refused || !fence || !each)
		return refused ? refused : -14;
	if (slot >= buffer->rseq_rt_opaque.count)
		return -22;
	words = rseq_rt_buffers_slot(buffer->rseq_rt_opaque, slot);
	refused = rseq_rt_buffers_close(words, fence, slot, &count);
	if (refused)
		return refused;
	for (at = count; at; at--)
		each(RSEQ_RT_BUFFERS_AT(void, words[at + 1]), argument);
	rseq_rt_buffers_open(words);
	return RSEQ_RT_BUFFERS_INT(count);
}

/* The same for the overflow slot, and what comes there while it does. Costs: 0. */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffer_drain_overflow(const struct rseq_rt_buffer *buffer,
	void (*each)(void *pointer, void *argument), void *argument)
{
	int refused = rseq_rt_buffers_given(buffer), count = 0;
	uintptr_t value;

	if (refused || !each)
		return refused ? refused : -14;
	while ((value = rseq_rt_buffers_pop_overflow(buffer->rseq_rt_opaque)) != 0) {
		each(RSEQ_RT_BUFFERS_AT(void, value), argument);
		count++;
	}
	return count;
}

/*
 * In a fork child, before its second thread and outside of the buffer's own calls: ends what the parent's other threads were
 * doing. Lost are the pointers that a drain had taken and not yet given away.
 */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_buffer_repair_in_fork_child(const struct rseq_rt_buffer *buffer)
{
	int refused = rseq_rt_buffers_given(buffer);
	uintptr_t *overflow, full = 0;
	size_t at;

	if (refused)
		return refused;
	rseq_rt_buffers_reopen(buffer->rseq_rt_opaque);
	overflow = rseq_rt_buffers_slot(buffer->rseq_rt_opaque, buffer->rseq_rt_opaque.count);
	for (at = 2; at < RSEQ_RT_BUFFER_CAPACITY + 2; at++)
		if (__atomic_load_n(&overflow[at], __ATOMIC_RELAXED))
			full++;
	__atomic_store_n(&overflow[0], full, __ATOMIC_RELAXED);
	return 0;
}

/* ---- a byte log: a run of records for each CPU ---- */

struct rseq_rt_bytes {
	struct rseq_rt_slots rseq_rt_opaque;
};

/* Bytes that a slot has room for, and as many for all threads that have no slot. */
#define RSEQ_RT_BYTES_CAPACITY (RSEQ_RT_SLOT_SIZE - 2 * sizeof(uintptr_t))

/* Empty, over count + 1 slots, the last of them for threads without one. */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_bytes_init(struct rseq_rt_bytes *log, void *storage, size_t stride, size_t count)
{
	int refused = rseq_rt_buffers_given(log);

	return refused ? refused : rseq_rt_slots_init(&log->rseq_rt_opaque, storage, stride, count);
}

/* The bytes of a slot. */
RSEQ_RT_BUFFERS_INLINE unsigned char *rseq_rt_bytes_of(uintptr_t *slot)
{
	return RSEQ_RT_BUFFERS_AT(unsigned char, &slot[2]);
}

/*
 * Stores a record, whole or not at all, behind the others of the CPU's slot. Where one ends and the next begins is the
 * caller's to write. -ENOSPC; -EAGAIN while the overflow slot is being drained.
 */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_bytes_push(const struct rseq_rt_bytes *log, const rseq_rt_area *area, const void *record,
	size_t size)
{
	int refused = rseq_rt_buffers_given(log), tries;
	struct rseq_rt_slots slots;
	uintptr_t *slot, end;
	struct rseq *rseq;

	if (refused || !record)
		return refused ? refused : -14;
	slots = log->rseq_rt_opaque;
	rseq = rseq_rt_current(area);
	for (tries = 0; tries < RSEQ_RT_RESTARTS && (slot = rseq_rt_buffers_here(slots, rseq)) != NULL; tries++) {
		int outcome;

		end = __atomic_load_n(&slot[0], __ATOMIC_RELAXED);
		if (end & RSEQ_RT_BUFFERS_MARK)
			break;
		if (size > RSEQ_RT_BYTES_CAPACITY - end)
			return -28;
		outcome = rseq_rt_percpu_compare_copy_and_store(rseq, slots, RSEQ_RT_BUFFERS_END, end,
			RSEQ_RT_BUFFERS_CONTENT + end, record, size, end + size);
		if (outcome == RSEQ_RT_COMMITTED)
			return 0;
		if (outcome != RSEQ_RT_DIFFERS)
			break;
	}
	/* Room is reserved by one atomic, filled, and reported by another. */
	slot = rseq_rt_buffers_slot(slots, slots.count);
	end = __atomic_load_n(&slot[0], __ATOMIC_RELAXED);
	do {
		if (end & RSEQ_RT_BUFFERS_MARK)
			return -11;
		if (size > RSEQ_RT_BYTES_CAPACITY - end)
			return -28;
		/* Acquire: what a drain has read was read before it is written anew. */
	} while (!__atomic_compare_exchange_n(&slot[0], &end, end + size, 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
	__builtin_memcpy(rseq_rt_bytes_of(slot) + end, record, size);
	__atomic_fetch_add(&slot[1], size, __ATOMIC_RELEASE);
	return 0;
}

/*
 * Takes all records of one slot, of any CPU, and gives them to records; how many bytes. The slot is closed meanwhile: what
 * is pushed there goes to the overflow slot. If records does not return, it stays closed. Costs: 1, rarely more.
 */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_bytes_drain(const struct rseq_rt_bytes *log, const struct rseq_rt_fence *fence, size_t slot,
	void (*records)(const void *bytes, size_t size, void *argument), void *argument)
{
	int refused = rseq_rt_buffers_given(log);
	uintptr_t *words, end;

	if (refused || !fence || !records)
		return refused ? refused : -14;
	if (slot >= log->rseq_rt_opaque.count)
		return -22;
	words = rseq_rt_buffers_slot(log->rseq_rt_opaque, slot);
	refused = rseq_rt_buffers_close(words, fence, slot, &end);
	if (refused)
		return refused;
	records(rseq_rt_bytes_of(words), end, argument);
	rseq_rt_buffers_open(words);
	return RSEQ_RT_BUFFERS_INT(end);
}

/* The same for the overflow slot. -EAGAIN also where the calling handler has interrupted a push. Costs: 0. */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_bytes_drain_overflow(const struct rseq_rt_bytes *log,
	void (*records)(const void *bytes, size_t size, void *argument), void *argument)
{
	int refused = rseq_rt_buffers_given(log);
	uintptr_t *slot, end;

	if (refused || !records)
		return refused ? refused : -14;
	slot = rseq_rt_buffers_slot(log->rseq_rt_opaque, log->rseq_rt_opaque.count);
	end = __atomic_fetch_or(&slot[0], RSEQ_RT_BUFFERS_MARK, __ATOMIC_SEQ_CST);
	if (end & RSEQ_RT_BUFFERS_MARK)
		return -11;
	/* Acquire: what was reported filled is. */
	if (__atomic_load_n(&slot[1], __ATOMIC_ACQUIRE) != end) {
		__atomic_fetch_and(&slot[0], ~RSEQ_RT_BUFFERS_MARK, __ATOMIC_RELAXED);
		return -11;
	}
	/* Before records, so that a fork child sees whose they are. Nobody else counts here while the mark is set. */
	__atomic_store_n(&slot[1], 0, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	records(rseq_rt_bytes_of(slot), end, argument);
	/* Release: read before it can be reserved. */
	__atomic_store_n(&slot[0], 0, __ATOMIC_RELEASE);
	return RSEQ_RT_BUFFERS_INT(end);
}

/*
 * In a fork child, before its second thread and outside of the log's own calls: ends what the parent's other threads were
 * doing. The overflow slot is emptied if one was in the middle of a push there; all else that no drain had taken is kept.
 */
RSEQ_RT_BUFFERS_INLINE int rseq_rt_bytes_repair_in_fork_child(const struct rseq_rt_bytes *log)
{
	int refused = rseq_rt_buffers_given(log);
	uintptr_t *overflow, reserved;

	if (refused)
		return refused;
	rseq_rt_buffers_reopen(log->rseq_rt_opaque);
	overflow = rseq_rt_buffers_slot(log->rseq_rt_opaque, log->rseq_rt_opaque.count);
	reserved = __atomic_load_n(&overflow[0], __ATOMIC_RELAXED) & ~RSEQ_RT_BUFFERS_MARK;
	/* Bytes of a push that did not end would be among the others' records. */
	if (__atomic_load_n(&overflow[1], __ATOMIC_RELAXED) != reserved)
		reserved = 0;
	__atomic_store_n(&overflow[1], reserved, __ATOMIC_RELAXED);
	__atomic_store_n(&overflow[0], reserved, __ATOMIC_RELAXED);
	return 0;
}

#ifdef __cplusplus
}
#endif

#endif
