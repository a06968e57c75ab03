// How things are shown: elements, ages, tables, charts, dialogs. Whatever comes from the daemon becomes text through
// textContent or an attribute, never markup: an event may hold anything.

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings and numbers become text, functions `on…` listeners. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** A button that is off while what it does is under way. */
export function button(label, act, attributes = {}) {
  const onclick = async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      await act();
    } finally {
      pressed.disabled = false;
    }
  };
  return make("button", { type: "button", onclick, ...attributes }, label);
}

/** Milliseconds in words, two units at most. */
export function duration(ms) {
  if (ms === null || Number.isNaN(ms)) return "–";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = Math.floor(ms / 1000);
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [unit, size] = units[first];
  const rest = units[first + 1] && Math.floor((seconds % size) / units[first + 1][1]);
  return `${Math.floor(seconds / size)}${unit}${rest ? ` ${rest}${units[first + 1][0]}` : ""}`;
}

/** Microseconds of one part of a request. */
const part = (us) => (us < 10000 ? `${(us / 1000).toFixed(2)} ms` : duration(us / 1000));

/** How long before `now` an instant was; "–" without one. */
export const age = (instant, now) => (instant ? duration(Date.parse(now) - Date.parse(instant)) : "–");

/** An instant as people here write it; the exact one on hovering. */
export function instant(text) {
  if (!text) return "–";
  return make("time", { datetime: text, title: text }, new Date(text).toLocaleString());
}

/** A whole number with separators. */
export const count = (number) => Number(number).toLocaleString("en");

/** A rate. */
export const rate = (number) => `${number < 10 ? number.toFixed(1) : count(Math.round(number))}/s`;

/** A line through the numbers, oldest first; gaps (null) are left out. `what` is read out instead. */
export function spark(numbers, what) {
  const space = "http://www.w3.org/2000/svg";
  const [width, height] = [120, 24];
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", what);
  const top = Math.max(1e-9, ...numbers.filter((number) => number !== null));
  const step = width / Math.max(1, numbers.length - 1);
  const points = numbers
    .map((number, index) => (number === null ? null : `${(index * step).toFixed(1)},${(height - 1 - (number / top) * (height - 2)).toFixed(1)}`))
    .filter((point) => point !== null);
  const line = document.createElementNS(space, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}

/** A table; a column is its heading, how a row's cell is made, and the cell's class. `empty` is said without rows. */
export function table(columns, rows, empty) {
  if (rows.length === 0) return make("p", { class: "note" }, empty);
  const head = make("tr", {}, ...columns.map(([heading]) => make("th", { scope: "col" }, heading)));
  const body = rows.map((row) =>
    make("tr", {}, ...columns.map(([heading, cell, kind]) => make("td", { "data-label": heading, class: kind }, make("div", {}, ...[cell(row)].flat())))),
  );
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

/** Pairs of a name and a value. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { class: "facts" }, ...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

/** Opens the dialog; `actions` are its buttons. Escape closes it, as the browser has it. */
export function dialog(title, body, actions = []) {
  const box = byId("dialog");
  byId("dialog-title").textContent = title;
  byId("dialog-body").replaceChildren(...body);
  byId("dialog-actions").replaceChildren(...actions, button("Close", () => box.close()));
  if (!box.open) box.showModal();
}

/** Asks; `act` is done when the answer is yes. The button to press first is the harmless one. */
export function confirm(title, sentences, label, act) {
  const yes = button(label, async () => {
    try {
      await act();
      byId("dialog").close();
    } catch (error) {
      byId("dialog-body").append(make("p", { class: "bad", role: "alert" }, error.message));
    }
  }, { class: "danger" });
  dialog(title, sentences.map((sentence) => (sentence instanceof Node ? sentence : make("p", {}, sentence))), [yes]);
  byId("dialog-actions").lastElementChild.focus();
}

/** What one request took, part by part; a part that did not happen is left out. */
function phases(exchange) {
  if (!exchange) return [];
  const took = (us) => (us === null || us === undefined ? null : part(us));
  return [
    make("h3", {}, "Time by part"),
    facts([
      ["Looking up", took(exchange.dns_us)],
      ["Connecting", took(exchange.connect_us)],
      ["TLS handshake", took(exchange.tls_us)],
      ["Connection", exchange.reused ? "was open already" : "new"],
      ["First byte", took(exchange.first_byte_us)],
      ["Rest of the answer", took(exchange.body_us)],
      ["All", took(exchange.total_us)],
      ["Sent", `${count(exchange.sent_bytes)} bytes`],
      ["Received", `${count(exchange.received_bytes)} bytes`],
    ]),
  ];
}

/** One try, whole: what was sent, what came back, what took how long. */
export function evidence(attempt) {
  if (!attempt) return [make("p", { class: "note" }, "It was never tried.")];
  const headers = (pairs) => pairs.map(([name, value]) => `${name}: ${value}`).join("\n");
  const block = (title, text) => (text ? [make("h3", {}, title), make("pre", { tabindex: "0" }, text)] : []);
  return [
    facts([
      ["Try", attempt.number],
      ["Began", instant(attempt.started)],
      ["Took", duration(attempt.duration_ms)],
      ["Outcome", attempt.class ? `${attempt.outcome} (${attempt.class})` : attempt.outcome],
      ["Status", attempt.status],
      ["Message", attempt.message],
      ["Look at", attempt.hint],
    ]),
    ...phases(attempt.exchange),
    ...block("Request", [attempt.request_line, headers(attempt.request_headers)].filter(Boolean).join("\n")),
    ...block("Answer's headers", headers(attempt.response_headers)),
    ...block("Beginning of the answer's body", attempt.response_excerpt),
  ];
}
