//! A short list that costs no memory of its own while it holds one element: what travels in one request, which
//! is mostly a single delivery and sometimes a batch of them.

use smallvec::SmallVec;

/// One, mostly; several in a batch.
pub type Several<T> = SmallVec<[T; 1]>;
