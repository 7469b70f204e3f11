// A Socket.IO server on Node, as the documentation of the adapter has it: the peer of `pgio serve`. Prints its address.
// The arguments are further namespaces to serve.

import { createServer } from "node:http";
import { createAdapter } from "adapter-0.5";
import pg from "pg";
import { Server } from "socket.io";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const http = createServer();
const io = new Server(http, { adapter: createAdapter(pool) });
process.argv.slice(2).forEach((namespace) => io.of(namespace));
http.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ address: `127.0.0.1:${http.address().port}` }));
});
