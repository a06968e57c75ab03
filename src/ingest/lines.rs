//! Bytes to lines: a buffer that hands out complete lines and never grows past the longest line allowed.
//! Pure; it refuses to know what stands in a line.

use std::ops::Range;

use memchr::memchr;

/// Room for bytes a connection begins with; an idle producer costs no more.
const ROOM_FIRST: usize = 8 << 10;
/// Room a busy connection grows to: what one read takes at most. Only a longer line grows it further.
pub(super) const ROOM_BUSY: usize = 256 << 10;

/// Bounds on what one line of a producer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event, as it stands in its line.
    pub event_bytes_max: usize,
    /// Bytes of one line that holds an array.
    pub batch_bytes_max: usize,
}

impl Limits {
    /// The bound on a line by its first byte: `[` begins an array, and everything else (a blank too) is
    /// held to the bound of one event, so that the bound is known before the line has been read.
    fn of_line(&self, first: u8) -> usize {
        if first == b'[' {
            self.batch_bytes_max
        } else {
            self.event_bytes_max
        }
    }
}

/// A line that is not blank, with its number in this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered<'a> {
    /// From 1; blank lines count.
    pub number: u64,
    /// What was read.
    pub line: RawLine<'a>,
}

/// What was read of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawLine<'a> {
    /// Its bytes, without its end.
    Bytes(&'a [u8]),
    /// It was longer than its bound; its bytes were thrown away as they came.
    TooLong {
        /// The bound in bytes.
        bytes_max: usize,
    },
}

/// The bytes of one connection on their way to becoming lines.
#[derive(Debug)]
pub struct LineBuffer {
    limits: Limits,
    bytes: Vec<u8>,
    /// What stands before this offset has been handed out.
    start: usize,
    /// No line ends between `start` and this offset, so that nothing is searched twice.
    searched: usize,
    /// The bound that the line being thrown away has broken.
    skipping: Option<usize>,
    lines: u64,
    ended: bool,
}

impl LineBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            skipping: None,
            lines: 0,
            ended: false,
        }
    }

    /// Where the next read appends: a vector with spare capacity, of which a read must take no more than
    /// there is. To be asked for when [`LineBuffer::next_line`] has returned `None`, so that at most the
    /// beginning of one line is held.
    pub fn room(&mut self) -> &mut Vec<u8> {
        let was_full = self.bytes.len() == self.bytes.capacity();
        self.give_back();
        let held = self.bytes.len();
        let mut size = self.bytes.capacity().max(ROOM_FIRST);
        if was_full && (size < ROOM_BUSY || held >= ROOM_BUSY) {
            size = (size * 2).min(ROOM_BUSY.max(self.line_bytes_max()));
        }
        self.bytes.reserve_exact(size.max(held + 1) - held);
        &mut self.bytes
    }

    /// Lets go of the lines that were handed out, and of the room that only a long one needed.
    pub fn give_back(&mut self) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if !self.is_long() && self.bytes.capacity() > ROOM_BUSY {
            self.bytes.shrink_to(ROOM_BUSY);
        }
    }

    /// Whether the line being read has outgrown the room of a busy connection, so that
    /// [`LineBuffer::room`] may take more.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.bytes.len() - self.start >= ROOM_BUSY
    }

    /// The most a line within its bound can hold: the bound and `\r\n`.
    fn line_bytes_max(&self) -> usize {
        self.limits.batch_bytes_max.max(self.limits.event_bytes_max) + 2
    }

    /// Tells that no more bytes will come: what is held is the last line, though nothing ends it.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the end has been told.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next line that is not blank, or `None` when more bytes are needed (or, after the end, for ever).
    pub fn next_line(&mut self) -> Option<Numbered<'_>> {
        loop {
            let whole = self.next_range()?;
            self.lines += 1;
            let number = self.lines;
            if let Some(bytes_max) = self.skipping.take() {
                let line = RawLine::TooLong { bytes_max };
                return Some(Numbered { number, line });
            }
            let end = match self.bytes[whole.clone()] {
                [.., b'\r'] => whole.end - 1,
                _ => whole.end,
            };
            let range = whole.start..end;
            let Some(bytes_max) = self.bytes[range.clone()].first().map(|b| self.limits.of_line(*b)) else {
                continue;
            };
            if range.len() > bytes_max {
                let line = RawLine::TooLong { bytes_max };
                return Some(Numbered { number, line });
            }
            if !self.bytes[range.clone()].iter().all(u8::is_ascii_whitespace) {
                let line = RawLine::Bytes(&self.bytes[range]);
                return Some(Numbered { number, line });
            }
        }
    }

    /// The place of the next line that has ended, its `\n` left out; what is too long is thrown away.
    fn next_range(&mut self) -> Option<Range<usize>> {
        let start = self.start;
        if let Some(found) = memchr(b'\n', &self.bytes[self.searched..]) {
            let end = self.searched + found;
            self.start = end + 1;
            self.searched = self.start;
            return Some(start..end);
        }
        let end = self.bytes.len();
        self.searched = end;
        if self.ended {
            self.start = end;
            return (start < end || self.skipping.is_some()).then_some(start..end);
        }
        let bytes_max = self.bytes.get(start).map(|first| self.limits.of_line(*first));
        // One byte more than the bound may still be the `\r` of a line within it.
        let broken = bytes_max.filter(|max| end - start > max + 1);
        if self.skipping.is_some() || broken.is_some() {
            self.skipping = self.skipping.or(broken);
            self.start = end;
        }
        None
    }

    /// Bytes of memory taken up.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        event_bytes_max: 10,
        batch_bytes_max: 20,
    };

    /// A line as a test can keep it: its number, and its bytes or the bound it broke.
    type Seen = (u64, Result<Vec<u8>, usize>);

    fn drain(buffer: &mut LineBuffer, seen: &mut Vec<Seen>) {
        while let Some(Numbered { number, line }) = buffer.next_line() {
            seen.push((
                number,
                match line {
                    RawLine::Bytes(bytes) => Ok(bytes.to_vec()),
                    RawLine::TooLong { bytes_max } => Err(bytes_max),
                },
            ));
        }
    }

    /// Everything read of `bytes`, given to the buffer in pieces that end at `cuts`.
    fn read(bytes: &[u8], cuts: &[usize]) -> Vec<Seen> {
        let mut buffer = LineBuffer::new(LIMITS);
        let mut seen = Vec::new();
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let cut = cut.clamp(from, bytes.len());
            buffer.room().extend_from_slice(&bytes[from..cut]);
            from = cut;
            drain(&mut buffer, &mut seen);
        }
        buffer.end();
        drain(&mut buffer, &mut seen);
        seen
    }

    /// A1: `\n`, `\r\n`, a last line without an end, blank lines, and lines past their bound.
    #[test]
    fn a1_lines_end_as_the_contract_says() {
        let ok = |number, text: &str| (number, Ok(text.as_bytes().to_vec()));
        for (bytes, expected) in [
            ("", vec![]),
            ("a\nb\n", vec![ok(1, "a"), ok(2, "b")]),
            ("a\r\nb", vec![ok(1, "a"), ok(2, "b")]),
            ("\n \t\r\n\na\n", vec![ok(4, "a")]),
            ("a\r", vec![ok(1, "a")]),
            ("\r\n", vec![]),
            ("0123456789\r\n", vec![ok(1, "0123456789")]),
            ("0123456789a\nb\n", vec![(1, Err(10)), ok(2, "b")]),
            ("0123456789abcdefghijklmnopq", vec![(1, Err(10))]),
            ("[123456789abcdefghi\n", vec![ok(1, "[123456789abcdefghi")]),
            ("[123456789abcdefghijk\nb", vec![(1, Err(20)), ok(2, "b")]),
            ("            \nb", vec![(1, Err(10)), ok(2, "b")]),
        ] {
            assert_eq!(read(bytes.as_bytes(), &[]), expected, "{bytes:?} at once");
            let every: Vec<usize> = (0..bytes.len()).collect();
            assert_eq!(read(bytes.as_bytes(), &every), expected, "{bytes:?} byte by byte");
        }
    }

    /// I5: a line of 1 GB is read through in bounded memory, and what follows is read as ever.
    #[test]
    fn i5_a_line_of_a_gigabyte_takes_bounded_memory() {
        let limits = Limits {
            event_bytes_max: 1 << 20,
            batch_bytes_max: 4 << 20,
        };
        let mut buffer = LineBuffer::new(limits);
        let mut seen = Vec::new();
        let mut sent = 0;
        let piece = vec![b'x'; 1 << 20];
        buffer.room().push(b'[');
        while sent < 1 << 30 {
            let room = buffer.room();
            let spare = room.spare_capacity_mut().len().min(piece.len());
            room.extend_from_slice(&piece[..spare]);
            sent += spare;
            drain(&mut buffer, &mut seen);
            let bound = if buffer.is_long() {
                (4 << 20) + 2
            } else {
                ROOM_BUSY
            };
            let capacity = buffer.room().capacity();
            assert!(capacity <= bound, "{capacity} bytes held");
        }
        buffer.room().extend_from_slice(b"\nnext\n");
        drain(&mut buffer, &mut seen);
        assert_eq!(seen, [(1, Err(4 << 20)), (2, Ok(b"next".to_vec()))]);
        assert!(
            buffer.room().capacity() <= ROOM_BUSY,
            "the room of the long line is given back"
        );
    }

    #[test]
    fn a_busy_connection_gets_more_room_and_keeps_it_bounded() {
        let mut buffer = LineBuffer::new(LIMITS);
        let mut seen = Vec::new();
        for _ in 0..10 {
            let room = buffer.room();
            let spare = room.capacity() - room.len();
            room.extend(b"012345678\n".iter().cycle().take(spare));
            drain(&mut buffer, &mut seen);
        }
        assert_eq!(buffer.capacity(), ROOM_BUSY);
    }

    proptest! {
        /// A1: however the bytes are cut into reads, the lines are the same.
        #[test]
        fn a1_reads_cut_anywhere_give_the_same_lines(
            bytes in prop::collection::vec(prop::sample::select(b"ab[ \r\n\n{".to_vec()), 0..200),
            mut cuts in prop::collection::vec(0usize..200, 0..20),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(read(&bytes, &cuts), read(&bytes, &[]));
        }
    }
}
