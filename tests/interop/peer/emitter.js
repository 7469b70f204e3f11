// The official emitter.

import { Emitter } from "@socket.io/postgres-emitter";
import { Handles } from "./handles.js";
import { aim } from "./operator.js";
import { ObservedPool } from "./pool.js";

const METHODS = new Set(["emit", "socketsJoin", "socketsLeave", "disconnectSockets", "serverSideEmit"]);

const emitters = new Handles("e");

export const emitterCommands = {
  "emitter.start": (options) => {
    const pool = new ObservedPool(options);
    return { emitter: emitters.add({ pool, options }) };
  },

  /** Resolves when Postgres has committed the message. */
  "emitter.call": async ({ emitter: handle, nsp, method, args, ...target }) => {
    if (!METHODS.has(method)) throw new Error(`the emitter has no ${method}`);
    const { pool, options } = emitters.get(handle);
    // Not `emitter.of(nsp)`: that forgets the options.
    aim(new Emitter(pool, nsp, options), target)[method](...args);
    await pool.settled();
  },

  "emitter.stop": ({ emitter: handle }) => emitters.get(handle).pool.close(),
};
