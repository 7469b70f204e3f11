// Until the pool has nothing under way: the emitter gives no promise to wait for.

import { setTimeout as delay } from "node:timers/promises";

export async function settled(pool) {
  do {
    await delay(1);
  } while (pool.waitingCount > 0 || pool.idleCount < pool.totalCount);
}
