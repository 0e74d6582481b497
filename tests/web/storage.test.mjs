// What trio-chat.js remembers when its page is gone.

import assert from "node:assert/strict";
import test from "node:test";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { heard, load, messages, entry, settled, world } from "./fakes.mjs";

const { connect } = await load("trio-chat.js");
const { openStorage, uuid } = await load("trio-chat-storage.js");

globalThis.IDBKeyRange = IDBKeyRange;
const fresh = () => (globalThis.indexedDB = new IDBFactory());
const draft = (id, to = "bob") => ({ type: "send", id, to, text: id });

/** The page is gone, without having been asked. */
async function crash(w) {
  w.locks.held.clear();
  await settled();
}

test("a position and an outbox are found again, in order", async (t) => {
  const w = world(t);
  fresh();
  const first = await openStorage("ws://host/ws", "alice", "phone");
  assert.deepEqual([first.device, first.durable, first.position, first.outbox], ["phone", true, { log: null, after: 0 }, []]);
  await first.write({ put: [draft("a"), draft("b")] });
  await first.write({ put: [draft("c")], remove: ["a"], position: { log: "L", after: 7 } });
  await crash(w);
  const second = await openStorage("ws://host/ws", "alice", "phone");
  assert.deepEqual(second.position, { log: "L", after: 7 });
  assert.deepEqual(second.outbox.map(({ id }) => id), ["b", "c"]);
  await second.write({ put: [draft("d")], remove: ["c", "unknown"] });
  await crash(w);
  assert.deepEqual((await openStorage("ws://host/ws", "alice", "phone")).outbox.map(({ id }) => id), ["b", "d"]);
});

test("another user and another server have nothing of it", async (t) => {
  const w = world(t);
  fresh();
  const alice = await openStorage("ws://host/ws", "alice", "phone");
  await alice.write({ put: [draft("a")], position: { log: "L", after: 7 } });
  await crash(w);
  for (const [server, user] of [["ws://host/ws", "alic"], ["ws://host/ws", "alice2"], ["ws://other/ws", "alice"]]) {
    const other = await openStorage(server, user, "phone");
    assert.deepEqual([other.position.after, other.outbox], [0, []]);
  }
});

test("two tabs are two devices; a reload finds its own, and a third tab what a closed one left", async (t) => {
  const w = world(t);
  fresh();
  const one = await openStorage("s", "alice");
  const two = await openStorage("s", "alice");
  assert.notEqual(one.device, two.device);
  assert.match(one.device, /^web-[0-9a-f]{12}$/);
  await two.write({ put: [draft("left")], position: { log: "L", after: 3 } });
  two.close();
  await settled();
  const three = await openStorage("s", "alice");
  assert.equal(three.device, two.device);
  assert.deepEqual([three.position.after, three.outbox.map(({ id }) => id)], [3, ["left"]]);
});

test("the outbox of a tab that nobody opens again is sent by another, once, and that of an open one is left alone", async (t) => {
  const w = world(t);
  fresh();
  const [one, two, three] = [await openStorage("s", "alice"), await openStorage("s", "alice"), await openStorage("s", "alice")];
  await one.write({ put: [draft("a")] });
  await two.write({ put: [draft("b")] });
  await three.write({ put: [draft("c")] });
  two.close();
  three.close();
  await settled();
  const next = await openStorage("s", "alice");
  assert.deepEqual(next.outbox.map(({ id }) => id).sort(), ["b", "c"]);
  const further = await openStorage("s", "alice");
  assert.deepEqual(further.outbox, []);
  await next.write({ remove: ["b", "c"] });
  next.close();
  further.close();
  one.close();
  await settled();
  assert.deepEqual((await openStorage("s", "alice")).outbox.map(({ id }) => id), ["a"]);
});

test("without locks every page is a new device, and one with a name keeps its own", async (t) => {
  world(t);
  fresh();
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  const [one, two] = [await openStorage("s", "alice"), await openStorage("s", "alice")];
  assert.notEqual(one.device, two.device);
  assert.equal((await openStorage("s", "alice", "kiosk")).device, "kiosk");
});

test("without IndexedDB it works, and says that it forgets", async (t) => {
  world(t);
  globalThis.indexedDB = undefined;
  const storage = await openStorage("s", "alice");
  assert.equal(storage.durable, false);
  await storage.write({ put: [draft("a")] });
  storage.close();
});

test("ids are UUIDs where crypto.randomUUID is missing, too", (t) => {
  const { randomUUID } = crypto;
  t.after(() => Object.defineProperty(crypto, "randomUUID", { value: randomUUID, configurable: true }));
  Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
  const ids = new Set(Array.from({ length: 100 }, uuid));
  assert.equal(ids.size, 100);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("a page that dies in mid-send loses nothing and doubles nothing", async (t) => {
  const w = world(t);
  fresh();
  const page = async () => {
    const chat = await connect({ url: "ws://host/ws", user: "alice" });
    await settled();
    return chat;
  };
  const first = await page();
  await w.socket.welcome();
  const id = first.send("bob", "hi"); // and dies before anything was sent
  const device = first.device;
  await settled();
  await w.socket.says(messages(entry(1), entry(2)));
  await crash(w);

  const second = await page();
  const events = heard(second, "stored", "message");
  assert.equal(second.device, device);
  assert.deepEqual(second.outbox.map((waiting) => waiting.id), [id]);
  assert.equal(w.socket.url.search, `?device=${device}&log=L-0&after=2`);
  await w.socket.welcome({ cursor: 2, head: 3 });
  assert.deepEqual(w.socket.of("send").map((sent) => sent.id), [id]);
  await w.socket.says({ type: "stored", messages: [{ id, seq: 3, sent_at: 9 }] });
  await w.socket.says(messages(entry(3, { id, from: "alice", to: "bob" }))); // it was stored by the first page's attempt [C5]
  assert.deepEqual(events.map(([type, event]) => [type, event.seq]), [["stored", 3]]);
  await crash(w);

  const third = await page();
  assert.deepEqual(third.outbox, []);
  assert.equal(w.socket.url.searchParams.get("after"), "3");
});
