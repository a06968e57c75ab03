//! What a crash, a failing disk and a damaged store leave behind, tried on the built daemon. The rules are those
//! of docs/STATES.md. Named points are only in debug builds, or with the feature `crash-points`; what needs them is
//! left out elsewhere. A run that fails prints its seed: `POSTHASTE_SEED=… cargo test --test crash`.

#![allow(clippy::expect_used, clippy::panic, reason = "a helper of a test may fail it")]

mod daemon;
mod damage;
#[path = "../support/dice.rs"]
mod dice;
#[cfg(any(feature = "crash-points", debug_assertions))]
mod failing;
mod kills;
mod ledger;
mod load;
#[cfg(any(feature = "crash-points", debug_assertions))]
mod points;
mod producers;
#[cfg(any(feature = "crash-points", debug_assertions))]
mod upkeep;
#[cfg(any(feature = "crash-points", debug_assertions))]
mod verbs;
