// Values as the lines carry them: JSON, with bytes as {"$binary":"<base64>"}.

/** A reviver for JSON.parse. */
export function revive(_key, value) {
  if (typeof value?.$binary === "string") return Buffer.from(value.$binary, "base64");
  if (typeof value?.$date === "string") return new Date(value.$date);
  return value;
}

/** Makes a value ready for JSON.stringify, which would spell out a Buffer byte by byte. */
export function render(value) {
  if (value instanceof ArrayBuffer) return { $binary: Buffer.from(value).toString("base64") };
  if (ArrayBuffer.isView(value)) {
    return { $binary: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
  }
  if (Array.isArray(value)) return value.map(render);
  if (value === null || typeof value !== "object" || typeof value.toJSON === "function") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, render(inner)]));
}
