//! The life that is cut short: commits of every kind on the real store, each announced before it is made
//! and acknowledged after it has returned.

use std::sync::Arc;

use bytes::Bytes;
use posthaste::domain::delivery::DeadReason;
use posthaste::domain::event::{Event, EventHead, Seq};
use posthaste::domain::time::Timestamp;
use posthaste::store::{
    AcceptGroup, Accepted, Batch, DeadEvidence, DeadFilter, Deferral, DeliveryId, DueQuery, LaneId, NewEvent,
    Settle, SettleTo, Store,
};

use crate::dice::Dice;
use crate::expect::{Key, Note, State};
use crate::interpose;

/// The endpoints.
pub const LANES: [&str; 2] = ["one", "two"];
/// When everything happens.
pub const T0: Timestamp = Timestamp(1_800_000_000_000);
/// Deliveries kept pending, about.
const BACKLOG: usize = 400;

/// A delivery that is owed.
#[derive(Clone, Debug)]
struct Owed {
    key: Key,
    id: DeliveryId,
    was_due: Option<Timestamp>,
}

/// A producer and a dispatcher in one.
pub struct Load {
    store: Arc<dyn Store>,
    lanes: Vec<LaneId>,
    dice: Dice,
    owed: Vec<Owed>,
    dead: Vec<(Key, DeliveryId)>,
    round: u64,
    made: u64,
}

/// The event called `id`; every bit of it follows from the name.
pub fn event(id: &str) -> Event {
    let mut dice = Dice::new(u64::from(crc32fast::hash(id.as_bytes())));
    let length = match dice.below(100) {
        0 => 150_000 + dice.below(200_000),
        1..20 => 2000 + dice.below(6000),
        _ => 40 + dice.below(1200),
    };
    let json: Vec<u8> = (0..length.div_ceil(8))
        .flat_map(|_| dice.any().to_le_bytes())
        .collect();
    let head = EventHead::new(id, "/powercut", "powercut.made", T0);
    Event {
        head,
        json: Bytes::from(json),
    }
}

impl Load {
    /// Takes over what the store owes.
    pub fn new(store: Arc<dyn Store>, round: u64, seed: u64) -> Self {
        let lanes: Vec<LaneId> = LANES.iter().map(|name| store.lane(name).unwrap()).collect();
        let mut load = Self {
            store,
            lanes,
            dice: Dice::new(seed),
            owed: vec![],
            dead: vec![],
            round,
            made: 0,
        };
        for (name, lane) in LANES.iter().zip(load.lanes.clone()) {
            for due in due(&*load.store, lane) {
                let id = DeliveryId { lane, seq: due.seq };
                let key = (name.to_string(), id_of(&*load.store, due.seq));
                load.owed.push(Owed {
                    key,
                    id,
                    was_due: due.was_due,
                });
            }
        }
        for letter in load
            .store
            .dead(&DeadFilter::default(), None, usize::MAX)
            .unwrap()
            .letters
        {
            let name = LANES[load
                .lanes
                .iter()
                .position(|lane| *lane == letter.id.lane)
                .unwrap()];
            load.dead
                .push(((name.to_owned(), letter.evidence.event_id.to_string()), letter.id));
        }
        load
    }

    /// One verb that writes.
    pub fn step(&mut self) {
        match self.dice.below(30) {
            0 => _ = self.store.maintain(T0, Timestamp(0)).unwrap(),
            1 => self.revive(),
            2 => self.discard(),
            _ => self.commit(),
        }
    }

    fn commit(&mut self) {
        let groups: Vec<Vec<(String, Vec<usize>)>> = (0..self.dice.below(4)).map(|_| self.group()).collect();
        let settles = self.settles();
        let mut moves: Vec<(Key, State)> = settles
            .iter()
            .map(|(key, settle)| (key.clone(), state(settle)))
            .collect();
        let keys = |group: &Vec<(String, Vec<usize>)>| -> Vec<Key> {
            let each = group.iter().flat_map(|(id, lanes)| {
                lanes
                    .iter()
                    .map(move |lane| (LANES[*lane].to_owned(), id.clone()))
            });
            each.collect()
        };
        let group_keys: Vec<Vec<Key>> = groups.iter().map(keys).collect();
        moves.extend(group_keys.iter().flatten().map(|key| (key.clone(), State::Fresh)));
        let accepts = groups.iter().map(|group| self.accept_group(group)).collect();
        interpose::note(Note::Begin {
            moves,
            groups: group_keys,
        });
        let batch = Batch {
            accepts,
            settles: settles.iter().map(|(_, settle)| settle.clone()).collect(),
        };
        let committed = self.store.commit(batch, T0).unwrap();
        interpose::note(Note::Done);
        self.took_effect(settles);
        for (group, answers) in groups.iter().zip(committed.accepts) {
            for ((id, lanes), answer) in group.iter().zip(answers.unwrap()) {
                let Accepted::New(seq) = answer else {
                    panic!("{id} is new")
                };
                let owed = lanes.iter().map(|lane| Owed {
                    key: (LANES[*lane].to_owned(), id.clone()),
                    id: DeliveryId {
                        lane: self.lanes[*lane],
                        seq,
                    },
                    was_due: None,
                });
                self.owed.extend(owed);
            }
        }
    }

    /// Names of new events, each with the lanes it is owed to; now and then too many for one chunk.
    fn group(&mut self) -> Vec<(String, Vec<usize>)> {
        let count = if self.dice.one_in(25) {
            150
        } else {
            1 + self.dice.below(8)
        };
        let new = |_| {
            self.made += 1;
            let lanes = [vec![0], vec![1], vec![0, 1]][self.dice.below(3)].clone();
            (format!("{}-{}", self.round, self.made), lanes)
        };
        (0..count).map(new).collect()
    }

    fn accept_group(&self, group: &[(String, Vec<usize>)]) -> AcceptGroup {
        let new = |(id, lanes): &(String, Vec<usize>)| NewEvent {
            event: event(id),
            lanes: lanes.iter().map(|lane| self.lanes[*lane]).collect(),
        };
        AcceptGroup {
            events: group.iter().map(new).collect(),
        }
    }

    /// Moves of some of what is owed, more of them the longer the backlog is.
    fn settles(&mut self) -> Vec<(Key, Settle)> {
        let count = if self.owed.len() > BACKLOG {
            self.owed.len() / 4
        } else {
            self.dice.below(8)
        };
        let mut settles = Vec::new();
        for _ in 0..count.min(self.owed.len()) {
            let owed = self.owed.swap_remove(self.dice.below(self.owed.len()));
            let to = match self.dice.below(8) {
                0 => SettleTo::Later(deferral(T0.0 + self.dice.any() % 100_000)),
                1 => SettleTo::Dead(evidence(&owed.key.1)),
                _ => SettleTo::Settled,
            };
            settles.push((
                owed.key,
                Settle {
                    id: owed.id,
                    was_due: owed.was_due,
                    to,
                },
            ));
        }
        settles
    }

    fn took_effect(&mut self, settles: Vec<(Key, Settle)>) {
        for (key, settle) in settles {
            match settle.to {
                SettleTo::Settled => {}
                SettleTo::Later(later) => self.owed.push(Owed {
                    key,
                    id: settle.id,
                    was_due: Some(later.due),
                }),
                SettleTo::Dead(_) => self.dead.push((key, settle.id)),
            }
        }
    }

    fn revive(&mut self) {
        let some = self.some_dead();
        let state = State::Later { due: T0.0, tries: 0 };
        let moves = some.iter().map(|(key, _)| (key.clone(), state)).collect();
        interpose::note(Note::Begin {
            moves,
            groups: vec![],
        });
        let ids: Vec<_> = some.iter().map(|(_, id)| (*id, T0)).collect();
        self.store.revive(&ids).unwrap();
        interpose::note(Note::Done);
        self.owed.extend(some.into_iter().map(|(key, id)| Owed {
            key,
            id,
            was_due: Some(T0),
        }));
    }

    fn discard(&mut self) {
        let some = self.some_dead();
        let moves = some.iter().map(|(key, _)| (key.clone(), State::Absent)).collect();
        interpose::note(Note::Begin {
            moves,
            groups: vec![],
        });
        self.store
            .discard(&some.iter().map(|(_, id)| *id).collect::<Vec<_>>())
            .unwrap();
        interpose::note(Note::Done);
    }

    fn some_dead(&mut self) -> Vec<(Key, DeliveryId)> {
        let from = self.dead.len() - self.dice.below(self.dead.len() + 1);
        self.dead.split_off(from)
    }
}

/// Everything a lane owes.
pub fn due(store: &dyn Store, lane: LaneId) -> Vec<posthaste::store::Due> {
    let query = DueQuery {
        fresh_from: Seq(0),
        fresh_max: usize::MAX,
        now: Timestamp::MAX,
        deferred_max: usize::MAX,
        tried_max: 0,
        held: Default::default(),
    };
    let answer = store.due(lane, &query).unwrap();
    assert!(!answer.fresh_more);
    answer.fresh.into_iter().chain(answer.deferred).collect()
}

fn id_of(store: &dyn Store, seq: Seq) -> String {
    store.load(&[seq]).remove(0).unwrap().head.id.to_string()
}

fn state(settle: &Settle) -> State {
    match &settle.to {
        SettleTo::Settled => State::Absent,
        SettleTo::Later(later) => State::Later {
            due: later.due.0,
            tries: later.tries,
        },
        SettleTo::Dead(_) => State::Dead,
    }
}

fn deferral(due: u64) -> Deferral {
    Deferral {
        due: Timestamp(due),
        tries: 1,
        first_attempt: T0,
        last_attempt: T0,
        last_status: Some(503),
        last_class: None,
        last_message: "answered 503".into(),
    }
}

fn evidence(event_id: &str) -> Box<DeadEvidence> {
    Box::new(DeadEvidence {
        reason: DeadReason::MaxAttempts,
        since: T0,
        tries: 10,
        first_attempt: Some(T0),
        last: None,
        event_id: event_id.into(),
        event_source: "/powercut".into(),
        event_kind: "powercut.made".into(),
        accepted: T0,
    })
}
