// Numbered streams: senders that emit at a steady pace, and ledgers that record what a client received and when.
//
// Every event of a stream carries the stream's name as its event name, and 1, 2, 3, … as its first argument. Times are
// milliseconds since 1970, so that they compare with those of other processes on the machine.

import { clientByHandle } from "./client.js";
import { namespaceOf } from "./server.js";

const streams = new Map();
const ledgers = new Map();

/** The second argument of events that are to go through the attachment table. */
const BINARY = Buffer.alloc(32, 7);

class Stream {
  /** [number, time] of each event since the last drain. */
  sent = [];
  /** [number, time, 1 or 0] of each acknowledgement since the last drain; 0 is a refusal. */
  settled = [];

  constructor({ rate, first, binary }, emit) {
    let number = first;
    this.timer = setInterval(() => {
      const args = binary ? [number, BINARY] : [number];
      if (!emit(args, this.#settle(number))) return;
      this.sent.push([number, Date.now()]);
      number += 1;
    }, 1000 / rate);
  }

  #settle(number) {
    return (answer) => this.settled.push([number, Date.now(), answer?.error === undefined ? 1 : 0]);
  }

  stop() {
    clearInterval(this.timer);
  }
}

function start(options, emit) {
  streams.get(options.name)?.stop();
  streams.set(options.name, new Stream(options, emit));
}

const take = (array) => array.splice(0);

export const streamCommands = {
  /** The client emits to its server, which is to acknowledge. A client that is not connected emits nothing. */
  "stream.client": ({ client: handle, ...options }) => {
    const { socket } = clientByHandle(handle);
    start(options, (args, settle) => socket.connected && socket.emit(options.name, ...args, settle));
  },

  /** The server broadcasts. */
  "stream.server": ({ server, nsp, ...options }) => {
    const namespace = namespaceOf(server, nsp);
    start(options, (args) => namespace.emit(options.name, ...args));
  },

  /** Records what the client receives from now on. Several clients may share the name of a ledger. */
  "stream.ledger": ({ client: handle, name }) => {
    if (!ledgers.has(name)) ledgers.set(name, []);
    const ledger = ledgers.get(name);
    clientByHandle(handle).socket.onAny((event, number) => ledger.push([event, number, Date.now()]));
  },

  /** What all streams and ledgers of this process have recorded since the last drain. */
  "stream.drain": () => ({
    sent: Object.fromEntries([...streams].map(([name, stream]) => [name, take(stream.sent)])),
    settled: Object.fromEntries([...streams].map(([name, stream]) => [name, take(stream.settled)])),
    received: Object.fromEntries([...ledgers].map(([name, ledger]) => [name, take(ledger)])),
  }),
};
