//! One of several tokens (D3). Pure but for the place in the list, which all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Pass, sensitive};
use crate::domain::endpoint::{Rotate, RotatingPolicy};

/// The tokens, and which one is in use. Starts at the first with each start of the daemon and each reload.
#[derive(Debug)]
pub struct Ring {
    passes: Vec<Arc<Pass>>,
    rotate: Rotate,
    place: AtomicUsize,
}

impl Ring {
    /// The tokens of `policy`.
    ///
    /// # Errors
    /// One sentence: there is none, or one can't be put into a header.
    pub fn new(policy: &RotatingPolicy) -> Result<Self, String> {
        let passes = policy.values.iter().enumerate().map(|(serial, token)| {
            let mut pass = Pass::header(&policy.header, token.value.expose())?;
            if let Some(name) = &policy.version_header {
                pass.headers
                    .push((name.clone(), sensitive(name, &token.version)?));
            }
            Ok(Arc::new(Pass { serial, ..pass }))
        });
        let passes: Vec<_> = passes.collect::<Result<_, String>>()?;
        if passes.is_empty() {
            return Err("auth: values lists no token".to_owned());
        }
        Ok(Self {
            passes,
            rotate: policy.rotate,
            place: AtomicUsize::new(0),
        })
    }

    fn at(&self, place: usize) -> Arc<Pass> {
        Arc::clone(&self.passes[place % self.passes.len()])
    }

    /// The token for the next request.
    pub fn pass(&self) -> Arc<Pass> {
        match self.rotate {
            Rotate::OnRefusal => self.preview(),
            Rotate::EachRequest => self.at(self.place.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The token in use.
    pub fn preview(&self) -> Arc<Pass> {
        self.at(self.place.load(Ordering::Relaxed))
    }

    /// The token to try after `refused`, the last of `refusals`; `None` once each has been refused. Requests
    /// that are refused side by side move the list on by one, not by one each.
    pub fn after(&self, refused: usize, refusals: usize) -> Option<Arc<Pass>> {
        if refusals >= self.passes.len() {
            return None;
        }
        let next = (refused + 1) % self.passes.len();
        match self.rotate {
            Rotate::EachRequest => Some(self.at(next)),
            Rotate::OnRefusal => {
                let moved = self
                    .place
                    .compare_exchange(refused, next, Ordering::Relaxed, Ordering::Relaxed);
                Some(self.at(moved.map_or_else(|place| place, |_| next)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::endpoint::RotatingValue;
    use crate::domain::secret::Secret;

    fn ring(rotate: Rotate) -> Ring {
        let value = |text: &&str| RotatingValue {
            value: Secret::new(text),
            version: text.trim_start_matches('t').into(),
        };
        Ring::new(&RotatingPolicy {
            header: http::HeaderName::from_static("x-auth-token"),
            values: ["t1", "t2", "t3"].iter().map(value).collect(),
            version_header: Some(http::HeaderName::from_static("x-auth-version")),
            rotate,
        })
        .unwrap()
    }

    fn token(pass: &Pass) -> String {
        let text = |index: usize| pass.headers[index].1.to_str().unwrap();
        format!("{} v{}", text(0), text(1))
    }

    /// D3: the next token after a refusal, and it stays in use; each is tried once in a try.
    #[test]
    fn d3_rotation_on_refusal() {
        let ring = ring(Rotate::OnRefusal);
        let first = ring.pass();
        assert_eq!(token(&first), "t1 v1");
        let other = ring.pass();
        assert_eq!(token(&ring.after(first.serial, 1).unwrap()), "t2 v2");
        assert_eq!(
            token(&ring.after(other.serial, 1).unwrap()),
            "t2 v2",
            "moved on once"
        );
        assert_eq!(token(&ring.pass()), "t2 v2");
        assert_eq!(token(&ring.after(1, 2).unwrap()), "t3 v3");
        assert!(ring.after(2, 3).is_none());
        assert_eq!(token(&ring.pass()), "t3 v3");
        assert_eq!(token(&ring.after(2, 1).unwrap()), "t1 v1", "round again");
    }

    /// D3: every request its own.
    #[test]
    fn d3_rotation_with_each_request() {
        let ring = ring(Rotate::EachRequest);
        let tokens: Vec<_> = (0..4).map(|_| token(&ring.pass())).collect();
        assert_eq!(tokens, ["t1 v1", "t2 v2", "t3 v3", "t1 v1"]);
        assert_eq!(token(&ring.after(2, 1).unwrap()), "t1 v1");
    }
}
