// The servers of this process. Apart from server.js, so that a process without servers does not load Socket.IO's.

import { Handles } from "./handles.js";

export const servers = new Handles("s");

/** The server's end of a client, whichever server and namespace it is connected to. */
export function socketById(id) {
  for (const server of servers.values()) {
    for (const { nsp } of server.namespaces.values()) {
      const socket = nsp.sockets.get(id);
      if (socket) return socket;
    }
  }
  throw new Error(`socket ${id} is connected to no server of this process`);
}
