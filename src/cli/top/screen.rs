//! What is on the screen of `top`, and what a key does to it. Pure: readings and keys come in, cells and wishes go out;
//! knows no terminal and no daemon.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use crate::cli::failure::Failure;
use crate::cli::print::{age, age_or_dash, or_dash, printable};
use crate::control::types::{EndpointRow, EndpointState, Health, Status};
use crate::control::units::duration_text;

/// What the person wants of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// No more of this.
    Leave,
    /// Pause this endpoint.
    Pause(String),
    /// Resume this endpoint.
    Resume(String),
    /// Everything that waits at this endpoint is due now.
    Flush(String),
}

/// The screen.
#[derive(Debug, Default)]
pub struct Screen {
    status: Option<Status>,
    /// Why the latest reading failed.
    problem: Option<String>,
    /// What came of the latest wish.
    told: String,
    /// The name of the chosen endpoint: it keeps being chosen when the order changes.
    chosen: Option<String>,
    /// What waits for a yes.
    asking: Option<Wish>,
}

const KEYS: &str = "up/down choose · p pause · r resume · f flush · q leave";

impl Screen {
    /// Takes a reading. After a failed one the last good one stays, and why it is old is said.
    pub fn read(&mut self, reading: Result<Status, Failure>) {
        match reading {
            Ok(mut status) => {
                status
                    .endpoints
                    .sort_by_cached_key(|row| (trouble(row), row.name.clone()));
                self.problem = None;
                self.status = Some(status);
            }
            Err(failure) => self.problem = Some(failure.to_string()),
        }
    }

    /// What came of a wish.
    pub fn tell(&mut self, told: Result<String, Failure>) {
        self.told = told.unwrap_or_else(|failure| failure.to_string());
    }

    /// A key was pressed.
    pub fn press(&mut self, key: KeyCode, modifiers: KeyModifiers) -> Option<Wish> {
        if key == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Wish::Leave);
        }
        if let Some(asked) = self.asking.take() {
            return (key == KeyCode::Char('y')).then_some(asked);
        }
        self.told.clear();
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Leave),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            // To resume is harmless; the others stop deliveries, or send many at once.
            KeyCode::Char('r') => return self.chosen_name().map(Wish::Resume),
            KeyCode::Char('p') => self.asking = self.chosen_name().map(Wish::Pause),
            KeyCode::Char('f') => self.asking = self.chosen_name().map(Wish::Flush),
            _ => {}
        }
        None
    }

    fn rows(&self) -> &[EndpointRow] {
        self.status.as_ref().map_or(&[], |status| &status.endpoints)
    }

    fn chosen_at(&self) -> usize {
        let is_chosen = |row: &EndpointRow| Some(&row.name) == self.chosen.as_ref();
        self.rows().iter().position(is_chosen).unwrap_or(0)
    }

    fn chosen_name(&self) -> Option<String> {
        self.rows().get(self.chosen_at()).map(|row| row.name.clone())
    }

    fn choose(&mut self, by: isize) {
        let last = self.rows().len().saturating_sub(1);
        let at = self.chosen_at().saturating_add_signed(by).min(last);
        self.chosen = self.rows().get(at).map(|row| row.name.clone());
    }

    /// Draws it all.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let parts = Layout::vertical([
            Constraint::Length(2),
            Constraint::Min(3),
            Constraint::Length(2),
            Constraint::Length(1),
        ]);
        let [head, table, detail, foot] = parts.areas(frame.area());
        if let Some(status) = &self.status {
            frame.render_widget(Paragraph::new(heading(status)), head);
            let mut chosen = TableState::default();
            if !status.endpoints.is_empty() {
                chosen.select(Some(self.chosen_at()));
            }
            frame.render_stateful_widget(endpoints(status), table, &mut chosen);
        }
        frame.render_widget(Paragraph::new(self.detail()), detail);
        frame.render_widget(Paragraph::new(self.foot()), foot);
    }

    /// Why the chosen endpoint is as it is.
    fn detail(&self) -> Vec<Line<'static>> {
        let Some((status, row)) = self.status.as_ref().zip(self.rows().get(self.chosen_at())) else {
            return vec![Line::raw("no endpoints are configured")];
        };
        let since = row.since.filter(|_| row.state != EndpointState::Ready);
        let since = since.map_or(String::new(), |since| format!(" for {}", age(status.now, since)));
        let why = match (&*row.why, &row.attempts.last_error) {
            ("", Some(error)) => error,
            (why, _) => why,
        };
        vec![
            Line::raw(printable(&format!("{} is {}{since}", row.name, row.state.name()))),
            Line::raw(printable(why)),
        ]
    }

    fn foot(&self) -> Line<'static> {
        let warning = Style::new().fg(Color::Red);
        match (&self.asking, &self.problem) {
            (Some(Wish::Pause(name)), _) => Line::styled(format!("pause {name}? y: yes, else: no"), warning),
            (Some(Wish::Flush(name)), _) => Line::styled(
                format!("flush {name}: all that waits is due now? y: yes, else: no"),
                warning,
            ),
            (_, Some(problem)) => Line::styled(printable(problem), warning),
            _ if !self.told.is_empty() => Line::raw(printable(&self.told)),
            _ => Line::raw(KEYS),
        }
    }
}

/// Less is more trouble: first what a person has to mend, then what mends itself, then what is only behind.
fn trouble(row: &EndpointRow) -> (u8, u64, u64) {
    let rank = match row.state {
        EndpointState::Tripped => 0,
        EndpointState::Probing => 1,
        EndpointState::Orphaned => 2,
        EndpointState::Suspended => 3,
        EndpointState::Paused => 4,
        EndpointState::Ready if row.dead > 0 => 5,
        EndpointState::Disabled if row.pending > 0 => 5,
        EndpointState::Ready | EndpointState::Disabled => 6,
    };
    (rank, u64::MAX - row.dead, u64::MAX - row.pending)
}

fn heading(status: &Status) -> Vec<Line<'static>> {
    let (health, color) = match &status.health {
        Health::Ok => ("ok".to_owned(), Color::Green),
        Health::Draining => ("stopping".to_owned(), Color::Yellow),
        Health::Failed(why) => (format!("failed: {}", printable(why)), Color::Red),
    };
    let totals = &status.totals;
    let refusing = status.store.refusing.as_ref();
    let refusing = refusing.map_or(String::new(), |why| format!(" · new events are refused: {why}"));
    vec![
        Line::styled(
            format!(
                "posthaste {} · {health} · up {}{refusing}",
                status.version,
                duration_text(std::time::Duration::from_secs(status.uptime_ms / 1000))
            ),
            Style::new().fg(color),
        ),
        Line::raw(format!(
            "{} pending · {} wait for a retry · {} in flight · {} dead · oldest {} · {:.1}/s",
            totals.pending,
            totals.deferred,
            totals.in_flight,
            totals.dead,
            age_or_dash(status.now, totals.oldest),
            totals.rate_per_second
        )),
    ]
}

fn endpoints(status: &Status) -> Table<'static> {
    let head = [
        "ENDPOINT", "STATE", "PENDING", "RETRY", "FLIGHT", "DEAD", "OLDEST", "LAST", "RATE/S", "P50", "P95",
    ];
    let widths = [
        Constraint::Min(12),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(4),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    let rows = status.endpoints.iter().map(|row| cells(row, status));
    Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

fn cells(row: &EndpointRow, status: &Status) -> Row<'static> {
    let color = match row.state {
        EndpointState::Ready => Color::Green,
        EndpointState::Tripped | EndpointState::Orphaned => Color::Red,
        _ => Color::Yellow,
    };
    let ms = |value: Option<u64>| value.map_or("-".to_owned(), |ms| format!("{ms}ms"));
    let attempts = &row.attempts;
    Row::new([
        Cell::new(printable(&row.name)),
        Cell::new(row.state.name()).style(Style::new().fg(color)),
        Cell::new(row.pending.to_string()),
        Cell::new(row.deferred.to_string()),
        Cell::new(format!("{}/{}", row.in_flight, row.limit)),
        Cell::new(row.dead.to_string()),
        Cell::new(age_or_dash(status.now, row.oldest)),
        Cell::new(or_dash(attempts.last_status)),
        Cell::new(format!("{:.1}", attempts.rate_per_second)),
        Cell::new(ms(attempts.p50_ms)),
        Cell::new(ms(attempts.p95_ms)),
    ])
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::control::types::{IngestNumbers, LaneNumbers, StoreNumbers, Totals};
    use crate::domain::age::Ages;
    use crate::domain::time::Timestamp;

    fn row(name: &str, state: EndpointState, dead: u64) -> EndpointRow {
        EndpointRow {
            name: name.to_owned(),
            state,
            since: Some(Timestamp(0)),
            until: None,
            why: if state == EndpointState::Tripped {
                "5 failures in a row; status 500\x1b[2J".to_owned()
            } else {
                String::new()
            },
            pending: 7,
            deferred: 2,
            dead,
            in_flight: 1,
            limit: 32,
            oldest: None,
            ages: Ages::default(),
            next_attempt: None,
            batch_until: None,
            held_up: 0,
            attempts: LaneNumbers::default(),
        }
    }

    fn status(endpoints: Vec<EndpointRow>) -> Status {
        Status {
            version: "1.2.3".to_owned(),
            config_hash: "c0ffee".to_owned(),
            now: Timestamp(60_000),
            uptime_ms: 60_000,
            health: Health::Ok,
            totals: Totals {
                pending: 21,
                dead: 3,
                ..Totals::default()
            },
            store: StoreNumbers::default(),
            ingest: IngestNumbers::default(),
            traces: None,
            alerts: Vec::new(),
            endpoints,
        }
    }

    fn screen() -> Screen {
        let mut screen = Screen::default();
        screen.read(Ok(status(vec![
            row("calm", EndpointState::Ready, 0),
            row("mourning", EndpointState::Ready, 3),
            row("down", EndpointState::Tripped, 0),
        ])));
        screen
    }

    /// The lines on a terminal of this size.
    fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
                .trim_end()
                .to_owned()
        };
        (0..height).map(line).collect()
    }

    fn press(screen: &mut Screen, key: char) -> Option<Wish> {
        screen.press(KeyCode::Char(key), KeyModifiers::NONE)
    }

    /// H8: totals, then the endpoints, the one in most trouble first; why the chosen one is as it is; the keys.
    #[test]
    fn h8_trouble_comes_first() {
        let lines = drawn(&screen(), 110, 12);
        assert!(lines[0].starts_with("posthaste 1.2.3 · ok · up"), "{}", lines[0]);
        assert!(lines[1].starts_with("21 pending"), "{}", lines[1]);
        let names: Vec<&str> = lines[3..6]
            .iter()
            .map(|line| line.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(names, ["down", "mourning", "calm"]);
        assert_eq!(lines[9], "down is tripped for 1m");
        assert!(
            lines[10].starts_with("5 failures in a row; status 500") && !lines[10].contains('\x1b'),
            "{:?}",
            lines[10]
        );
        assert_eq!(lines[11], KEYS);
        // A small terminal shows less and breaks nothing.
        drawn(&screen(), 20, 4);
        drawn(&Screen::default(), 0, 0);
    }

    /// H8: what stops deliveries or sends many at once is asked first; the chosen one stays chosen.
    #[test]
    fn h8_keys_pause_resume_and_flush() {
        let mut screen = screen();
        assert_eq!(press(&mut screen, 'p'), None);
        assert!(
            drawn(&screen, 100, 12)[11].starts_with("pause down?"),
            "it is asked"
        );
        assert_eq!(press(&mut screen, 'n'), None);
        assert_eq!(press(&mut screen, 'y'), None, "nothing waits any more");
        press(&mut screen, 'p');
        assert_eq!(press(&mut screen, 'y'), Some(Wish::Pause("down".to_owned())));
        press(&mut screen, 'j');
        press(&mut screen, 'f');
        assert_eq!(press(&mut screen, 'y'), Some(Wish::Flush("mourning".to_owned())));
        // Another order: the chosen one is still meant.
        screen.read(Ok(status(vec![
            row("calm", EndpointState::Tripped, 0),
            row("mourning", EndpointState::Ready, 0),
        ])));
        assert_eq!(press(&mut screen, 'r'), Some(Wish::Resume("mourning".to_owned())));
        assert_eq!(press(&mut screen, 'q'), Some(Wish::Leave));
        screen.read(Err(Failure::Unreachable("nobody is there".to_owned())));
        assert_eq!(drawn(&screen, 100, 12)[11], "nobody is there");
    }
}
