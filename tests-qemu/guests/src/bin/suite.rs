//! The test suite: natively, under qemu-user, and as PID 1.
#![no_std]
#![no_main]

use guests::entry::Env;
use guests::harness::{self, run_suite};
use guests::hooks::{
    areas, at_exit, basic, children, counts, ends, filtered, filters, foreign, lifetime, linux7,
    loans, slice, storms, trapped, walk,
};
use guests::percpu::{edges, ids, known_bad, orders, own, probed, steps, stress, unprotected};
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
            runtime_tests::panics::TESTS,
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
            linux7::TESTS,
            slice::TESTS,
            loans::TESTS,
            trapped::TESTS,
            storms::TESTS,
            walk::TESTS,
            lifetime::TESTS,
            edges::TESTS,
            ids::TESTS,
            orders::TESTS,
            stress::TESTS,
            unprotected::TESTS,
            known_bad::TESTS,
            probed::TESTS,
            steps::TESTS,
            own::TESTS,
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
