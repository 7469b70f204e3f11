// One process full of Socket.IO servers, clients and emitters, driven by JSON lines.
//
//   stdin:  {"id":1,"do":"server.start","version":"0.5","url":"postgres://…"}
//   stdout: {"id":1,"ok":{"server":"s1",…}}   or   {"id":1,"error":"…"}
//
// Bytes are {"$binary":"<base64>"} at any depth, in both directions; {"$date":"<ISO 8601>"} makes a Date of a request's
// value. Requests run at the same time and are answered as they finish. The process ends when stdin closes.

import { createInterface } from "node:readline";
import { render, revive } from "./peer/values.js";

// Loaded at the first request of a kind: no process needs all of them, and loading takes most of a start's time.
const COMMANDS = {
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

createInterface({ input: process.stdin })
  .on("line", (line) => answer(JSON.parse(line, revive)).then((reply) => process.stdout.write(`${reply}\n`)))
  .on("close", () => process.exit(0));
