// Verifies signed requests with the libraries that receivers use, for tests: `node verify.mjs FOLDER`, where FOLDER is
// what `npm install --prefix` was given. Reads JSON lines {"scheme", "secret", "method", "url", "headers",
// "body_base64"} from stdin and prints a line for each: `ok`, or `bad` and why.
import { createHmac, createPublicKey, timingSafeEqual, verify } from "node:crypto";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(resolve(process.argv[2], "index.js"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const { default: Stripe } = await load("stripe");
const octokit = await import(
  pathToFileURL(resolve(process.argv[2], "node_modules/@octokit/webhooks-methods/dist-node/index.js")).href
);
const discord = await load("discord-interactions");
await load("@shopify/shopify-api/adapters/node");
const { shopifyApi } = await load("@shopify/shopify-api");

// An Ed25519 public key from its 32 bytes: the prefix is the fixed part of its SubjectPublicKeyInfo (RFC 8410).
const publicKey = (raw) =>
  createPublicKey({
    key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]),
    format: "der",
    type: "spki",
  });

// By Node's own hash and the documentation of the receiver, where there is no library.
const hmacIs = (expected, secret, text, encoding, hash = "sha256") => {
  const own = Buffer.from(createHmac(hash, secret).update(text).digest(encoding));
  const theirs = Buffer.from(expected ?? "");
  if (own.length !== theirs.length || !timingSafeEqual(own, theirs)) throw new Error("signatures differ");
};

const verifiers = {
  // v1a of Standard Webhooks, which none of its libraries knows; the secret is whpk_ and the public key.
  "standard-ed25519": ({ secret, headers, body }) => {
    const key = publicKey(Buffer.from(secret.replace("whpk_", ""), "base64"));
    const text = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
    const signatures = headers["webhook-signature"].split(" ").filter((one) => one.startsWith("v1a,"));
    if (!signatures.some((one) => verify(null, text, key, Buffer.from(one.slice(4), "base64"))))
      throw new Error("signatures differ");
  },
  github: async ({ secret, headers, body }) => {
    if (!(await octokit.verify(secret, body.toString(), headers["x-hub-signature-256"])))
      throw new Error("octokit says no");
  },
  stripe: ({ secret, headers, body }) =>
    new Stripe("sk_test_unused").webhooks.constructEvent(body, headers["stripe-signature"], secret),
  shopify: async ({ secret, method, url, headers, body }) => {
    const shopify = shopifyApi({
      apiKey: "unused",
      apiSecretKey: secret,
      apiVersion: headers["x-shopify-api-version"],
      hostName: "localhost",
      isEmbeddedApp: false,
      logger: { log: () => {} },
    });
    const verdict = await shopify.webhooks.validate({
      rawBody: body.toString(),
      rawRequest: { method, url, headers },
      rawResponse: {},
    });
    if (!verdict.valid) throw new Error(`shopify says ${verdict.reason}`);
  },
  discord: async ({ secret, headers, body }) => {
    const valid = await discord.verifyKey(
      body,
      headers["x-signature-ed25519"],
      headers["x-signature-timestamp"],
      secret,
    );
    if (!valid) throw new Error("discord says no");
  },
  timestamped: ({ secret, headers, body }) => {
    if (Math.abs(Date.now() - Number(headers["x-timestamp"])) > 300_000) throw new Error("too old");
    hmacIs(headers["x-signature"], secret, body, "hex");
  },
  canonical: ({ secret, method, url, headers, body }) =>
    hmacIs(headers["x-signature"], secret, method + url.split("?")[0] + headers["x-timestamp"] + body, "hex"),
  webhook: ({ secret, headers, body }) => {
    if (Math.abs(Date.now() - Date.parse(headers["x-webhook-timestamp"])) > 300_000) throw new Error("too old");
    hmacIs(headers["x-webhook-signature"], secret, body, "hex");
  },
  custom: ({ secret, headers, body }) =>
    hmacIs(headers["x-custom"], secret, `${headers["x-custom-time"]}\n${body}`, "base64", "sha512"),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { body_base64, ...request } = JSON.parse(line);
  try {
    await verifiers[request.scheme]({ ...request, body: Buffer.from(body_base64, "base64") });
    console.log("ok");
  } catch (error) {
    console.log(`bad ${error.message.split("\n")[0]}`);
  }
}
