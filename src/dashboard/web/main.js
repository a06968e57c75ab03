// The page: signing in, the three views, and the endpoints with what is stuck and what to do about it.

import * as api from "/dashboard/api.js";
import { attempts, deadLetters } from "/dashboard/lists.js";
import { age, button, byId, confirm, count, dialog, duration, facts, instant, make, rate, spark, table } from "/dashboard/show.js";

const EVERY_MS = 2000;
// After the stream of what happens has ended, before it is asked for again; the page asks for the status meanwhile.
const LISTEN_AGAIN_MS = 5000;
// Points of a chart: two minutes.
const POINTS = 60;
// How old the oldest may be before it is called stuck though the endpoint is ready.
const STALE_MS = 300000;

const VIEWS = ["endpoints", "dead", "attempts"];
const readings = new Map();
const lists = { dead: deadLetters(), attempts: attempts() };
let timer = null;
// Ends the stream of what happens; null: there is none.
let listening = null;

/** What the address says after #: a token, a view with the fields of its search, a dead letter. */
function address() {
  return new URLSearchParams(location.hash.slice(1));
}

function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = text === "";
}

/** Does it, and says what the daemon had against it. */
async function attempt(act) {
  try {
    await act();
    problem("");
  } catch (error) {
    if (error.status === 401) askForToken("");
    else problem(error.message);
  }
}

function askForToken(why) {
  clearTimeout(timer);
  hush();
  api.keepToken("");
  byId("app").hidden = true;
  byId("login").hidden = false;
  byId("login-problem").textContent = why;
  byId("token").focus();
}

/** Shows a view; it is in the address, so that it can be reloaded and sent to a colleague. */
function show(view, fields) {
  for (const name of VIEWS) {
    byId(name).hidden = name !== view;
    const tab = document.querySelector(`[data-view="${name}"]`);
    if (name === view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const parts = new URLSearchParams({ view, ...fields });
  window.history.replaceState(null, "", `#${parts}`);
  if (lists[view]) lists[view].search(fields);
}

/** Remembers a reading of every endpoint for its charts; forgets endpoints that are gone. */
function remember(rows) {
  const names = new Set(rows.map((row) => row.name));
  for (const name of readings.keys()) if (!names.has(name)) readings.delete(name);
  for (const row of rows) {
    const points = readings.get(row.name) ?? [];
    points.push({ rate: row.attempts.rate_per_second, p95: row.attempts.p95_ms });
    readings.set(row.name, points.slice(-POINTS));
  }
}

const look = (label, view, fields) => button(label, () => show(view, fields), { class: "link" });

/** One sentence on what an endpoint needs from a person, with where to click; null: nothing. */
function adviceFor(row, now) {
  const name = row.name;
  const letters = row.dead > 0 ? look(`${count(row.dead)} dead letters`, "dead", { endpoint: name }) : null;
  const tries = look("its attempts", "attempts", { endpoint: name, outcome: "error" });
  const kept = `${count(row.pending)} wait`;
  switch (row.state) {
    case "orphaned":
      return ["bad", `${name} is not configured any more; ${kept}. Move them with "posthaste endpoints move", or define it again. `, letters];
    case "tripped":
    case "probing":
      return ["bad", `${name} keeps failing (${row.attempts.last_error ?? row.why}); ${kept}. Look at `, tries, "; when it is mended, press Flush. ", letters];
    case "paused":
      return ["warn", `${name} is paused${row.why ? `: ${row.why}` : ""}; ${kept}. Press Resume when the reason is gone. `, letters];
    case "disabled":
      return row.pending > 0 ? ["warn", `${name} is disabled; ${kept}. Set enabled = true and reload. `, letters] : letters && ["warn", `${name} has `, letters];
    default:
      break;
  }
  if (letters) return ["warn", `${name} has `, letters, ": look at the evidence, mend the cause, replay them."];
  if (row.held_up > 0) return ["warn", `${name} keeps order, and ${count(row.held_up)} keys wait for a retry of their first. Look at `, tries, "."];
  if (row.deferred > 0) return ["warn", `${name}: ${count(row.deferred)} wait for a retry (${row.attempts.last_error ?? row.why}). Look at `, tries, "."];
  if (row.oldest && Date.parse(now) - Date.parse(row.oldest) > STALE_MS)
    return ["warn", `${name} takes less than it gets: the oldest is ${age(row.oldest, now)} old. Raise concurrency or rate if it can take more.`];
  return null;
}

function advice(status) {
  const items = [];
  if (status.health.state === "failed") items.push(["bad", `The store has failed: ${status.health.why}. Restart the daemon.`]);
  if (status.store.refusing) items.push(["bad", `New events are refused: ${status.store.refusing}. Make room, or purge dead letters.`]);
  if (status.store.quarantined > 0) items.push(["warn", `${count(status.store.quarantined)} damaged records were set aside: see "posthaste store check".`]);
  if (status.ingest.spool_rejected > 0) items.push(["warn", `${count(status.ingest.spool_rejected)} files in the spool hold lines that were refused.`]);
  for (const alert of status.alerts)
    items.push(["warn", `${alert.endpoint} is past ${alert.alert} for ${age(alert.since, status.now)}: ${Number(alert.value.toFixed(2))}, limit ${alert.limit}. Look at `, look("its attempts", "attempts", { endpoint: alert.endpoint }), "."]);
  items.push(...status.endpoints.map((row) => adviceFor(row, status.now)).filter(Boolean));
  if (items.length === 0) items.push(["good", "Nothing is stuck."]);
  byId("advice").replaceChildren(...items.map(([kind, ...parts]) => make("li", { class: kind }, ...parts)));
}

function totals(status) {
  const shown = [
    ["Pending", count(status.totals.pending)],
    ["Wait for a retry", count(status.totals.deferred)],
    ["In flight", count(status.totals.in_flight)],
    ["Dead", count(status.totals.dead)],
    ["Oldest", age(status.totals.oldest, status.now)],
    ["Delivered", rate(status.totals.rate_per_second)],
    ["Accepted", count(status.ingest.accepted)],
  ];
  byId("totals").replaceChildren(...shown.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function askPause(name) {
  const reason = make("input", { id: "pause-reason", autocomplete: "off" });
  const length = make("input", { id: "pause-for", placeholder: "2h", size: 6, autocomplete: "off" });
  const fields = make("div", { class: "filter" }, make("label", {}, "Why ", reason), make("label", {}, "For (empty: until resumed) ", length));
  confirm(`Pause ${name}?`, ["No requests are made to it; events for it are kept.", fields], "Pause", async () => {
    await api.pause(name, reason.value, length.value);
    await refresh();
  });
  reason.focus();
}

function askFlush(row) {
  confirm(`Flush ${row.name}?`, [`${count(row.deferred)} that wait for a later try are due now.`], "Flush", async () => {
    await api.flush(row.name);
    await refresh();
  });
}

function verbs(row) {
  const resume = () => attempt(async () => {
    await api.resume(row.name);
    await refresh();
  });
  const named = (label) => ({ "aria-label": `${label} ${row.name}`, "data-key": `${label} ${row.name}` });
  if (row.state === "orphaned") return [];
  const first = row.state === "paused" ? button("Resume", resume, named("Resume")) : button("Pause", () => askPause(row.name), named("Pause"));
  return [first, button("Flush", () => askFlush(row), { ...named("Flush"), disabled: row.deferred === 0 })];
}

function whole(row, now) {
  const numbers = row.attempts;
  const errors = Object.entries(numbers.errors).map(([kind, number]) => `${kind} ${count(number)}`).join(", ");
  dialog(row.name, [
    facts([
      ["State", row.state],
      ["Since", instant(row.since)],
      ["Until", row.until && instant(row.until)],
      ["Why", row.why],
      ["Pending", `${count(row.pending)}, of these ${count(row.deferred)} wait for a retry`],
      ["In flight", `${count(row.in_flight)} of ${count(row.limit)}`],
      ["Oldest", age(row.oldest, now)],
      ["Next try", row.next_attempt && instant(row.next_attempt)],
      ["Delivered", count(numbers.delivered)],
      ["Rejected", count(numbers.rejected)],
      ["Failed", `${count(numbers.failed)}${errors ? ` (${errors})` : ""}`],
      ["Response time", numbers.p50_ms === null ? "–" : `half ${duration(numbers.p50_ms)}, 95 % ${duration(numbers.p95_ms)}, 99 % ${duration(numbers.p99_ms)}`],
      ["Last status", numbers.last_status],
      ["Last error", numbers.last_error],
    ]),
  ]);
}

const KINDS = { ready: "good", probing: "warn", suspended: "warn", paused: "warn", disabled: "warn", tripped: "bad", orphaned: "bad" };

function endpoints(status) {
  const points = (row, field) => (readings.get(row.name) ?? []).map((point) => point[field]);
  const columns = [
    ["Endpoint", (row) => button(row.name, () => whole(row, status.now), { class: "link", "data-key": `Look ${row.name}` })],
    ["State", (row) => [
      make("span", { class: `state ${KINDS[row.state] ?? ""}` }, row.state),
      row.since && row.state !== "ready" ? ` for ${age(row.since, status.now)}` : "",
      make("div", { class: "why" }, row.why),
    ]],
    ["Pending", (row) => count(row.pending), "number"],
    ["Dead", (row) => (row.dead > 0 ? button(count(row.dead), () => show("dead", { endpoint: row.name }), { class: "link", "data-key": `Dead ${row.name}` }) : "0"), "number"],
    ["Oldest", (row) => age(row.oldest, status.now), "number"],
    ["Rate", (row) => [rate(row.attempts.rate_per_second), spark(points(row, "rate"), `Deliveries per second of ${row.name}, two minutes`)], "number"],
    ["p95", (row) => [duration(row.attempts.p95_ms), spark(points(row, "p95"), `Response time of ${row.name}, two minutes`)], "number"],
    ["Act", (row) => make("div", { class: "actions" }, ...verbs(row))],
  ];
  // The table is made anew; the keyboard stays where it was.
  const focused = document.activeElement?.getAttribute("data-key");
  byId("endpoint-table").replaceChildren(table(columns, status.endpoints, "No endpoints are configured: add [[endpoint]] to config.toml."));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  byId("endpoint-names").replaceChildren(...status.endpoints.map((row) => make("option", { value: row.name })));
}

/** Shows how things are now. */
async function refresh() {
  shown(await api.status());
}

/** The same, as the next point of the charts. */
async function poll() {
  const status = await api.status();
  remember(status.endpoints);
  shown(status);
}

function shown(status) {
  const health = status.health.state === "ok" ? "works" : `${status.health.state} ${status.health.why ?? ""}`;
  byId("health").textContent = `${health}, version ${status.version}, up ${duration(status.uptime_ms)}`;
  totals(status);
  advice(status);
  endpoints(status);
}

/** Listens to what happens, so that it shows at once; where that can't be, the page is as late as its next poll. */
async function listen() {
  hush();
  const mine = new AbortController();
  listening = mine;
  let asked = false;
  let asking = false;
  const told = async (kind) => {
    if (kind === "rates") return;
    asked = true;
    if (asking) return;
    asking = true;
    // However much happens meanwhile, one more look shows all of it.
    while (asked) {
      asked = false;
      await attempt(refresh);
    }
    asking = false;
  };
  try {
    await api.live(told, mine.signal);
  } catch {
    // The poll says what is wrong, if anything is.
  }
  if (listening === mine) setTimeout(() => listening === mine && listen(), LISTEN_AGAIN_MS);
}

/** Listens no more. */
function hush() {
  listening?.abort();
  listening = null;
}

function again() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (!document.hidden) await attempt(poll);
    // Signed out meanwhile: the form is there, and nothing is asked for.
    if (!byId("app").hidden) again();
  }, EVERY_MS);
}

/** Shows the page if the daemon lets us see it. */
async function enter() {
  try {
    await api.status();
  } catch (error) {
    if (error.status === 401) askForToken(sessionStorage.length > 0 ? "This is not the token." : "");
    else {
      byId("app").hidden = false;
      problem(error.message);
      again();
    }
    return;
  }
  byId("login").hidden = true;
  byId("app").hidden = false;
  await attempt(poll);
  again();
  listen();
  const { view, letter, ...fields } = Object.fromEntries(address());
  show(VIEWS.includes(view) ? view : "endpoints", fields);
  if (letter) lists.dead.show(letter);
  const described = await api.description();
  lists.dead.reasons(described.components.schemas.DeadReason.enum);
  lists.attempts.classes(described.components.schemas.ErrorClass.enum);
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.keepToken(byId("token").value.trim());
  byId("token").value = "";
  enter();
});
// Nobody looks at a hidden page, and others may need its place among the listeners.
document.addEventListener("visibilitychange", () => {
  if (byId("app").hidden) return;
  if (document.hidden) hush();
  else listen();
});
byId("sign-out").addEventListener("click", () => askForToken(""));
for (const tab of document.querySelectorAll("[data-view]")) tab.addEventListener("click", () => show(tab.dataset.view, {}));

const given = address();
if (given.has("token")) {
  // The token does not stay in the address, where it would be seen and kept.
  api.keepToken(given.get("token"));
  given.delete("token");
  window.history.replaceState(null, "", given.size > 0 ? `#${given}` : location.pathname);
}
enter();
