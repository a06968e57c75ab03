// Verifies signed requests with the npm package `standardwebhooks`, for tests: `node verify.mjs FOLDER`, where FOLDER
// is what `npm install --prefix` was given. Reads JSON lines {"secret", "headers", "body_base64"} from stdin and prints
// a line for each: `ok`, or `bad` and why.
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(resolve(process.argv[2], "index.js"));
const { Webhook } = require("standardwebhooks");

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body_base64 } = JSON.parse(line);
  try {
    new Webhook(secret).verify(Buffer.from(body_base64, "base64"), headers);
    console.log("ok");
  } catch (error) {
    console.log(`bad ${error.message}`);
  }
}
