// A client that joins a room and prints what it receives: node client.js URL ROOM

import { io } from "socket.io-client";

const [url, room] = process.argv.slice(2);
const user = process.env.USER_OF_CLIENT;
const socket = io(url, { transports: ["websocket"], auth: user ? { user } : {} });
socket.on("connect_error", (error) => console.error(`cannot connect: ${error.message}`));
socket.on("connect", () => {
  socket.emit("join", room, () => console.log(`connected to ${url}, in room ${room}`));
});
socket.onAny((event, ...args) => {
  if (typeof args.at(-1) === "function") args.pop()("here"); // the sender wants an acknowledgement
  console.log(event, ...args.map((arg) => JSON.stringify(arg)));
});
