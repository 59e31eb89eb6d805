//! Threads on CPUs, one step at a time: every order of their steps that departs from the plain one a few times.
//!
//! Each actor is a real thread, and only one runs at a time. At each step the plan chooses the next actor, and an
//! optional event; the first plan lets every actor run through, and [`explore`] goes through all others. A switch to an
//! actor on the same CPU aborts the section of the previous one, as in the kernel; one on another CPU runs
//! concurrently.

use std::sync::{Condvar, Mutex, MutexGuard};

/// Maximum number of actors.
pub const ACTORS: usize = 3;
pub const CPUS: usize = 2;

/// The events that a plan may choose at a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The number of departures from the plain order in one run.
    pub departures: usize,
    /// The section may be aborted as if by a signal whose handler does nothing.
    pub aborts: bool,
    /// The actor may be moved to the next CPU.
    pub moves: bool,
    /// A handler may run, once for each actor.
    pub handlers: bool,
}

/// All events, with that many departures per run.
pub fn weather(departures: usize) -> Weather {
    Weather {
        // Miri is a thousand times slower: it only varies which actor goes next when one has ended.
        departures: if cfg!(miri) { 0 } else { departures },
        aborts: true,
        moves: true,
        handlers: true,
    }
}

/// Only switches, with that many departures per run.
pub fn switches(departures: usize) -> Weather {
    Weather {
        // Miri is a thousand times slower: it only varies which actor goes next when one has ended.
        departures: if cfg!(miri) { 0 } else { departures },
        ..Weather::default()
    }
}

/// An event at a step of the actor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Nothing,
    Handler,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    GoOn,
    Switch(usize),
    Abort,
    Move,
    Handler,
}

#[derive(Debug, Default)]
struct Actor {
    alive: bool,
    cpu: usize,
    /// `Some` in a section: whether that was aborted.
    section: Option<bool>,
    handled: bool,
}

#[derive(Debug)]
struct State {
    actors: [Actor; ACTORS],
    turn: usize,
    plan: Vec<usize>,
    /// Each choice, and its number of options.
    taken: Vec<(usize, usize)>,
    departures: usize,
}

#[derive(Debug)]
pub struct World {
    state: Mutex<State>,
    turns: Condvar,
    weather: Weather,
    fences: bool,
}

impl World {
    fn new(plan: Vec<usize>, weather: Weather, cpus: &[usize], fences: bool) -> Self {
        let mut actors: [Actor; ACTORS] = Default::default();
        for (actor, &cpu) in actors.iter_mut().zip(cpus) {
            actor.alive = true;
            actor.cpu = cpu;
        }
        Self {
            state: Mutex::new(State {
                actors,
                turn: 0,
                plan,
                taken: Vec::new(),
                departures: weather.departures,
            }),
            turns: Condvar::new(),
            weather,
            fences,
        }
    }

    fn wait(&self, me: usize) -> MutexGuard<'_, State> {
        let state = self.state.lock().expect("no panic inside");
        self.turns
            .wait_while(state, |state| state.turn != me)
            .expect("no panic inside")
    }

    /// Chooses the next entry of the plan among the options.
    fn choose(state: &mut State, options: &[Choice]) -> Choice {
        let at = state.taken.len();
        let choice = state.plan.get(at).copied().unwrap_or(0);
        state.taken.push((choice, options.len()));
        options[choice]
    }

    fn switch(state: &mut State, to: usize) {
        let cpu = state.actors[to].cpu;
        for (other, actor) in state.actors.iter_mut().enumerate() {
            if other != to && actor.cpu == cpu {
                actor.section = actor.section.map(|_| true);
            }
        }
        state.turn = to;
    }

    /// A point between two steps of actor `me`.
    pub fn step(&self, me: usize) -> Event {
        let mut state = self.wait(me);
        if state.departures == 0 {
            return Event::Nothing;
        }
        let mut options = vec![Choice::GoOn];
        let others = (0..ACTORS).filter(|&other| other != me && state.actors[other].alive);
        options.extend(others.map(Choice::Switch));
        let in_section = state.actors[me].section == Some(false);
        if self.weather.aborts && in_section {
            options.push(Choice::Abort);
        }
        if self.weather.moves {
            options.push(Choice::Move);
        }
        if self.weather.handlers && !state.actors[me].handled {
            options.push(Choice::Handler);
        }
        let choice = Self::choose(&mut state, &options);
        if choice != Choice::GoOn {
            state.departures -= 1;
        }
        match choice {
            Choice::GoOn => {}
            Choice::Switch(to) => {
                Self::switch(&mut state, to);
                self.turns.notify_all();
                drop(state);
                drop(self.wait(me));
            }
            Choice::Abort => state.actors[me].section = Some(true),
            Choice::Move => {
                let actor = &mut state.actors[me];
                actor.section = actor.section.map(|_| true);
                actor.cpu = (actor.cpu + 1) % CPUS;
                Self::switch(&mut state, me);
            }
            Choice::Handler => {
                let actor = &mut state.actors[me];
                actor.handled = true;
                actor.section = actor.section.map(|_| true);
                return Event::Handler;
            }
        }
        Event::Nothing
    }

    pub fn cpu(&self, me: usize) -> usize {
        self.wait(me).actors[me].cpu
    }

    /// Actor `me` enters a section. A handler's section replaces the one it aborted.
    pub fn enter(&self, me: usize) {
        self.wait(me).actors[me].section = Some(false);
    }

    /// Whether the section of actor `me` is still good; ends it if not.
    pub fn goes_on(&self, me: usize) -> bool {
        let mut state = self.wait(me);
        let good = state.actors[me].section == Some(false);
        if !good {
            state.actors[me].section = None;
        }
        good
    }

    /// The section of actor `me` has committed, or missed.
    pub fn leave(&self, me: usize) {
        self.wait(me).actors[me].section = None;
    }

    /// The fence, on one CPU or on all.
    pub fn fence(&self, me: usize, cpu: Option<usize>) {
        let mut state = self.wait(me);
        if !self.fences {
            return;
        }
        for (other, actor) in state.actors.iter_mut().enumerate() {
            if other != me && cpu.is_none_or(|cpu| actor.cpu == cpu) {
                actor.section = actor.section.map(|_| true);
            }
        }
    }

    fn end(&self, me: usize) {
        let mut state = self.wait(me);
        state.actors[me].alive = false;
        let left: Vec<_> = (0..ACTORS)
            .filter(|&other| state.actors[other].alive)
            .map(Choice::Switch)
            .collect();
        if left.is_empty() {
            return;
        }
        if let Choice::Switch(to) = Self::choose(&mut state, &left) {
            Self::switch(&mut state, to);
        }
        self.turns.notify_all();
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic inside")
}

/// Fewer plans than this are a mistake in the test.
pub const FEW: usize = if cfg!(miri) { 0 } else { 10 };

/// Goes through all plans; `run` builds its things, gives what each actor does to the function it is handed, and
/// says if the outcome is right. How many plans there were, and the first whose outcome was wrong.
pub fn explore(
    weather: Weather,
    cpus: &[usize],
    fences: bool,
    mut run: impl FnMut(&World, &dyn Fn(&(dyn Fn(usize) + Sync))) -> bool,
) -> (usize, Option<Vec<usize>>) {
    let mut plan = Vec::new();
    for plans in 1.. {
        let world = World::new(plan, weather, cpus, fences);
        let right = run(&world, &|actor| {
            std::thread::scope(|scope| {
                for me in 0..cpus.len() {
                    let world = &world;
                    scope.spawn(move || {
                        drop(world.wait(me));
                        actor(me);
                        world.end(me);
                    });
                }
            });
        });
        let state = world.state.into_inner().expect("no panic inside");
        let mut taken = state.taken;
        if !right {
            return (
                plans,
                Some(taken.into_iter().map(|(choice, _)| choice).collect()),
            );
        }
        // The next plan: the last choice with another option takes it.
        loop {
            match taken.pop() {
                None => return (plans, None),
                Some((choice, of)) if choice + 1 < of => {
                    plan = taken.iter().map(|&(choice, _)| choice).collect();
                    plan.push(choice + 1);
                    break;
                }
                Some(_) => {}
            }
        }
    }
    unreachable!("the range has no end")
}
