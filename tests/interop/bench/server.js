// A Socket.IO server on Node, as the documentation of the adapter has it: the peer of `pgio serve`. Prints its address.
// The arguments are further namespaces to serve. Clients may join rooms. Over
// HTTP it asks the cluster: see routes.js.

import { createServer } from "node:http";
import { createAdapter } from "adapter-0.5";
import pg from "pg";
import { Server } from "socket.io";
import { answer } from "./routes.js";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const http = createServer((request, response) => answer(io, request, response));
const io = new Server(http, { adapter: createAdapter(pool) });
for (const namespace of new Set(["/", ...process.argv.slice(2)])) {
  io.of(namespace).on("connection", (socket) => {
    socket.on("join", async (room, done) => {
      await socket.join(room);
      done();
    });
  });
}
http.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ address: `127.0.0.1:${http.address().port}` }));
});
