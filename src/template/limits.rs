//! Every bound on what a template or an expression may cost, in one place. The engine's fuel counts instructions,
//! not bytes, so memory has bounds of its own.

/// Longest source of a template, in bytes. The engine counts lines and columns in 16 bits, so it stays below 65,536.
pub(super) const SOURCE_BYTES_MAX: usize = 65_000;

/// Longest source of an expression, in bytes.
pub(super) const EXPRESSION_BYTES_MAX: usize = 8_000;

/// Names, operators and brackets within one tag or expression: they nest without a bound in the engine's parser.
pub(super) const TAG_TOKENS_MAX: usize = 600;

/// `elif` branches in one template: each nests in the one before it.
pub(super) const ELIF_MAX: usize = 64;

/// Loops within each other.
pub(super) const LOOP_DEPTH_MAX: usize = 3;

/// `~` and `+` in one template. Each may copy the longest string in reach.
pub(super) const CONCATENATIONS_MAX: usize = 64;

/// Bytes that all the `~` and `+` of one template may copy together, when each copies the whole event.
pub(super) const CONCATENATED_BYTES_MAX: usize = 256 << 20;

/// Instructions of one rendering.
pub(super) const FUEL: u64 = 500_000;

/// Instructions times bytes of the event: one instruction may look at the whole event (`x in data.list`), so a large
/// event gets fewer.
pub(super) const FUEL_BYTES: u64 = 8 << 30;

/// Bytes that filters, tests and methods may read and write together in one rendering.
pub(super) const WORK_BYTES_MAX: usize = 64 << 20;

/// Longest string that a filter may make out of a shorter one, in bytes.
pub(super) const GROWN_BYTES_MAX: usize = 4 << 20;

/// Longest rendered body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;

/// Longest rendered URL or header value, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 16 << 10;

/// How deep a value may nest to be printed.
pub(super) const VALUE_DEPTH_MAX: usize = 128;

/// Fuel for an event of `bytes`.
pub(super) fn fuel(bytes: usize) -> u64 {
    FUEL.min(FUEL_BYTES / (bytes as u64).max(1)).max(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C4: the larger the event, the fewer instructions, and never none.
    #[test]
    fn c4_large_events_get_less_fuel() {
        for (bytes, expected) in [
            (0, FUEL),
            (16 << 10, FUEL),
            (64 << 10, 131_072),
            (1 << 20, 8_192),
            (8 << 20, 1_024),
            (64 << 20, 1_000),
            (usize::MAX, 1_000),
        ] {
            assert_eq!(fuel(bytes), expected, "{bytes}");
        }
    }
}
