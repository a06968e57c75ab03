//! How a verb can end, and the exit code of each end.

use std::process::ExitCode;

/// Why a verb did not do what was asked. The text is for people and says how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The thing asked about is wrong or not there: 1.
    #[error("{0}")]
    Wrong(String),
    /// The question is wrong: 2.
    #[error("{0}")]
    Usage(String),
    /// The daemon can't be reached: 3.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever reads our output has had enough (`| head`): 0, and nothing is said.
    #[error("the output is closed")]
    OutputClosed,
}

/// What a verb returns.
pub type Done = Result<(), Failure>;

/// Tells on standard error what went wrong, and gives the exit code.
#[must_use]
pub fn exit_code(done: Done) -> ExitCode {
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    if failure != Failure::OutputClosed {
        eprintln!("posthaste: {failure}");
    }
    ExitCode::from(code(&failure))
}

fn code(failure: &Failure) -> u8 {
    match failure {
        Failure::OutputClosed => 0,
        Failure::Wrong(_) => 1,
        Failure::Usage(_) => 2,
        Failure::Unreachable(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        for (failure, expected) in [
            (Failure::OutputClosed, 0),
            (Failure::Wrong(String::new()), 1),
            (Failure::Usage(String::new()), 2),
            (Failure::Unreachable(String::new()), 3),
        ] {
            assert_eq!(code(&failure), expected, "{failure:?}");
        }
    }
}
