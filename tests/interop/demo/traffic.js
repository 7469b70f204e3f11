// Prints event lines for `pgio emit --from -`: the traffic of a chat, so many lines. Always the same ones.

const count = Number(process.argv[2] ?? 1000);
let seed = 7;
const below = (limit) => {
  seed = (seed * 1103515245 + 12345) % 2 ** 31;
  return Math.floor((seed / 2 ** 31) * limit);
};
const names = ["ada", "grace", "linus", "margaret", "dennis"];
const words = ["hello", "see you at ten", "done", "who has the key?", "thanks!", "the build is green again"];
const kinds = [
  () => ({ event: "chat.message", args: [{ from: names[below(5)], text: words[below(6)] }], rooms: [`room${below(12)}`] }),
  () => ({ event: "presence", args: [{ online: 70 + below(20) }] }),
  () => ({ event: "typing", args: [names[below(5)]], rooms: [`room${below(4)}`] }),
  () => ({ event: "price", args: [{ EUR: 42 + below(100) / 100 }], rooms: ["market"] }),
  () => ({ event: "photo", args: [{ $binary: "x".repeat(24000) }], rooms: [`room${below(12)}`] }),
];
for (let n = 0; n < count; n++) {
  const die = below(100);
  const kind = die < 70 ? 0 : die < 78 ? 1 : die < 90 ? 2 : die < 98 ? 3 : 4;
  console.log(JSON.stringify(kinds[kind]()));
}
