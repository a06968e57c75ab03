// Sends events with the official CloudEvents library over the control socket, in each of its modes, and writes each
// answer as a JSON line. Arguments: the folder that holds the library, the socket.
import { createRequire } from "node:module";
import { request } from "node:http";
import { join } from "node:path";

const [folder, socketPath] = process.argv.slice(2);
const { CloudEvent, HTTP } = createRequire(join(folder, "index.js"))("cloudevents");

function send(mode, { headers, body }) {
  return new Promise((resolve, reject) => {
    const exchange = request({ socketPath, path: "/v1/events", method: "POST", headers }, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("end", () => resolve({ mode, status: answer.statusCode, answer: JSON.parse(text) }));
    });
    exchange.on("error", reject);
    exchange.end(body);
  });
}

const event = (id, more) =>
  new CloudEvent({ type: "contact.created", source: "/npm", id, subject: "Zoë & \"co\" 100%", ext: "a b", ...more });
const said = [
  await send("binary", HTTP.binary(event("binary", { data: { n: 1 } }))),
  await send("binary again", HTTP.binary(event("binary", { data: { n: 1 } }))),
  await send("text", HTTP.binary(event("text", { datacontenttype: "text/plain", data: "plain words" }))),
  await send("structured", HTTP.structured(event("structured", { data: { n: 2 } }))),
  await send("batched", {
    headers: { "content-type": "application/cloudevents-batch+json" },
    body: JSON.stringify(["b1", "b2"].map((id) => event(id, { data: { id } }))),
  }),
];
said.forEach((line) => console.log(JSON.stringify(line)));
