// One process full of Socket.IO servers, clients and emitters, driven by JSON lines.
//
//   stdin:  {"id":1,"do":"server.start","version":"0.5","url":"postgres://…"}
//   stdout: {"id":1,"ok":{"server":"s1",…}}   or   {"id":1,"error":"…"}
//
// Bytes are {"$binary":"<base64>"} at any depth, in both directions; {"$date":"<ISO 8601>"} makes a Date of a request's
// value. Requests run at the same time and are answered as they finish. The process ends when stdin closes.
//
// After "primary.start" the process is the primary of a Node cluster. Its workers run this file as well, and a request
// with "worker": n is one for the n-th of them.

import { createInterface } from "node:readline";
import { render, revive } from "./peer/values.js";

// Loaded at the first request of a kind: no process needs all of them, and loading takes most of a start's time.
const COMMANDS = {
  primary: async () => (await import("./peer/primary.js")).primaryCommands,
  server: async () => (await import("./peer/server.js")).serverCommands,
  client: async () => (await import("./peer/client.js")).clientCommands,
  emitter: async () => (await import("./peer/emitter.js")).emitterCommands,
  stream: async () => (await import("./peer/stream.js")).streamCommands,
  crowd: async () => (await import("./peer/crowd.js")).crowdCommands,
};

async function answer({ id, do: name, ...params }) {
  try {
    const commands = await COMMANDS[name.split(".")[0]]?.();
    const command = commands?.[name];
    if (!command) throw new Error(`there is no command ${name}`);
    return JSON.stringify({ id, ok: render(await command(params)) ?? null });
  } catch (error) {
    return JSON.stringify({ id, error: error.message, responses: render(error.responses) });
  }
}

// When Postgres goes away 0.3 leaves rejected promises behind, which would end the process.
process.on("unhandledRejection", (error) => console.error("unhandled rejection:", error));

async function take(line) {
  const request = JSON.parse(line, revive);
  if (request.worker) return (await import("./peer/primary.js")).pass(request.worker, line);
  process.stdout.write(`${await answer(request)}\n`);
}

createInterface({ input: process.stdin })
  .on("line", take)
  .on("close", () => process.exit(0));
