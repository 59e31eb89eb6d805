//! The report: each owner, each reason of a thread, and what it costs.

use crate::fake::generation::{LATER_48, LATER_200, LINUX_4_18, LINUX_6_3, LINUX_7_0, LINUX_7_1};
use crate::fake::{
    Answer, Answers, Call, Filter, Foreign, Generation, Hooks as _, PLAIN, as_is, run,
};
use rseq_rt::percpu::{SectionSupport, VouchedBy};
use rseq_rt::{
    Area, Behaviour, Config, Errno, ExitMode, Owner, Process, Reason, Remedy, Report, SliceAnswer,
    State,
};

/// The report of a created thread, which must cost nothing, and whose text must agree with its values.
fn created(generation: Generation, answers: Answers, configure: fn(Config) -> Config) -> Report {
    run(
        generation,
        answers,
        configure,
        |machine, process, [area, _]| {
            let thread = process.create(area).expect("a new area");
            let before = machine.counts();
            let report = process.report(area);
            let text = report.to_string();
            assert_eq!(machine.counts(), before, "a report makes no call");
            assert_eq!(
                (report.owner, report.reason),
                (process.owner(), process.reason())
            );
            assert_eq!(report.length, process.length());
            assert_eq!(report.feature_size, process.feature_size());
            assert_eq!((report.state, report.errno), (area.state(), area.errno()));
            assert_eq!(text.lines().count(), 5, "{text}");
            assert!(text.len() < 1024, "{text}");
            let _kept = thread.on_exit(ExitMode::Keep);
            report
        },
    )
}

#[test]
fn each_owner() {
    let plain = as_is;
    let report = created(LINUX_6_3, PLAIN, plain);
    assert_eq!(
        report.to_string(),
        "owner: this runtime\n\
         registration: length 32, feature size 28 (cpu, node, concurrency id), legacy behaviour\n\
         thread: registered by this runtime\n\
         sections: off, not asked for; call allow_sections\n\
         slice extension: off, not asked for; ask for it at init\n"
    );
    let report = created(LINUX_6_3, Answers::with_foreign(Foreign::Visible), plain);
    assert_eq!(
        report.to_string(),
        "owner: libc\n\
         registration: feature size 28 (cpu, node, concurrency id), legacy behaviour\n\
         thread: registered by the libc\n\
         sections: off, not asked for; call allow_sections\n\
         slice extension: off, not asked for; the libc owns: GLIBC_TUNABLES=glibc.pthread.rseq=0\n"
    );
    run(
        LINUX_6_3,
        Answers::with_foreign(Foreign::Visible),
        plain,
        |_, process, [area, _]| {
            let text = process.report(area).to_string();
            let expected = "\nthread: no hook has run here, and the libc registers its threads itself; nothing to do\n";
            assert!(text.contains(expected), "{text}");
        },
    );
    let unseen = |config: Config| config.claim(rseq_rt::Claim::Libc);
    let report = created(LINUX_6_3, Answers::with_foreign(Foreign::Hidden), unseen);
    assert_eq!(
        report.to_string(),
        "owner: libc, which does not show its area\n\
         registration: none to be seen\n\
         thread: without rseq, taken; another area of the thread is registered: look at LD_PRELOAD\n\
         sections: off, not asked for; call allow_sections\n\
         slice extension: off, not asked for; the libc owns: GLIBC_TUNABLES=glibc.pthread.rseq=0\n"
    );
    let report = created(LINUX_6_3, PLAIN, Config::disabled);
    assert_eq!(
        (report.owner, report.reason),
        (Some(Owner::Nobody), Some(Reason::Disabled))
    );
    assert!(report.to_string().starts_with("owner: nobody, disabled\n"));
    assert!(report.to_string().contains(
        "\nthread: without rseq, disabled; switched off: take that out of the configuration\n"
    ));
}

#[test]
fn each_reason_with_its_errno() {
    let refusing = |errno| Answers::refusing(Call::Rseq, 1, errno);
    let busy = Filter {
        call: Call::Rseq,
        from: 1,
        answer: Answer::Refuse(Errno::BUSY),
    };
    #[rustfmt::skip] // a table
    let rows = [
        (refusing(Errno::NOSYS), Reason::NoSyscall, "no such syscall, errno 38", Remedy::KernelOrFilter),
        (refusing(Errno::PERM), Reason::Filtered, "filtered, errno 1", Remedy::AllowSyscall),
        (refusing(Errno::ACCES), Reason::Filtered, "filtered, errno 13", Remedy::AllowSyscall),
        (refusing(Errno::FAULT), Reason::BadMemory, "bad memory, errno 14", Remedy::WritableArea),
        (Answers::with_foreign(Foreign::Hidden), Reason::Taken, "taken, errno 22", Remedy::FindOther),
        (Answers::pretending(1), Reason::Pretended, "pretended", Remedy::AllowSyscall),
        (Answers { filter: Some(busy), ..PLAIN }, Reason::Refused, "refused, errno 16", Remedy::Unknown),
    ];
    for (answers, reason, text, remedy) in rows {
        let report = created(LINUX_7_1, answers, as_is);
        assert_eq!(report.state, State::Unavailable(reason));
        let line = format!("\nthread: without rseq, {text}; {}\n", remedy.as_str());
        assert!(report.to_string().contains(&line), "{report}");
        assert_eq!(report.thread_remedy(), Some(remedy));
        // That kernel has no rseq at all; any other refusal concerns only this thread.
        let owner = (reason == Reason::NoSyscall).then_some(Owner::Nobody);
        assert_eq!((report.owner, report.behaviour), (owner, None));
        let first = match owner {
            Some(_) => "owner: nobody, no such syscall\nregistration: none to be seen\n",
            None => {
                "owner: undecided, no registration has succeeded\nregistration: none to be seen\n"
            }
        };
        assert!(report.to_string().starts_with(first), "{report}");
    }
}

#[test]
fn each_behaviour() {
    let plain: fn(Config) -> Config = as_is;
    #[rustfmt::skip] // a table
    let rows = [
        (LINUX_4_18, plain, Behaviour::Legacy, "20 (cpu)"),
        (LINUX_6_3, plain, Behaviour::Legacy, "28 (cpu, node, concurrency id)"),
        (LINUX_7_0, plain, Behaviour::Linux7, "33 (cpu, node, concurrency id)"),
        (LINUX_7_1, plain, Behaviour::Linux7, "33 (cpu, node, concurrency id)"),
        (LINUX_7_1, Config::legacy_length, Behaviour::Legacy, "32 (cpu, node, concurrency id)"),
        (LATER_48, plain, Behaviour::Linux7, "48 (cpu, node, concurrency id)"),
        // Does not fit an area: the legacy length.
        (LATER_200, plain, Behaviour::Legacy, "32 (cpu, node, concurrency id)"),
    ];
    for (generation, configure, behaviour, fields) in rows {
        let report = created(generation, PLAIN, configure);
        assert_eq!(report.behaviour, Some(behaviour), "{}", generation.name);
        let line = format!("feature size {fields}, ");
        assert!(report.to_string().contains(&line), "{report}");
    }
}

#[test]
fn each_slice_answer() {
    let wish: fn(Config) -> Config = Config::slice_extension;
    let legacy: fn(Config) -> Config = |config| config.slice_extension().legacy_length();
    let libc = Answers::with_foreign(Foreign::Visible);
    let refused = Answers::refusing(Call::Rseq, 1, Errno::PERM);
    let mut old = LINUX_7_1;
    old.has_slice = false;
    #[rustfmt::skip] // a table
    let rows = [
        (LINUX_7_1, PLAIN, wish, SliceAnswer::On, None),
        (LINUX_7_1, PLAIN, as_is, SliceAnswer::NotAsked, Some(Remedy::AskForSlice)),
        (LINUX_7_1, libc, wish, SliceAnswer::NotRegistered, Some(Remedy::LibcOff)),
        (LINUX_7_1, refused, wish, SliceAnswer::NotRegistered, Some(Remedy::AllowSyscall)),
        (LINUX_6_3, PLAIN, wish, SliceAnswer::TooShort, Some(Remedy::LongerRegistration)),
        (LINUX_7_1, PLAIN, legacy, SliceAnswer::TooShort, Some(Remedy::LongerRegistration)),
        (old, PLAIN, wish, SliceAnswer::Refused, Some(Remedy::SliceKernel)),
    ];
    for (generation, answers, configure, expected, remedy) in rows {
        let report = created(generation, answers, configure);
        assert_eq!(report.slice, expected, "{} {answers:?}", generation.name);
        assert_eq!(report.slice_remedy(), remedy, "{report}");
    }
}

#[test]
fn every_station_of_a_life() {
    let process = Process::new();
    let report = process.report(&Area::new());
    assert_eq!((report.is_initialized, report.owner), (false, None));
    assert_eq!(report.thread_remedy(), Some(Remedy::Initialize));
    assert_eq!(report.section_remedy(), Some(Remedy::AllowSections));
    assert!(
        report
            .to_string()
            .starts_with("owner: undecided, not initialized\n")
    );
    run(
        LINUX_7_1,
        PLAIN,
        Config::slice_extension,
        |_, process, [area, _]| {
            let thread_is = |expected: &str| {
                let text = process.report(area).to_string();
                let line = text.lines().nth(2).expect("five lines").to_owned();
                assert_eq!(line, format!("thread: {expected}"));
            };
            thread_is("unregistered, nobody has tried; call the create hook");
            let thread = process.create(area).expect("a new area");
            thread_is("registered by this runtime");
            let lent = thread.lend();
            thread_is("lent to a vfork child; nothing to do");
            assert_eq!(process.report(area).slice, SliceAnswer::NotRegistered);
            lent.end();
            let sections = process.allow_sections();
            let report = process.report(area);
            assert_eq!(
                (report.sections, report.vouched_by),
                (sections, VouchedBy::Name)
            );
            let by_name = report.to_string().contains(", by the kernel's name");
            assert!(by_name, "{report}");
            let allowed = report.to_string().contains("\nsections: allowed, ");
            assert_eq!(allowed, sections == SectionSupport::Allowed);
            assert_eq!(report.section_remedy().is_none(), allowed);
            let _kept = thread.on_exit(ExitMode::Keep);
            thread_is("exiting; nothing to do");
        },
    );
}

/// Each level of section support, as a value: no kernel of the fake has them all.
#[test]
fn each_answer_about_sections() {
    let mut report = created(LINUX_7_1, PLAIN, as_is);
    for (sections, remedy) in [
        (SectionSupport::Allowed, None),
        (SectionSupport::NotAsked, Some(Remedy::AllowSections)),
        (SectionSupport::KnownBad, Some(Remedy::KernelOrProbe)),
        (SectionSupport::Unknown, Some(Remedy::KernelOrProbe)),
        (SectionSupport::NotAborted, Some(Remedy::OtherKernel)),
    ] {
        report.sections = sections;
        assert_eq!(report.section_remedy(), remedy);
        let text = remedy.map_or(String::new(), |remedy| format!("; {}", remedy.as_str()));
        let line = report.to_string().lines().nth(3).map(str::to_owned);
        assert!(line.is_some_and(|line| line.ends_with(&text)), "{report}");
    }
}

/// The start of the text, for any size of the buffer, and the length of the whole.
#[test]
fn a_text_is_cut_where_its_buffer_ends() {
    let report = created(LINUX_7_1, PLAIN, as_is);
    let whole = report.to_string();
    for size in 0..whole.len() + 3 {
        let mut buffer = vec![b'#'; size];
        assert_eq!(report.write_to(&mut buffer), whole.len());
        let (text, rest) = buffer.split_at(size.min(whole.len()));
        assert_eq!(text, &whole.as_bytes()[..text.len()]);
        assert!(rest.iter().all(|&byte| byte == b'#'));
    }
}
