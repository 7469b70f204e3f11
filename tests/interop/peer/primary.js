// The primary of a Node cluster: it connects its workers to Postgres, through `setupPrimary` of adapter 0.5.

import cluster from "node:cluster";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { ObservedPool } from "./pool.js";

// adapter 0.5.0 was compiled without `esModuleInterop`, and looks for this property, which Node's module lacks.
cluster.default ??= cluster;

const workers = [];
let pool;

async function fork() {
  const worker = cluster.fork();
  // A worker answers its requests itself.
  createInterface({ input: worker.process.stdout }).on("line", (line) => process.stdout.write(`${line}\n`));
  worker.process.stderr.pipe(process.stderr);
  await once(worker, "online");
  return worker;
}

/** Passes the line of a request on to the worker that it is for. */
export function pass(number, line) {
  const { worker: _, ...request } = JSON.parse(line);
  workers[number - 1].process.stdin.write(`${JSON.stringify(request)}\n`);
}

export const primaryCommands = {
  "primary.start": async ({ url, count }) => {
    const { setupPrimary } = await import("adapter-0.5");
    pool = new ObservedPool({ url });
    // Bytes would not survive the default serialization, which is JSON.
    cluster.setupPrimary({ exec: process.argv[1], silent: true, serialization: "advanced" });
    setupPrimary(pool, { errorHandler: (error) => pool.errors.push(error.message) });
    workers.push(...(await Promise.all(Array.from({ length: count }, fork))));
  },

  /** Waits until the primary listens on the channels of these namespaces of its workers. */
  "primary.waitListening": ({ namespaces, timeout }) =>
    pool.listening(namespaces.map((name) => `socket.io#${name}`), timeout),

  /** Errors of the adapter and of its connections, as text. */
  "primary.errors": () => pool.errors,
};
