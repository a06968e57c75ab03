//! The contract of [`Store`], as one suite that every backend passes. It knows no backend but by its
//! [`Harness`], and asks for nothing that the trait's documentation does not promise.
//!
//! Every check runs twice: on a store that stays open, and on one that is ended and opened again after
//! every single write, in turn closed properly and dropped as if the process had died. After each write
//! the numbers of [`Store::lanes`] are held against what can be listed, and after each reopening
//! everything listed before must be there again.

mod accept;
mod attempts;
mod dead;
mod due;
mod lanes;
mod random;
mod rig;
mod settle;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use self::rig::Rig;
use tempfile::TempDir;

use super::Store;
use super::memory::MemoryStore;
use super::sled::{OpenOptions, SledStore};
use crate::config::{FreeMin, StoreConfig};
use crate::domain::outcome::Detail;

/// What a check may ask of a backend's configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How long (source, id) pairs are remembered.
    pub(super) dedup_window: Duration,
    /// At most so many of them.
    pub(super) dedup_ids_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dedup_window: Duration::from_secs(24 * 3600),
            dedup_ids_max: 1_000_000,
        }
    }
}

/// How a store's life ends before its data are opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// [`Store::close`] was called.
    Closed,
    /// It was dropped as it was.
    Dropped,
}

/// Data that outlive the stores opened over them, and the one store that is open.
pub(super) trait Harness {
    /// The store that is open. Its clones must be gone before the next [`Harness::reopen`].
    fn store(&self) -> Arc<dyn Store>;

    /// Ends the open store and opens a new one over the same data.
    fn reopen(&mut self, end: End);
}

/// Makes a harness over empty data, with a store open.
pub(super) type Factory = fn(Settings) -> Box<dyn Harness>;

/// Makes every check of the contract a test of its own, in a module named after the backend.
macro_rules! contract {
    ($backend:ident, $factory:expr) => {
        checks! { $backend, $factory;
            accept::a2_events_get_rising_places_and_are_kept_as_they_came,
            accept::a2_one_commit_may_accept_and_settle,
            accept::a2_an_empty_batch_is_no_error,
            accept::a2_an_event_stays_until_its_last_delivery_is_settled,
            accept::a2_places_are_never_used_twice,
            accept::a4_an_array_of_5000_events_is_accepted_whole,
            accept::a5_duplicates_are_told_wherever_they_stand,
            accept::a5_ids_are_forgotten_after_the_window,
            accept::a5_past_the_bound_the_oldest_ids_go_first,
            accept::a6_a_delayed_event_waits_for_its_time,
            accept::i5_bodies_of_1_mib_are_kept,
            accept::missing_events_are_told_from_kept_ones,
            due::fresh_deliveries_come_in_pages_in_order_of_acceptance,
            due::what_is_held_is_passed_over_and_not_counted,
            due::an_event_accepted_after_the_last_page_is_on_the_next,
            due::deferred_deliveries_come_in_order_of_due_time,
            due::held_deferred_deliveries_do_not_count_as_next,
            due::a_lane_shows_nothing_of_another,
            due::f7_what_was_tried_is_told_whatever_its_due_time,
            due::a6_many_far_future_events_cost_an_answer_nothing,
            settle::settled_deliveries_are_gone,
            settle::f1_a_deferral_is_kept_in_full_and_replaced_whole,
            settle::settling_what_is_not_owed_does_nothing,
            settle::a_settle_that_crosses_a_flush_still_counts,
            settle::a_backlog_settles_in_any_order,
            attempts::h1_tries_are_kept_in_full,
            attempts::h1_pages_go_on_where_the_last_one_ended,
            attempts::h1_every_filter_narrows,
            attempts::h1_old_tries_go,
            attempts::h1_long_texts_are_cut,
            dead::g1_evidence_is_kept_in_full,
            dead::g1_old_dead_letters_expire,
            dead::g2_pages_go_on_where_the_last_one_ended,
            dead::g2_every_filter_narrows,
            dead::g2_revived_deliveries_have_their_whole_budget,
            dead::g2_discarded_letters_are_gone,
            lanes::a_name_keeps_its_lane,
            lanes::b6_a_pause_stays_until_it_is_lifted,
            lanes::long_texts_are_cut,
            lanes::flush_makes_everything_deferred_due_now,
            lanes::a_flush_ends_while_its_deliveries_fail,
            lanes::reassign_takes_deferred_deliveries_last,
            lanes::reassign_moves_the_oldest_first_and_owes_nothing_twice,
            lanes::reassigned_deliveries_begin_anew,
            lanes::find_shows_every_delivery_an_event_still_has,
            lanes::maintenance_changes_nothing_that_is_owed,
        }
    };
}

macro_rules! checks {
    ($backend:ident, $factory:expr; $($group:ident::$check:ident,)*) => {
        mod $backend {
            $(
                #[test]
                fn $check() {
                    super::Rig::run($factory, super::$group::$check);
                }
            )*

            #[test]
            fn random_verbs_agree_with_the_model() {
                super::random::agrees_with_the_model($factory, super::random::cases()).unwrap();
            }
        }
    };
}

/// The store in memory; what is "on disk" is what [`MemoryStore::crash`] hands over.
struct MemoryHarness(Arc<MemoryStore>);

impl MemoryHarness {
    fn begin(settings: Settings) -> Box<dyn Harness> {
        Box::new(Self(Arc::new(MemoryStore::new(
            settings.dedup_window,
            settings.dedup_ids_max,
        ))))
    }
}

impl Harness for MemoryHarness {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }

    fn reopen(&mut self, end: End) {
        if end == End::Closed {
            self.0.close().unwrap();
        }
        self.0 = Arc::new(self.0.crash());
    }
}

/// The store on sled, in a folder of its own.
struct SledHarness {
    config: StoreConfig,
    store: Option<Arc<SledStore>>,
    _folder: TempDir,
}

impl SledHarness {
    fn begin(settings: Settings) -> Box<dyn Harness> {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            path: folder.path().join("store"),
            size_bytes_max: 1 << 40,
            free_min: FreeMin::Bytes(0),
            dedup_window: settings.dedup_window,
            dedup_ids_max: settings.dedup_ids_max,
            attempts_keep: Duration::from_secs(7 * 86_400),
            attempts_bytes_max: 1 << 30,
            attempts_detail: Detail::Failed,
            dead_keep: Duration::MAX,
        };
        let store = Some(Self::open(&config));
        Box::new(Self {
            config,
            store,
            _folder: folder,
        })
    }

    fn open(config: &StoreConfig) -> Arc<SledStore> {
        Arc::new(SledStore::open(config, OpenOptions::default()).unwrap())
    }
}

impl Harness for SledHarness {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().unwrap()) as Arc<dyn Store>
    }

    fn reopen(&mut self, end: End) {
        let store = self.store.take().unwrap();
        if end == End::Closed {
            store.close().unwrap();
        }
        assert!(Arc::into_inner(store).is_some(), "a check still holds the store");
        self.store = Some(Self::open(&self.config));
    }
}

// The backends. A new one needs its harness above and its line here.
contract!(memory, crate::store::suite::MemoryHarness::begin);
contract!(sled, crate::store::suite::SledHarness::begin);
