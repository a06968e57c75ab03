// The two searches: dead letters, with replay and purge, and the log of attempts. Both read page after page.

import * as api from "/dashboard/api.js";
import { button, byId, confirm, count, dialog, duration, evidence, facts, instant, make, table } from "/dashboard/show.js";

const PAGE = 50;

/** A list that is searched by a form: its rows so far, and how to go on. */
class Search {
  constructor(form, place, more, read, draw) {
    Object.assign(this, { form, place, more, read, draw, rows: [], next: null, asked: 0 });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    more.addEventListener("click", () => this.page());
  }

  /** What the form says, without what is empty. */
  fields() {
    const given = [...new FormData(this.form)].map(([name, value]) => [name, value.trim()]);
    return Object.fromEntries(given.filter(([, value]) => value !== ""));
  }

  async start() {
    this.rows = [];
    this.next = null;
    await this.page();
  }

  async page() {
    const asked = ++this.asked;
    try {
      const page = await this.read({ ...this.fields(), limit: PAGE, cursor: this.next });
      // An answer to an older question than the latest is not shown.
      if (asked !== this.asked) return;
      this.rows.push(...page.items);
      this.next = page.next ?? null;
      this.place.replaceChildren(this.draw(this.rows));
      this.more.hidden = this.next === null;
    } catch (error) {
      this.place.replaceChildren(make("p", { class: "bad", role: "alert" }, error.message));
      this.more.hidden = true;
    }
  }
}

/** Sets a form's fields; those not named are emptied. */
export function fill(form, fields) {
  form.reset();
  for (const [name, value] of Object.entries(fields)) {
    if (form.elements[name]) form.elements[name].value = value;
  }
}

/** Adds choices to a field of a form. */
function offer(field, names) {
  field.append(...names.map((name) => make("option", {}, name)));
}

/** The dead letters. */
export function deadLetters() {
  const chosen = new Set();
  const note = byId("dead-note");
  const choose = (letter) => {
    const onchange = (event) => (event.target.checked ? chosen.add(letter.id) : chosen.delete(letter.id));
    return make("input", { type: "checkbox", "aria-label": `Select ${letter.id}`, checked: chosen.has(letter.id), onchange });
  };
  const columns = [
    ["Select", choose],
    ["Dead letter", (letter) => button(letter.id, () => show(letter.id), { class: "link" })],
    ["Type", (letter) => letter.event_type],
    ["Event", (letter) => letter.event_id],
    ["Reason", (letter) => letter.reason],
    ["Since", (letter) => instant(letter.since)],
    ["Tries", (letter) => count(letter.tries), "number"],
    ["Last", (letter) => [letter.last?.status ?? "", " ", letter.last?.message ?? ""]],
  ];
  const draw = (letters) => table(columns, letters, "There are none like this.");
  const search = new Search(byId("dead-filter"), byId("dead-table"), byId("dead-more"), api.deadLetters, draw);

  /** Counts first, asks with the number, then does it and says what was done. */
  async function change(verb, act, which) {
    try {
      const plan = await act({ ...which, dry_run: true });
      if (plan.changed === 0) {
        note.textContent = plan.orphaned > 0
          ? `${count(plan.orphaned)} belong to endpoints that are not configured any more: move or purge them.`
          : `Nothing to ${verb}.`;
        return;
      }
      const sentence = verb === "purge"
        ? `${count(plan.changed)} dead letters are removed for good, their events too where nobody else needs them.`
        : `${count(plan.changed)} dead letters are delivered again.`;
      confirm(`${verb === "purge" ? "Purge" : "Replay"}?`, [sentence], `Yes, ${verb} ${count(plan.changed)}`, async () => {
        const done = await act(which);
        chosen.clear();
        note.textContent = `${count(done.changed)} ${verb === "purge" ? "purged" : "replayed"}.`;
        await search.start();
      });
    } catch (error) {
      note.textContent = error.message;
    }
  }

  const some = () => ({ ids: [...chosen] });
  const found = () => {
    const { status, ...rest } = search.fields();
    return { filter: status ? { ...rest, status: Number(status) } : rest };
  };
  const onChosen = (verb, act) => {
    if (chosen.size === 0) note.textContent = "Select dead letters first.";
    else change(verb, act, some());
  };
  byId("replay-chosen").addEventListener("click", () => onChosen("replay", api.replay));
  byId("purge-chosen").addEventListener("click", () => onChosen("purge", api.purge));
  byId("replay-found").addEventListener("click", () => change("replay", api.replay, found()));
  byId("purge-found").addEventListener("click", () => change("purge", api.purge, found()));

  async function show(id) {
    let letter;
    try {
      letter = await api.deadLetter(id);
    } catch (error) {
      note.textContent = error.message;
      return;
    }
    const event = letter.event === undefined ? letter.event_problem : JSON.stringify(letter.event, null, 2);
    const about = facts([
      ["Endpoint", letter.endpoint],
      ["Reason", letter.reason],
      ["Dead since", instant(letter.since)],
      ["Accepted", instant(letter.accepted)],
      ["Event", `${letter.event_type} ${letter.event_id} from ${letter.event_source}`],
      ["Tries", letter.tries],
    ]);
    const body = [about, make("h3", {}, "Last try"), ...evidence(letter.last), make("h3", {}, "Event"), make("pre", { tabindex: "0" }, event ?? "")];
    dialog(letter.id, body, [
      button("Replay", () => change("replay", api.replay, { ids: [id] })),
      button("Purge", () => change("purge", api.purge, { ids: [id] }), { class: "danger" }),
    ]);
  }
  return {
    search: (fields) => {
      if (fields) fill(byId("dead-filter"), fields);
      chosen.clear();
      note.textContent = "";
      return search.start();
    },
    show,
    reasons: (names) => offer(byId("dead-filter").elements.reason, names),
  };
}

/** The log of attempts. */
export function attempts() {
  const look = (attempt) =>
    dialog(`Attempt ${attempt.id}`, [
      facts([
        ["Endpoint", attempt.endpoint],
        ["Event", `${attempt.event_type} ${attempt.event_id} from ${attempt.event_source}`],
        ["Batch", attempt.batch],
      ]),
      ...evidence(attempt),
    ]);
  const kinds = { delivered: "good", rejected: "warn", error: "bad" };
  const columns = [
    ["Began", (attempt) => button(new Date(attempt.started).toLocaleString(), () => look(attempt), { class: "link" })],
    ["Endpoint", (attempt) => attempt.endpoint],
    ["Type", (attempt) => attempt.event_type],
    ["Event", (attempt) => attempt.event_id],
    ["Try", (attempt) => count(attempt.number), "number"],
    ["Outcome", (attempt) => make("span", { class: kinds[attempt.outcome] }, attempt.class ?? attempt.outcome)],
    ["Status", (attempt) => attempt.status ?? "–", "number"],
    ["Took", (attempt) => duration(attempt.duration_ms), "number"],
    ["Message", (attempt) => attempt.message],
  ];
  const draw = (rows) => table(columns, rows, "There are none like this.");
  const search = new Search(byId("attempt-filter"), byId("attempt-table"), byId("attempt-more"), api.attempts, draw);
  return {
    search: (fields) => {
      if (fields) fill(byId("attempt-filter"), fields);
      return search.start();
    },
    classes: (names) => offer(byId("attempt-filter").elements.class, names),
  };
}
