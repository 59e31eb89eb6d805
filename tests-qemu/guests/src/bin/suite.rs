//! The test suite: natively, under qemu-user, and as PID 1.
#![no_std]
#![no_main]

use guests::entry::Env;
use guests::harness::{self, run_suite};
use guests::hooks::{
    areas, at_exit, basic, children, counts, ends, filtered, filters, foreign, lifetime,
    lifetime_keep, lifetime_kept, lifetime_scoped, lifetime_traced, lifetime_view, loans, slice,
    storms, storms_mask, storms_steps, trapped, v2, v2_ids, v2_steps, walk,
};
use guests::percpu::{edges, known_bad, orders, probed, steps, stress, unprotected};
use guests::{entry, hotplug, runtime_tests, structures};

entry!(main, harness::panic);

fn main(env: &Env) -> i32 {
    if env.value_of("--as-child") == Some(children::exec::PROBE) {
        return children::exec::probe(env);
    }
    run_suite(
        env,
        &[
            runtime_tests::harness::TESTS,
            runtime_tests::TESTS,
            basic::TESTS,
            areas::TESTS,
            at_exit::TESTS,
            counts::TESTS,
            filtered::TESTS,
            filters::TESTS,
            foreign::TESTS,
            children::TESTS,
            ends::TESTS,
            v2::TESTS,
            v2_ids::TESTS,
            v2_steps::TESTS,
            slice::TESTS,
            loans::TESTS,
            trapped::TESTS,
            storms::TESTS,
            storms_mask::TESTS,
            storms_steps::TESTS,
            walk::TESTS,
            lifetime::TESTS,
            lifetime_traced::TESTS,
            lifetime_view::TESTS,
            lifetime_keep::TESTS,
            lifetime_kept::TESTS,
            lifetime_scoped::TESTS,
            edges::TESTS,
            orders::TESTS,
            stress::TESTS,
            unprotected::TESTS,
            known_bad::TESTS,
            probed::TESTS,
            steps::TESTS,
            structures::counter::TESTS,
            structures::list::TESTS,
            structures::buffer::TESTS,
            structures::bytes::TESTS,
            structures::drains::TESTS,
            structures::children::TESTS,
            structures::forked::TESTS,
            structures::rude::TESTS,
            structures::offline::TESTS,
            structures::stepped::TESTS,
            hotplug::TESTS,
        ],
    )
}
