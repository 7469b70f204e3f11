// Clients: of this process's servers or of any other Socket.IO server.

import { io } from "socket.io-client";
import * as msgpack from "socket.io-msgpack-parser";
import { Answers } from "./answers.js";
import { Handles } from "./handles.js";
import { socketById } from "./servers.js";
import { Signal } from "./signal.js";

const clients = new Handles("c");

class Client {
  /** Events as they came: {event, args}. */
  received = [];
  /** What happened to the connection: {event, args}. */
  lifecycle = [];
  answers = new Answers();
  changed = new Signal();
  /** When set: events are counted, a name each, instead of being kept. */
  tallies = null;

  constructor({ url, nsp = "/", parser, ...options }) {
    this.socket = io(url + nsp, {
      transports: ["websocket"],
      reconnection: false,
      ...options,
      forceNew: true,
      parser: parser === "msgpack" ? msgpack : undefined,
    });
    this.socket.onAny((event, ...args) => this.#receive(event, this.answers.take(event, args)));
    this.socket.on("connect", () => this.#live("connect"));
    this.socket.on("disconnect", (reason) => this.#live("disconnect", reason));
    this.socket.on("connect_error", (error) => this.#live("connect_error", error.message));
  }

  #receive(event, args) {
    if (this.tallies) this.#count(event, args[0]);
    else this.received.push({ event, args });
    this.changed.notify();
  }

  /** The first argument is to be a number that grows by one with every event of the same name. */
  #count(event, number) {
    let tally = this.tallies.get(event);
    if (!tally) this.tallies.set(event, (tally = { count: 0, next: number, firstBreak: null }));
    if (number !== tally.next) tally.firstBreak ??= { at: tally.count, expected: tally.next, got: number };
    tally.count += 1;
    tally.next = number + 1;
  }

  #live(event, ...args) {
    this.lifecycle.push({ event, args });
    this.changed.notify();
  }

  /** What is known of an event that may not have come yet. */
  tally(event) {
    return this.tallies?.get(event) ?? { count: 0, next: null, firstBreak: null };
  }

  until(check, timeout, wish) {
    const state = () => JSON.stringify([this.tallies ? [...this.tallies] : this.received, this.lifecycle]);
    return this.changed.until(check, timeout, () => `${wish} did not come: ${state().slice(0, 2000)}`);
  }
}

/** The client that a handle stands for. */
export function clientByHandle(handle) {
  return clients.get(handle);
}

export const clientCommands = {
  /** Resolves when the client is connected; the error is the text of `connect_error`. */
  "client.connect": async (options) => {
    const client = new Client(options);
    const first = await client.until(() => client.lifecycle[0], 10_000, "a connection");
    if (first.event !== "connect") {
      client.socket.close();
      throw new Error(first.args[0]);
    }
    return { client: clients.add(client), socket: client.socket.id };
  },

  "client.received": ({ client: handle, drain = false }) => {
    const client = clients.get(handle);
    return drain ? client.received.splice(0) : client.received;
  },

  /** Waits for so many events, counted from the last drain; returns what there is. */
  "client.waitForCount": async ({ client: handle, count, timeout }) => {
    const client = clients.get(handle);
    await client.until(() => client.received.length >= count, timeout, `${count} events`);
    return client.received;
  },

  /** Waits for an event of that name; returns the first one since the last drain. */
  "client.waitForEvent": ({ client: handle, event, timeout }) => {
    const client = clients.get(handle);
    return client.until(() => client.received.find((one) => one.event === event), timeout, event);
  },

  /** The connection's life so far. */
  "client.lifecycle": ({ client: handle }) => clients.get(handle).lifecycle,

  /** Waits until `connect`, `disconnect` or `connect_error` has happened so many times; returns the last one. */
  "client.waitForLifecycle": ({ client: handle, event, times, timeout }) => {
    const client = clients.get(handle);
    return client.until(() => client.lifecycle.filter((one) => one.event === event)[times - 1], timeout, event);
  },

  /** From now on events are only counted. */
  "client.count": ({ client: handle }) => {
    clients.get(handle).tallies = new Map();
  },

  /** Waits until so many events of that name were counted. */
  "client.waitForTally": async ({ client: handle, event, count, timeout }) => {
    const client = clients.get(handle);
    await client.until(() => client.tally(event).count >= count, timeout, `${count} × ${event}`);
    return client.tally(event);
  },

  "client.answer": ({ client: handle, ...answer }) => clients.get(handle).answers.set(answer),

  "client.emit": ({ client: handle, event, args }) => {
    clients.get(handle).socket.emit(event, ...args);
  },

  /** Resolves with the first argument of the server's acknowledgement. */
  "client.emitWithAck": ({ client: handle, event, args, timeout }) =>
    clients.get(handle).socket.timeout(timeout).emitWithAck(event, ...args),

  "client.disconnect": ({ client: handle }) => {
    clients.get(handle).socket.disconnect();
  },

  /** The three below act on the server's end of the client; the server has to be one of this process. */
  "client.join": ({ client: handle, rooms }) => socketById(clients.get(handle).socket.id).join(rooms),

  "client.leave": ({ client: handle, rooms }) => {
    const socket = socketById(clients.get(handle).socket.id);
    rooms.forEach((room) => socket.leave(room));
  },

  "client.setData": ({ client: handle, data }) => {
    socketById(clients.get(handle).socket.id).data = data;
  },
};
