//! `events::sections` of the example, with its lines in the same order.

use super::ABORTS;
use super::check::{Check, End, Stops};

/// Words of a log; an event's head takes two.
const ROOM: usize = 6;
const CPUS: usize = 2;

#[derive(Clone)]
struct Log {
    length: usize,
    words: [usize; ROOM],
}

type Logs = [Log; CPUS];

fn logs(length: usize) -> Logs {
    let log = |cpu| Log {
        length,
        words: std::array::from_fn(|nth| 100 * cpu + nth),
    };
    std::array::from_fn(log)
}

fn view(logs: &Logs) -> Vec<Vec<usize>> {
    let words = |log: &Log| log.words[..log.length].to_vec();
    logs.iter().map(words).collect()
}

fn append(
    log: &mut Log,
    head: [usize; 2],
    payload: &[usize],
    stops: &mut Stops,
) -> Result<(), End> {
    stops.here()?;
    let to = log.length;
    let length = to + head.len() + payload.len();
    if length > ROOM {
        return Err(End::Differs);
    }
    stops.here()?;
    log.words[to] = head[0];
    stops.here()?;
    log.words[to + 1] = head[1];
    for i in (0..payload.len()).rev() {
        stops.here()?;
        log.words[to + 2 + i] = payload[i];
    }
    stops.here()?;
    log.length = length;
    Ok(())
}

fn take(log: &mut Log, to: &mut [usize; ROOM], stops: &mut Stops) -> Result<usize, End> {
    stops.here()?;
    let length = log.length;
    if length == 0 {
        return Err(End::Differs);
    }
    for i in (0..length).rev() {
        stops.here()?;
        to[i] = log.words[i];
    }
    stops.here()?;
    log.length = 0;
    Ok(length)
}

fn others_append(logs: &mut Logs, cpu: usize) {
    let _ = append(&mut logs[cpu], [81, 82], &[], &mut Stops::none());
}

fn others_take(logs: &mut Logs, cpu: usize) {
    let _ = take(&mut logs[cpu], &mut [0; ROOM], &mut Stops::none());
}

fn check<A: PartialEq + std::fmt::Debug>(
    section: &dyn Fn(&mut Logs, usize, &mut Stops) -> Result<A, End>,
) -> Result<usize, String> {
    let check = Check {
        cpus: CPUS,
        section,
        view: &view,
        actions: &[&others_append, &others_take],
    };
    [0, 2, 3, ROOM]
        .into_iter()
        .map(|length| check.run(&logs(length), ABORTS))
        .sum()
}

#[test]
fn an_append_that_is_aborted_leaves_no_trace() {
    let runs = check(&|logs, cpu, stops| append(&mut logs[cpu], [1, 2], &[3], stops));
    assert!(runs.unwrap() > 100);
}

#[test]
fn a_take_that_is_aborted_leaves_no_trace() {
    let runs = check(&|logs, cpu, stops| {
        let mut to = [0; ROOM];
        let length = take(&mut logs[cpu], &mut to, stops)?;
        Ok(to[..length].to_vec())
    });
    assert!(runs.unwrap() > 100);
}

#[test]
fn a_log_that_is_emptied_before_it_is_copied_is_found() {
    let broken = |logs: &mut Logs, cpu: usize, stops: &mut Stops| {
        let length = std::mem::take(&mut logs[cpu].length);
        stops.here()?;
        Ok(logs[cpu].words[..length].to_vec())
    };
    let found = check(&broken).unwrap_err();
    assert!(found.contains("aborted at stop 0"), "{found}");
}

#[test]
fn a_length_that_is_added_to_twice_is_found() {
    let broken = |logs: &mut Logs, cpu: usize, stops: &mut Stops| {
        let log = &mut logs[cpu];
        if log.length + 2 > ROOM {
            return Err(End::Differs);
        }
        log.length += 1;
        stops.here()?;
        log.length += 1;
        Ok(())
    };
    assert!(check(&broken).is_err());
}
