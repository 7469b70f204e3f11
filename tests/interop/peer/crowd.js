// Many clients at once, of which nothing is kept but that they are connected.

import { io } from "socket.io-client";
import { socketById } from "./servers.js";

/** So many handshakes are under way at any time. */
const AT_ONCE = 100;

function connect(url, nsp) {
  const socket = io(url + nsp, { transports: ["websocket"], reconnection: false, forceNew: true });
  return new Promise((resolve, reject) => {
    socket.on("connect", () => resolve(socket.id));
    socket.on("connect_error", reject);
  });
}

export const crowdCommands = {
  /** Connects `count` clients; resolves with their ids. */
  "crowd.connect": async ({ url, nsp = "/", count }) => {
    const ids = [];
    let left = count;
    const connectSome = async () => {
      while (left-- > 0) ids.push(await connect(url, nsp));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, connectSome));
    return ids;
  },

  /** Makes the i-th of these sockets join the i-th room; the server has to be one of this process. */
  "crowd.join": ({ ids, rooms }) => ids.forEach((id, i) => socketById(id).join(rooms[i])),
};
