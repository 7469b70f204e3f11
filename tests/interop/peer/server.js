// Socket.IO servers, each with an adapter of its own version on a pool of its own.

import { createServer } from "node:http";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { Server as SocketIo } from "socket.io";
import * as msgpack from "socket.io-msgpack-parser";
import { Answers } from "./answers.js";
import { aim } from "./operator.js";
import { NoPool, ObservedPool } from "./pool.js";
import { servers } from "./servers.js";
import { Signal } from "./signal.js";

const VERSIONS = new Set(["0.3", "0.4", "0.5"]);
/** The version of a worker, whose primary has the adapter. */
const WORKER = "worker";
const METHODS = new Set([
  "emit",
  "emitWithAck",
  "socketsJoin",
  "socketsLeave",
  "disconnectSockets",
  "fetchSockets",
  "serverSideEmit",
  "serverSideEmitWithAck",
]);
const INITIAL_HEARTBEAT = 1;

/** A function that makes adapters of that version, given a pool and options. */
async function adapterOf(version) {
  if (version === WORKER) {
    const { createAdapter } = await import("@socket.io/cluster-adapter");
    return (_pool, options) => createAdapter(options);
  }
  if (!VERSIONS.has(version)) throw new Error(`there is no adapter ${version}`);
  return (await import(`adapter-${version}`)).createAdapter;
}

class Server {
  /** Errors that the adapter reported, as text. */
  errors = [];
  namespaces = new Map();

  static async start(options) {
    const createAdapter = await adapterOf(options.version);
    const server = new Server(createAdapter, options);
    if (options.adminUi) {
      const { instrument } = await import("@socket.io/admin-ui");
      instrument(server.io, { auth: false, ...options.adminUi });
    }
    // Without `exclusive` all workers of a cluster would share one port.
    server.http.listen({ port: options.port ?? 0, host: "127.0.0.1", exclusive: true });
    await Promise.all([once(server.http, "listening"), server.listening(10_000)]);
    return server;
  }

  constructor(createAdapter, { version, url, port: _port, poolSize, namespaces, parser, token, adminUi, ...options }) {
    this.channelPrefix = options.channelPrefix ?? "socket.io";
    this.pool = version === WORKER ? new NoPool() : new ObservedPool({ url, poolSize });
    this.http = createServer();
    this.io = new SocketIo(this.http, {
      adapter: createAdapter(this.pool, { ...options, errorHandler: (error) => this.errors.push(error.message) }),
      parser: parser === "msgpack" ? msgpack : undefined,
      // The page of the Admin UI is served elsewhere.
      cors: adminUi && { origin: true, credentials: true },
    });
    for (const name of namespaces) this.namespaces.set(name, new Namespace(this.io.of(name), token));
  }

  get url() {
    return `http://127.0.0.1:${this.http.address().port}`;
  }

  namespace(name) {
    const namespace = this.namespaces.get(name);
    if (!namespace) throw new Error(`the server was started without the namespace ${name}`);
    return namespace;
  }

  channel(name) {
    return `${this.channelPrefix}#${name}`;
  }

  listening(timeout, nth) {
    const channels = [...this.namespaces.keys()].map((name) => this.channel(name));
    return this.pool.listening(channels, timeout, nth);
  }

  async stop() {
    // An adapter that closes may still have a heartbeat under way on another connection of its pool: coming after the
    // farewell, it would take that back.
    for (const name of this.namespaces.keys()) await this.pool.caughtUp(this.channel(name), name, 10_000);
    await this.io.close();
    await this.pool.close();
  }
}

class Namespace {
  /** Events from other servers as they came: {event, args}. */
  received = [];
  answers = new Answers();
  changed = new Signal();

  constructor(nsp, token) {
    this.nsp = nsp;
    // With a token, clients have to show it.
    if (token) nsp.use(({ handshake }, next) => next(handshake.auth.token === token ? undefined : refusal()));
    // Listeners have to name their event; this is what all of them pass through.
    nsp._onServerSideEmit = ([event, ...args]) => {
      this.received.push({ event, args: this.answers.take(event, args) });
      this.changed.notify();
    };
    // What clients emit with a callback comes back to them: the arguments, as one array. "unanswered" is not answered.
    nsp.on("connection", (socket) => {
      socket.onAny((event, ...args) => {
        if (event !== "unanswered" && typeof args.at(-1) === "function") args.pop()(args);
      });
    });
  }
}

const refusal = () => Object.assign(new Error("wrong token"), { data: { code: 7 } });

/** The Socket.IO namespace of a server. */
export function namespaceOf(handle, name) {
  return servers.get(handle).namespace(name).nsp;
}

const describe = ({ id, rooms, data, handshake }) => ({ id, rooms: [...rooms], data, handshake });

export const serverCommands = {
  /** Resolves when the server accepts clients and its adapter listens on the channel of every namespace. */
  "server.start": async (options) => {
    const server = await Server.start(options);
    return { server: servers.add(server), url: server.url };
  },

  /** Waits until the adapter listens on its n-th connection, the first one being that of the start. */
  "server.waitListening": ({ server, nth, timeout }) => servers.get(server).listening(timeout, nth),

  /** Resolves when all that the call made the adapter send is committed. */
  "server.call": async ({ server: handle, nsp: name, method, args, ...target }) => {
    if (!METHODS.has(method)) throw new Error(`a namespace has no ${method}`);
    const server = servers.get(handle);
    const result = await aim(server.namespace(name).nsp, target)[method](...args);
    await server.pool.settled();
    if (method === "fetchSockets") return result.map(describe);
    if (method.endsWith("WithAck")) return result;
  },

  /** Asks the one socket that the target has, wherever it is, through what fetchSockets has of it. */
  "server.askSocket": async ({ server: handle, nsp: name, event, args, timeout, ...target }) => {
    const [socket] = await aim(servers.get(handle).namespace(name).nsp, target).fetchSockets();
    return socket.timeout(timeout).emitWithAck(event, ...args);
  },

  /** Emits `event` with 0, 1, 2, … as the only argument. */
  "server.burst": async ({ server: handle, nsp: name, event, count, ...target }) => {
    const server = servers.get(handle);
    const operator = aim(server.namespace(name).nsp, target);
    for (let i = 0; i < count; i++) operator.emit(event, i);
    await server.pool.settled();
  },

  /** How the server answers a serverSideEmit of another one. */
  "server.answer": ({ server, nsp: name, ...answer }) => servers.get(server).namespace(name).answers.set(answer),

  /** Waits for so many server-side events, counted from the last drain; returns what there is. */
  "server.waitForCount": async ({ server, nsp: name, count, timeout }) => {
    const { received, changed } = servers.get(server).namespace(name);
    const complaint = () => `${count} server-side events did not come: ${JSON.stringify(received).slice(0, 2000)}`;
    await changed.until(() => received.length >= count, timeout, complaint);
    return received;
  },

  "server.received": ({ server, nsp: name, drain = false }) => {
    const { received } = servers.get(server).namespace(name);
    return drain ? received.splice(0) : received;
  },

  /** How many servers there are as far as this one knows, itself included. */
  "server.count": ({ server, nsp: name }) => servers.get(server).namespace(name).nsp.adapter.serverCount(),

  "server.waitForServerCount": async ({ server, nsp: name, count, timeout }) => {
    const { adapter } = servers.get(server).namespace(name).nsp;
    const deadline = Date.now() + timeout;
    let seen;
    while ((seen = await adapter.serverCount()) !== count) {
      if (Date.now() > deadline) throw new Error(`after ${timeout} ms: ${seen} servers instead of ${count}`);
      await delay(10);
    }
  },

  /** Makes every server of the cluster send a heartbeat now: the emitter's uid is answered and never counted. */
  "server.rollCall": async ({ server: handle, nsp }) => {
    const server = servers.get(handle);
    const message = JSON.stringify({ uid: "emitter", nsp, type: INITIAL_HEARTBEAT });
    await server.pool.query("SELECT pg_notify($1, $2)", [server.channel(nsp), message]);
  },

  /** Errors of the adapter and of its connections, as text. */
  "server.errors": ({ server: handle }) => {
    const { errors, pool } = servers.get(handle);
    return [...errors, ...pool.errors];
  },

  /** Closes the server in order: clients are disconnected, the adapter says goodbye. */
  "server.stop": ({ server }) => servers.get(server).stop(),
};
