// A pg.Pool that knows what is listened to and what is still under way: the adapters and the emitter tell nobody.

import { randomUUID } from "node:crypto";
import pg from "pg";
import { Signal } from "./signal.js";

const HEARTBEAT = 2;
const MARK = "caughtUp";

const immediate = () => new Promise(setImmediate);

export class ObservedPool extends pg.Pool {
  /** Errors of connections, as text. */
  errors = [];
  #listening = new Set();
  #listeners = 0;
  #pending = new Set();
  #changed = new Signal();
  #heard = new Set();

  constructor({ url, poolSize }) {
    super({ connectionString: url, max: poolSize });
    this.on("error", (error) => this.errors.push(error.message));
  }

  query(...args) {
    const result = super.query(...args);
    const pending = Promise.allSettled([result]).then(() => this.#pending.delete(pending));
    this.#pending.add(pending);
    return result;
  }

  connect(callback) {
    // With a callback it is the pool's own `query` that asks; without, it is an adapter that wants to listen.
    return callback ? super.connect(callback) : super.connect().then((client) => this.#observe(client));
  }

  #observe(client) {
    this.#listeners += 1;
    const query = client.query;
    client.query = (...args) => {
      const result = query.apply(client, args);
      const channel = /^LISTEN "(.*)"$/s.exec(args[0])?.[1];
      if (channel) result.then(() => this.#setListening(channel), () => {});
      return result;
    };
    // 0.5 handles no errors of this connection: a Postgres that goes away would end the whole process.
    client.on("error", (error) => this.errors.push(error.message));
    client.once("end", () => this.#listening.clear());
    client.on("notification", ({ payload }) => this.#hear(payload));
    return client;
  }

  #setListening(channel) {
    this.#listening.add(channel);
    this.#changed.notify();
  }

  #hear(payload) {
    if (!payload.includes(MARK)) return;
    this.#heard.add(payload);
    this.#changed.notify();
  }

  /** Until the adapter has heard all that was sent on the channel before, and has answered it. */
  async caughtUp(channel, nsp, timeout) {
    // From the emitter, which nobody counts, and with a key that nobody knows.
    const mark = JSON.stringify({ uid: "emitter", nsp, type: HEARTBEAT, [MARK]: randomUUID() });
    await this.query("SELECT pg_notify($1, $2)", [channel, mark]);
    await this.#changed.until(() => this.#heard.delete(mark), timeout, () => `${channel} is silent`);
    await this.settled();
  }

  /** Until Postgres has confirmed LISTEN for all of the channels, on the adapter's n-th connection at least. */
  async listening(channels, timeout, nth = 1) {
    const missing = () => channels.filter((channel) => !this.#listening.has(channel));
    const check = () => this.#listeners >= nth && missing().length === 0;
    await this.#changed.until(check, timeout, () => `connection ${this.#listeners} lacks LISTEN on ${missing()}`);
    await immediate(); // 0.3 and 0.4 attach their notification handler just after the last LISTEN
  }

  /** Until Postgres has answered all that was sent, and all that followed from the answers. */
  async settled() {
    await immediate();
    while (this.#pending.size > 0) {
      await Promise.all(this.#pending);
      await immediate();
    }
  }

  async close() {
    await this.settled();
    await this.end();
  }
}

/** What a worker of a cluster has instead: its primary speaks to Postgres, and tells nobody when. */
export class NoPool {
  errors = [];

  async listening() {}
  async caughtUp() {}
  async settled() {}
  async close() {}
}
