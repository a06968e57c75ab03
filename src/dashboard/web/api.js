// The control API as the page uses it: one function for each request, the token, and errors as sentences.
// Knows nothing of what is shown.

const TOKEN = "posthaste-token";

/** What the daemon answered instead of doing it: its status (0: no answer came) and a sentence for people. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Keeps the token for this tab; with "" forgets it. */
export function keepToken(token) {
  if (token) sessionStorage.setItem(TOKEN, token);
  else sessionStorage.removeItem(TOKEN);
}

/** Over the control socket, forwarded by ssh for example, there is no token: the kernel says who asks. */
function credentials() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}` } : {};
}

async function ask(method, path, body) {
  const headers = credentials();
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Refused(0, "the daemon can't be reached; this page tries again by itself");
  }
  const text = await answer.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refused(answer.status, `the answer is not JSON (status ${answer.status})`);
  }
  if (!answer.ok) throw new Refused(answer.status, value?.error?.message ?? `status ${answer.status}`);
  return value;
}

/**
 * Tells `told` the kind of everything that happens, as it happens, until the stream ends; first of all "connected", for
 * what happened before is not told. An EventSource would do the same, but can't show a token other than in the address.
 */
export async function live(told, signal) {
  const answer = await fetch("/v1/live", { headers: credentials(), cache: "no-store", signal });
  if (!answer.ok) throw new Refused(answer.status, `status ${answer.status}`);
  told("connected");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const kind = event.split("\n").find((line) => line.startsWith("event:"));
      if (kind) told(kind.slice("event:".length).trim());
    }
  }
}

/** The fields that are not empty as a query. */
function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return new URLSearchParams(given).toString();
}

const part = encodeURIComponent;

export const status = () => ask("GET", "/v1/status");
export const description = () => ask("GET", "/v1/openapi.json");
export const attempts = (fields) => ask("GET", `/v1/attempts?${query(fields)}`);
export const deadLetters = (fields) => ask("GET", `/v1/dead?${query(fields)}`);
export const deadLetter = (id) => ask("GET", `/v1/dead/${part(id)}`);
export const replay = (change) => ask("POST", "/v1/dead/replay", change);
export const purge = (change) => ask("POST", "/v1/dead/purge", change);
export const pause = (name, reason, pauseFor) =>
  ask("POST", `/v1/endpoints/${part(name)}/pause`, { reason: reason || null, for: pauseFor || null });
export const resume = (name) => ask("POST", `/v1/endpoints/${part(name)}/resume`, {});
export const flush = (name) => ask("POST", `/v1/endpoints/${part(name)}/flush`, {});
