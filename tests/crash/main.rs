//! What a crash, a failing disk and a damaged store leave behind, tried on the built daemon. The rules are those
//! of docs/STATES.md. A run that fails prints its seed: `POSTHASTE_SEED=… cargo test --test crash`.

#![allow(clippy::expect_used, clippy::panic, reason = "a helper of a test may fail it")]

mod daemon;
mod damage;
#[path = "../support/dice.rs"]
mod dice;
mod failing;
mod kills;
mod ledger;
mod load;
mod points;
mod producers;
mod upkeep;
mod verbs;
