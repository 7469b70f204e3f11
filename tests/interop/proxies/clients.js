// Many clients behind a proxy: node clients.js URL COUNT polling|upgrade|websocket
//
// Prints `all connected` whenever that becomes true, and `all had N` once every client has had event N; on SIGTERM, how they
// fared, and goes. A client that gets an event twice, too early or too late ends it with 1.

import { Agent } from "node:http";
import { io } from "socket.io-client";

const [url, count, way] = process.argv.slice(2);
const transports = { polling: ["polling"], upgrade: ["polling", "websocket"], websocket: ["websocket"] }[way];
const settled = transports.at(-1);

const clients = Array.from({ length: Number(count) }, (_, i) => connect(i));
let wereConnected = false;
let announced = 0;

function connect(i) {
  const socket = io(url, {
    transports,
    forceNew: true,
    reconnectionDelay: 100,
    reconnectionDelayMax: 500,
    // Keeps the proxy's cookie, as a browser does.
    withCredentials: true,
    // An address of its own, as clients have out in the world; all of 127/8 is this machine.
    agent: new Agent({ keepAlive: true, localAddress: `127.0.1.${1 + (i % 250)}` }),
  });
  const client = { socket, had: 0, errors: [] };
  const failed = (text, context) => client.errors.push([text, context?.responseText].filter(Boolean).join(": "));
  socket.on("connect", () => {
    socket.io.engine.once("upgrade", look);
    look();
  });
  socket.on("connect_error", (error) => failed(error.message, error.context));
  socket.on("disconnect", (reason, details) => {
    failed(reason, details?.context);
    wereConnected = false;
  });
  socket.on("try", (n) => {
    if (n !== client.had + 1) {
      console.log(`error: client ${i} got event ${n} after event ${client.had}`);
      process.exit(1);
    }
    client.had = n;
    const all = Math.min(...clients.map(({ had }) => had));
    while (announced < all) console.log(`all had ${++announced}`);
  });
  return client;
}

function isConnected({ socket }) {
  return socket.connected && socket.io.engine.transport.name === settled;
}

function look() {
  if (wereConnected || !clients.every(isConnected)) return;
  wereConnected = true;
  console.log("all connected");
}

process.on("SIGTERM", () => {
  const troubled = clients.filter(({ errors }) => errors.length > 0);
  const reasons = new Map();
  for (const error of troubled.flatMap(({ errors }) => errors)) reasons.set(error, (reasons.get(error) ?? 0) + 1);
  console.log(`${clients.filter(isConnected).length} connected, ${troubled.length} with errors`);
  for (const [reason, times] of [...reasons].sort((a, b) => b[1] - a[1])) console.log(`  ${times} x ${reason}`);
  // Once all have said farewell there is nothing left to do.
  for (const { socket } of clients) socket.disconnect();
});
