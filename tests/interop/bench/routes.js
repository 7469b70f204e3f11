// Requests to the whole cluster, which the server makes when it is asked over HTTP. Each answers with a count.

const counts = {
  "/acks": async (io) => (await io.timeout(20_000).emitWithAck("question", 1)).length,
  "/sockets": async (io) => (await io.fetchSockets()).length,
};

export async function answer(io, request, response) {
  try {
    response.end(String(await counts[request.url](io)));
  } catch (error) {
    console.error(error);
    response.writeHead(500).end();
  }
}
