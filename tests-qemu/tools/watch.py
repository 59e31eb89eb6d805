# For gdb: stops in each hook and at the start of each section that runs, steps there, and goes on.
# The last line states the counts; the exit code is the program's.
import gdb

HOOKS = [
    "rseq_rt_init",
    "rseq_rt_on_thread_create",
    "rseq_rt_on_thread_create_masked",
    "rseq_rt_ensure_registered",
    "rseq_rt_vfork_begin",
    "rseq_rt_vfork_end",
    "rseq_rt_at_exit_run",
    "rseq_rt_on_thread_exit",
    "rseq_rt_on_thread_exit_masked",
    "rseq_rt_recycle",
    "rseq_rt_unmap_and_exit",
]
# Each stop in a section aborts it: a permanent breakpoint would never let it finish.
STOPS = 2
STEPS = 12

seen = {}
sections = []
left = 0


def pc():
    return int(gdb.parse_and_eval("(unsigned long long)$pc"))


def section_at(address):
    for start, length in sections:
        if start <= address < start + length:
            return start
    return None


def is_alive():
    return gdb.selected_inferior().pid != 0


class Stop(gdb.Breakpoint):
    """Counts itself, and goes after its last stop."""

    def __init__(self, where, name):
        super().__init__(where, internal=True)
        self.silent = True
        self.name = name

    def stop(self):
        seen[self.name] = seen.get(self.name, 0) + 1
        return True


def steps():
    """Instruction by instruction. A step inside of a section aborts it, and so leads out of it."""
    global left
    for _ in range(STEPS):
        before = section_at(pc())
        gdb.execute("stepi", to_string=True)
        if not is_alive():
            return
        if before is not None and section_at(pc()) is None:
            left += 1


for line in [
    "set pagination off",
    "set confirm off",
    "set breakpoint pending off",
    "set debuginfod enabled off",
    # Otherwise a section continues without its rseq_cs: see docs/several-users.md.
    "set displaced-stepping off",
    "set print thread-events off",
    "handle SIGPROF nostop noprint pass",
]:
    try:
        gdb.execute(line, to_string=True)
    except gdb.error:
        pass
stops = [Stop(hook, hook) for hook in HOOKS]
gdb.execute("break main", to_string=True)
gdb.execute("run")
if is_alive():
    at = gdb.parse_and_eval("first_section")
    while at < gdb.parse_and_eval("last_section"):
        start = int(at["start"])
        sections.append((start, int(at["length"])))
        stops.append(Stop("*%d" % start, "section"))
        at += 1
    while is_alive():
        steps()
        for one in stops:
            if one.is_valid() and one.hit_count >= STOPS:
                one.delete()
        if is_alive():
            gdb.execute("continue")
hooks = [hook for hook in HOOKS if hook in seen]
print("stopped in %d hooks and %d times in sections, %d left by a step" % (len(hooks), seen.get("section", 0), left))
gdb.execute("quit $_exitcode" if gdb.convenience_variable("_exitcode") is not None else "quit 99")
